"""How long does one call take?"""

from pytest_benchmark.fixture import BenchmarkFixture

from embedopt.inference.encoder import Encoder
from embedopt.measure.latency import rotate, rounds_for, summarise
from embedopt.measure.session import Session
from embedopt.schema import to_json


def test_latency(benchmark: BenchmarkFixture, encoder: Encoder, batch_size: int, measuring: Session) -> None:
    """The call that is named is the call that is timed: ``batch_size`` texts, new ones each time."""
    profile = measuring.profile
    batches = rotate(measuring.mixed_texts, batch_size)
    rounds, warmup_rounds = profile.single_calls, 10
    if batch_size > 1:  # two calls to see how many fill the time have warmed it up
        warmup_rounds = 1
        filling = rounds_for(profile.latency_s, lambda: encoder.encode(next(batches), batch_size))
        rounds = min(max(filling, profile.batch_calls), profile.single_calls)
    benchmark.group = f"latency, batch {batch_size}"
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # its way
        encoder.encode,
        setup=lambda: ((next(batches), batch_size), {}),
        rounds=rounds,
        warmup_rounds=warmup_rounds,
    )
    if benchmark.stats is not None:  # None with --benchmark-disable
        benchmark.extra_info.update(to_json(summarise(encoder.name, batch_size, benchmark.stats.stats.data)))
