"""Percentiles with intervals that hold, and none where the sample is too small."""

from itertools import islice

import numpy as np
import pytest

from embedopt.inference.encoder import CallPlan
from embedopt.measure.latency import (
    as_new,
    quantile_interval,
    repeated_share,
    rotate,
    rounds_for,
    summarise,
    with_plans,
)
from embedopt.schema import to_json
from tests.fakes import FakeClock


def test_batches_continue_where_the_last_one_stopped() -> None:
    assert list(islice(rotate(["a", "b", "c"], 2), 3)) == [["a", "b"], ["c", "a"], ["b", "c"]]
    assert list(islice(rotate(["a"], 3), 1)) == [["a", "a", "a"]]


def test_a_known_sample_has_its_percentiles_and_intervals() -> None:
    """1 to 1000 ms, with the ranks of the binomial distribution."""
    latency = summarise("x", 4, [number / 1000 for number in range(1000, 0, -1)])
    assert (latency.backend, latency.batch_size, latency.calls) == ("x", 4, 1000)
    assert (latency.p50_ms, latency.p95_ms, latency.p99_ms) == pytest.approx((500.5, 950.05, 990.01))
    assert latency.p50_ci_ms == pytest.approx((469.0, 532.0))
    assert latency.p95_ci_ms == pytest.approx((936.0, 964.0))
    assert latency.p99_ci_ms == pytest.approx((983.0, 997.0))
    assert latency.texts_per_s == pytest.approx(4 * 1000 / 500.5)


@pytest.mark.parametrize(("quantile", "enough"), [(0.5, 6), (0.95, 72), (0.99, 368)])
def test_the_smallest_sample_that_has_an_interval(quantile: float, enough: int) -> None:
    assert quantile_interval(enough - 1, quantile) is None
    assert quantile_interval(enough, quantile) is not None


def test_a_call_with_several_texts_says_how_it_was_planned() -> None:
    latency = summarise("x", 3, [0.001])
    plans = [CallPlan([np.arange(3)], 1), CallPlan([np.arange(1), np.arange(1, 3)], 2)]
    planned = with_plans(latency, plans)
    assert (planned.batches, planned.replicas) == (1.5, 1.5)
    assert {"batches", "replicas"} & to_json(latency).keys() == set()  # older code reads it


def test_a_small_sample_has_no_p99() -> None:
    latency = summarise("x", 1, [0.001] * 200)
    assert (latency.p95_ms, latency.p99_ms, latency.p99_ci_ms) == (1.0, None, None)
    assert summarise("x", 1, [0.001] * 5).p50_ms is None


@pytest.mark.parametrize(("quantile", "samples"), [(0.5, 30), (0.95, 400), (0.99, 400)])
def test_intervals_contain_the_true_quantile_in_95_percent_of_samples(quantile: float, samples: int) -> None:
    """4,000 samples of a skewed distribution; discreteness makes the coverage 95 % or more."""
    ranks = quantile_interval(samples, quantile)
    assert ranks is not None
    drawn = np.sort(np.random.default_rng(0).lognormal(size=(4000, samples)), axis=1)
    truth = np.exp(np.sqrt(2) * {0.5: 0.0, 0.95: 1.1630871536766743, 0.99: 1.6449763571331872}[quantile])
    covered = (drawn[:, ranks[0]] <= truth) & (truth <= drawn[:, ranks[1]])
    assert 0.945 <= covered.mean() <= 0.985


def test_rounds_fill_the_time_by_the_second_call() -> None:
    """The first call may be cold."""
    clock = FakeClock()
    costs = iter([9.0, 0.25])
    assert rounds_for(1.0, lambda: clock.advance(next(costs)), clock) == 4
    assert rounds_for(0.1, lambda: clock.advance(5.0), clock) == 1


def test_new_texts_are_texts_that_were_not_there_and_of_one_length() -> None:
    first, second = as_new(["a", "bc"]), as_new(["a", "bc"])
    assert [len(text) for text in first] == [len("a 1000"), len("bc 1000")] == [len(text) for text in second]
    assert first != ["a", "bc"]


def test_kept_results_show_in_the_time_of_a_repeated_call() -> None:
    clock, met = FakeClock(), set[str]()

    def encode(batch: list[str]) -> None:
        clock.advance(0.001 if batch[0] in met else 0.1)
        met.update(batch)

    assert repeated_share(encode, iter([[str(number)] for number in range(20)]), clock) == pytest.approx(0.01)
    assert repeated_share(lambda _: clock.advance(0.1), iter([["a"]] * 20), clock) == pytest.approx(1.0)
