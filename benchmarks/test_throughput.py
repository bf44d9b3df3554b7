"""How many texts per second, sustained, and where does the speed come from?"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from embedopt.inference.encoder import Encoder
from embedopt.measure.findings import Findings
from embedopt.measure.latency import rounds_for
from embedopt.measure.session import Session
from embedopt.measure.throughput import in_order, planned
from embedopt.measure.turns import Case, measure_turns

# Number of texts whose time predicts the time of all texts.
_SAMPLE = 64


def test_throughput(
    benchmark: BenchmarkFixture, encoder: Encoder, session: Session, findings: Findings
) -> None:
    """One call with all texts plans its batches; then each call forces one batch of texts as they come."""
    profile = session.profile
    texts = session.corpus.mixed_texts[: profile.throughput_texts]
    benchmark.group = "throughput"
    sample = texts[:_SAMPLE]
    seconds = profile.throughput_s * len(sample) / len(texts)
    rounds = rounds_for(seconds, lambda: encoder.encode(sample))
    benchmark.pedantic(encoder.encode, args=(texts,), rounds=rounds)  # type: ignore[no-untyped-call]  # pytest-benchmark has no types
    if benchmark.stats is None:  # with --benchmark-disable
        return
    throughput = planned(encoder, texts, benchmark.stats.stats.data)
    benchmark.extra_info.update(backend=encoder.name, texts=len(texts), texts_per_s=throughput.texts_per_s)
    findings.add(encoder.name, throughput)
    findings.add(encoder.name, in_order(encoder, texts, profile.in_order_s))


@pytest.mark.needs("turns")
@pytest.mark.parametrize("case", ["short", "mixed"])
def test_side_by_side(encoder: Encoder, case: Case, session: Session, findings: Findings) -> None:
    """All backends of the run take turns on the same texts; ``encoder`` is the reference."""
    findings.turns[case] = measure_turns(session, case, encoder)
