"""Change points and prediction intervals of series whose true changes are known."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from embedopt.judge.history.saved_runs import parse_run
from embedopt.judge.history.series import Series
from embedopt.judge.history.trend import changes, levels, position_of

RUN = parse_run("run", {"benchmarks": []})


def _series(values: Sequence[float], *, is_log: bool = True) -> Series:
    return Series(
        metric="p50_ms",
        backend="onnx-int8",
        batch_size=32,
        better="lower",
        is_log=is_log,
        runs=(RUN,) * len(values),
        values=tuple(float(value) for value in values),
    )


def _noisy(seed: int, shifts: dict[int, float], runs: int = 1000) -> Series:
    """A time of 1 whose logarithm spreads by 3 % and shifts for good at the given runs."""
    logs = np.random.default_rng(seed).normal(0.0, 0.03, runs)
    for at, shift in shifts.items():
        logs[at:] += shift
    return _series(np.exp(logs).tolist())


@pytest.mark.parametrize("seed", range(10))
def test_three_planted_shifts_are_detected_and_no_other(seed: int) -> None:
    """8 % in noise of 3 %, among 1,000 runs: each within two runs of its place."""
    up = math.log(1.08)
    detected = changes(_noisy(seed, {230: up, 500: -up, 780: up}))
    assert len(detected) == 3
    for change, at, effect in zip(detected, (230, 500, 780), (0.08, -0.074, 0.08), strict=True):
        assert abs(change.at - at) <= 2
        assert change.effect == pytest.approx(effect, abs=0.015)


@pytest.mark.parametrize("seed", range(20))
def test_noise_has_no_changes(seed: int) -> None:
    assert changes(_noisy(seed, {})) == ()


@pytest.mark.parametrize("runs", [10, 20, 60])
def test_a_short_series_of_noise_hardly_ever_has_a_change(runs: int) -> None:
    """A page shows dozens of series: at most one in a hundred may have a false alarm."""
    assert sum(bool(changes(_noisy(seed, {}, runs))) for seed in range(200)) <= 2


@pytest.mark.parametrize("seed", range(10))
def test_a_shift_in_a_short_series_is_detected_once_ten_runs_follow_it(seed: int) -> None:
    detected = changes(_noisy(seed, {20: math.log(1.08)}, 30))
    assert any(abs(change.at - 20) <= 2 for change in detected)


def test_a_change_that_does_not_persist_is_none() -> None:
    """Four slow runs, as on a bad day of the machine, are no change; five are."""
    values = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98] * 4
    assert changes(_series([*values[:12], 1.3, 1.3, 1.3, 1.3, *values[12:]])) == ()
    assert changes(_series([*values[:12], *[1.3] * 5, *values[12:]])) != ()


def test_a_change_below_the_noise_of_a_run_is_none() -> None:
    """Five hundred runs a side make 2 % certain, and it is still less than a single run varies."""
    assert changes(_noisy(1, {500: 0.02})) == ()


def test_values_that_repeat_have_no_noise() -> None:
    """The smallest fall of a mean cosine is a change."""
    values = [0.9923] * 7 + [0.9920] * 6
    [change] = changes(_series(values, is_log=False))
    assert change.at == 7
    assert change.effect == pytest.approx(-0.0003)
    assert changes(_series([0.9923] * 13, is_log=False)) == ()


@pytest.mark.parametrize("runs", [0, 1, 9])
def test_too_short_a_history_has_no_changes(runs: int) -> None:
    assert changes(_series(([1.0] * 4 + [9.0] * 5)[:runs])) == ()


def test_a_value_lies_in_the_interval_of_those_before() -> None:
    known = [0.50, 0.52, 0.49, 0.51, 0.50, 0.48]
    place = position_of(0.53, _series(known))
    logs = np.log(known)
    half = stats.t(5).ppf(0.975) * logs.std(ddof=1) * math.sqrt(1 + 1 / 6)
    assert (place.runs, place.missing) == (6, 0)
    assert place.effect == pytest.approx(0.53 / math.exp(logs.mean()) - 1)
    assert place.interval is not None
    assert list(place.interval) == pytest.approx([math.expm1(-half), math.expm1(half)])
    assert 0.05 < place.p_two_sided < 1.0


def test_the_ends_of_the_interval_are_at_five_per_cent() -> None:
    known = _series([0.50, 0.52, 0.49, 0.51, 0.50, 0.48])
    inside = position_of(0.5, known)
    assert inside.interval is not None
    mean = 0.5 / (1 + (inside.effect or 0.0))
    at_end = position_of(mean * (1 + inside.interval[1]), known)
    assert at_end.p_two_sided == pytest.approx(0.05)


@pytest.mark.parametrize(("runs", "missing"), [(0, 5), (4, 1), (5, 0)])
def test_a_short_history_says_how_many_runs_are_missing(runs: int, missing: int) -> None:
    place = position_of(1.0, _series([1.0, 1.1, 0.9, 1.0, 1.05][:runs]))
    assert (place.runs, place.missing, place.interval is None) == (runs, missing, missing > 0)


def test_a_value_is_compared_with_the_runs_since_the_last_change() -> None:
    before, after = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0], [2.0, 2.02, 1.98, 2.0, 2.01, 1.99]
    place = position_of(2.0, _series(before + after))
    assert place.runs == 6
    assert place.effect == pytest.approx(0.0, abs=0.001)
    assert place.interval is not None
    assert place.interval[1] < 0.05


def test_values_that_repeat_predict_themselves() -> None:
    place = position_of(0.9905, _series([0.9923] * 5, is_log=False))
    assert place.effect == pytest.approx(-0.0018)
    assert place.p_two_sided < 1e-6


def test_95_percent_of_the_runs_of_a_level_lie_in_its_interval() -> None:
    series = _noisy(3, {400: math.log(1.5)}, runs=1000)
    first, second = levels(series, changes(series))
    assert (first.start, second.start, second.stop) == (0, first.stop, 1000)
    for level in (first, second):
        inside = [level.low < value < level.high for value in series.values[level.start : level.stop]]
        assert sum(inside) / len(inside) == pytest.approx(0.95, abs=0.02)


def test_a_part_of_too_few_runs_has_no_level() -> None:
    assert levels(_series([1.0, 1.1, 1.0, 1.2]), ()) == ()


def test_a_level_of_scores_is_a_difference() -> None:
    [level] = levels(_series([0.9, 1.1] * 5, is_log=False), ())
    assert (level.low + level.high) / 2 == pytest.approx(1.0)
