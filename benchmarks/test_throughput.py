"""How many texts a second, sustained, and where does the speed come from?"""

from pytest_benchmark.fixture import BenchmarkFixture

from embedopt.inference.encoder import Encoder
from embedopt.measure.latency import rounds_for
from embedopt.measure.session import Session
from embedopt.measure.throughput import planned, unplanned


def test_throughput(benchmark: BenchmarkFixture, encoder: Encoder, measuring: Session) -> None:
    """One call gets all texts and plans its batches; then the two ways that leave that to the caller."""
    profile = measuring.profile
    texts = measuring.mixed_texts[: profile.throughput_texts]
    benchmark.group = "throughput"
    rounds = rounds_for(profile.throughput_s, lambda: encoder.encode(texts))
    benchmark.pedantic(encoder.encode, args=(texts,), rounds=rounds)  # type: ignore[no-untyped-call]  # its way
    if benchmark.stats is None:  # with --benchmark-disable
        return
    found = planned(encoder, texts, benchmark.stats.stats.data)
    benchmark.extra_info.update(backend=encoder.name, texts=len(texts), texts_per_s=found.texts_per_s)
    measuring.add(encoder.name, found)
    measuring.add(encoder.name, unplanned(encoder, texts, profile.unplanned_s))
