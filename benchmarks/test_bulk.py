"""How much time do reading, checking and writing Parquet files add to encoding their texts?"""

import pytest

from embedopt.inference.backends import DEFAULT_TO_STORE
from embedopt.inference.encoder import Encoder
from embedopt.measure.bulk import measure_bulk
from embedopt.measure.findings import Findings
from embedopt.measure.session import Session

# All-MiniLM-L6-v2 and its runtime take about 250 MB.
_MOST_MEMORY_BYTES = 600e6
# Reading, checking and writing may cost 5 % of the time.
_LEAST_SHARE = 0.95


@pytest.mark.needs("bulk")
@pytest.mark.only_for(DEFAULT_TO_STORE)
def test_bulk(encoder: Encoder, session: Session, findings: Findings) -> None:
    """Encode the rows of ``--bulk-texts`` to a folder, then run the job again with nothing left to do."""
    options = session.options
    bulk = measure_bulk(encoder.name, session.corpus.mixed_texts, options)
    findings.add(encoder.name, bulk)
    assert bulk.bulk_share is not None
    assert bulk.bulk_share > _LEAST_SHARE
    if options.model is None:
        assert bulk.bulk_peak_bytes is not None
        assert bulk.bulk_peak_bytes < _MOST_MEMORY_BYTES
