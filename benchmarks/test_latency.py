"""How long does one call take?"""

from pytest_benchmark.fixture import BenchmarkFixture

from embedopt.inference.encoder import Encoder
from embedopt.measure.latency import rotate, rounds_for, summarise
from embedopt.measure.session import Session
from embedopt.schema import to_json


def test_latency(benchmark: BenchmarkFixture, encoder: Encoder, batch_size: int, session: Session) -> None:
    """Each timed call encodes ``batch_size`` texts, other texts than the call before."""
    profile = session.profile
    batches = rotate(session.corpus.mixed_texts, batch_size)
    rounds, warmup_rounds = profile.single_calls, 10
    if batch_size > 1:  # the two calls of rounds_for have warmed it up
        warmup_rounds = 1
        filling = rounds_for(profile.latency_s, lambda: encoder.encode(next(batches), batch_size))
        rounds = min(max(filling, profile.batch_calls), profile.single_calls)
    benchmark.group = f"latency, batch {batch_size}"
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # pytest-benchmark has no types
        encoder.encode,
        setup=lambda: ((next(batches), batch_size), {}),
        rounds=rounds,
        warmup_rounds=warmup_rounds,
    )
    if benchmark.stats is not None:  # None with --benchmark-disable
        benchmark.extra_info.update(to_json(summarise(encoder.name, batch_size, benchmark.stats.stats.data)))
