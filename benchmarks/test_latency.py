"""How long does one call take?"""

from dataclasses import replace

from pytest_benchmark.fixture import BenchmarkFixture

from embedopt.inference.backends import get_backend
from embedopt.inference.encoder import Encoder
from embedopt.measure.latency import repeated_share, rounds_for, summarise, with_plans
from embedopt.measure.session import Session
from embedopt.schema import to_json


def test_latency(benchmark: BenchmarkFixture, encoder: Encoder, batch_size: int, session: Session) -> None:
    """Each timed call encodes ``batch_size`` texts, as a user would, other texts than the call before."""
    profile = session.profile
    batches = session.batches(encoder, session.corpus.mixed_texts, batch_size)
    rounds, warmup_rounds = profile.single_calls, 10
    if batch_size > 1:  # the two calls of rounds_for have warmed it up
        warmup_rounds = 1
        filling = rounds_for(profile.latency_s, lambda: encoder.encode(next(batches)))
        rounds = min(max(filling, profile.batch_calls), profile.single_calls)
    benchmark.group = f"latency, batch {batch_size}"
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # pytest-benchmark has no types
        encoder.encode,
        setup=lambda: ((next(batches),), {}),
        rounds=rounds,
        warmup_rounds=warmup_rounds,
    )
    if benchmark.stats is not None:  # None with --benchmark-disable
        latency = summarise(encoder.name, batch_size, benchmark.stats.stats.data)
        if batch_size > 1:
            latency = with_plans(latency, [encoder.plan(next(batches)) for _ in range(profile.batch_calls)])
        if get_backend(encoder.name).project:  # code that we do not know may keep results
            latency = replace(latency, repeated_share=repeated_share(encoder.encode, batches, encoder.clock))
        benchmark.extra_info.update(to_json(latency))
