"""How many texts per second, sustained, and where does the speed come from?"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from embedopt.inference.encoder import Encoder
from embedopt.measure.findings import Findings
from embedopt.measure.latency import rounds_for
from embedopt.measure.session import Session
from embedopt.measure.throughput import forced, planned
from embedopt.measure.turns import Case, measure_turns
from embedopt.records import LARGE_BATCH

# Number of texts whose time predicts the time of all texts.
_SAMPLE = 64


def test_throughput(
    benchmark: BenchmarkFixture, encoder: Encoder, session: Session, findings: Findings
) -> None:
    """Each call encodes all texts, in batches that it plans."""
    profile = session.profile
    texts = session.corpus.mixed_texts[: profile.throughput_texts]
    benchmark.group = "throughput"
    sample = texts[:_SAMPLE]
    seconds = profile.throughput_s * len(sample) / len(texts)
    rounds = rounds_for(seconds, lambda: encoder.encode(sample))
    batches = session.batches(encoder, texts, len(texts))
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # pytest-benchmark has no types
        encoder.encode, setup=lambda: ((next(batches),), {}), rounds=rounds
    )
    if benchmark.stats is None:  # with --benchmark-disable
        return
    throughput = planned(encoder, texts, benchmark.stats.stats.data)
    benchmark.extra_info.update(backend=encoder.name, texts=len(texts), texts_per_s=throughput.texts_per_s)
    findings.add(encoder.name, throughput)


def test_forced(benchmark: BenchmarkFixture, encoder: Encoder, session: Session, findings: Findings) -> None:
    """Each call forces 32 texts into one batch, as they come, padded to the longest: nothing is planned."""
    texts = session.corpus.mixed_texts[: session.profile.throughput_texts]
    batches = session.batches(encoder, texts, LARGE_BATCH)
    rounds = rounds_for(session.profile.in_order_s, lambda: encoder.encode_as_one_batch(next(batches)))
    benchmark.group = f"forced batch {LARGE_BATCH}"
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # pytest-benchmark has no types
        encoder.encode_as_one_batch, setup=lambda: ((next(batches),), {}), rounds=rounds
    )
    if benchmark.stats is None:  # with --benchmark-disable
        return
    throughput = forced(encoder, texts, benchmark.stats.stats.data)
    benchmark.extra_info.update(
        backend=encoder.name, texts=LARGE_BATCH, texts_per_s=throughput.in_order_per_s
    )
    findings.add(encoder.name, throughput)


@pytest.mark.needs("turns")
@pytest.mark.parametrize("case", ["short", "mixed"])
def test_side_by_side(encoder: Encoder, case: Case, session: Session, findings: Findings) -> None:
    """All backends of the run take turns on the same texts; ``encoder`` is the reference."""
    findings.turns[case] = measure_turns(session, case, encoder)
