"""How many texts a second, sustained, and where does the speed come from?"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from embedopt.inference.encoder import Encoder
from embedopt.measure.latency import rounds_for
from embedopt.measure.session import Session
from embedopt.measure.throughput import in_order, planned
from embedopt.measure.turns import Case

# Texts that tell how long all of them take, without taking as long.
_PART = 64


def test_throughput(benchmark: BenchmarkFixture, encoder: Encoder, measuring: Session) -> None:
    """One call gets all texts and plans its batches; then batches as they come, a call each."""
    profile = measuring.profile
    texts = measuring.mixed_texts[: profile.throughput_texts]
    benchmark.group = "throughput"
    with measuring.many_texts(encoder) as replicated:
        part = texts[:_PART]
        rounds = rounds_for(profile.throughput_s * len(part) / len(texts), lambda: replicated.encode(part))
        benchmark.pedantic(replicated.encode, args=(texts,), rounds=rounds)  # type: ignore[no-untyped-call]  # its way
        if benchmark.stats is None:  # with --benchmark-disable
            return
        found = planned(replicated, texts, benchmark.stats.stats.data)
    benchmark.extra_info.update(backend=encoder.name, texts=len(texts), texts_per_s=found.texts_per_s)
    measuring.add(encoder.name, found)
    measuring.add(encoder.name, in_order(encoder, texts, profile.in_order_s))


@pytest.mark.parametrize("case", ["short", "mixed"])
def test_side_by_side(encoder: Encoder, case: Case, measuring: Session) -> None:
    """All backends of the run take turns on the same texts; ``encoder`` is the reference."""
    if not measuring.profile.turns:
        pytest.skip(f"not in the {measuring.options.profile} profile")
    measuring.side_by_side(case, encoder)
