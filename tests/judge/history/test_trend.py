"""Change points and prediction intervals on series whose truth is known."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from embedopt.judge.history.saved_runs import parse_run
from embedopt.judge.history.series import Series
from embedopt.judge.history.trend import changes, levels, place

RUN = parse_run("run", {"benchmarks": []})


def _series(values: Sequence[float], *, is_log: bool = True) -> Series:
    return Series(
        name="onnx-int8 batch 32",
        better="lower",
        is_log=is_log,
        runs=(RUN,) * len(values),
        values=tuple(float(value) for value in values),
    )


def _noisy(seed: int, shifts: dict[int, float], runs: int = 1000) -> Series:
    """A time of 1 whose logarithm spreads by 3 %, and moves for good at the given runs."""
    logs = np.random.default_rng(seed).normal(0.0, 0.03, runs)
    for at, shift in shifts.items():
        logs[at:] += shift
    return _series(np.exp(logs).tolist())


@pytest.mark.parametrize("seed", range(10))
def test_three_planted_shifts_are_found_and_no_other(seed: int) -> None:
    """8 % in noise of 3 %, among 1,000 runs: each within two runs of its place."""
    up = math.log(1.08)
    found = changes(_noisy(seed, {230: up, 500: -up, 780: up}))
    assert len(found) == 3
    for change, at, effect in zip(found, (230, 500, 780), (0.08, -0.074, 0.08), strict=True):
        assert abs(change.at - at) <= 2
        assert change.effect == pytest.approx(effect, abs=0.015)


@pytest.mark.parametrize("seed", range(20))
def test_noise_has_no_changes(seed: int) -> None:
    assert changes(_noisy(seed, {})) == ()


@pytest.mark.parametrize("runs", [10, 20, 60])
def test_a_short_series_of_noise_hardly_ever_has_a_change(runs: int) -> None:
    """A page shows dozens of series: one star in a hundred is what they may have."""
    assert sum(bool(changes(_noisy(seed, {}, runs))) for seed in range(200)) <= 2


@pytest.mark.parametrize("seed", range(10))
def test_a_shift_in_a_short_series_is_found_once_ten_runs_lie_behind_it(seed: int) -> None:
    found = changes(_noisy(seed, {20: math.log(1.08)}, 30))
    assert any(abs(change.at - 20) <= 2 for change in found)


def test_a_change_that_does_not_persist_is_none() -> None:
    """Four slow runs, then back: a bad day of the machine."""
    values = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98] * 4
    assert changes(_series([*values[:12], 1.3, 1.3, 1.3, 1.3, *values[12:]])) == ()
    assert changes(_series([*values[:12], *[1.3] * 5, *values[12:]])) != ()


def test_a_change_below_the_noise_of_a_run_is_none() -> None:
    """A hundred runs a side make 1 % certain, and it still is less than one run moves by itself."""
    assert changes(_noisy(1, {500: 0.02})) == ()


def test_values_that_repeat_have_no_noise() -> None:
    """A mean cosine that falls stands out, however little."""
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
    found = place(_series(known), 0.53)
    logs = np.log(known)
    half = stats.t(5).ppf(0.975) * logs.std(ddof=1) * math.sqrt(1 + 1 / 6)
    assert (found.value, found.runs, found.missing) == (0.53, 6, 0)
    assert found.effect == pytest.approx(0.53 / math.exp(logs.mean()) - 1)
    assert found.interval is not None
    assert list(found.interval) == pytest.approx([math.expm1(-half), math.expm1(half)])
    assert found.p_two_sided is not None
    assert 0.05 < found.p_two_sided < 1.0


def test_the_ends_of_the_interval_are_at_five_per_cent() -> None:
    known = _series([0.50, 0.52, 0.49, 0.51, 0.50, 0.48])
    inside = place(known, 0.5)
    assert inside.interval is not None
    mean = 0.5 / (1 + (inside.effect or 0.0))
    at_end = place(known, mean * (1 + inside.interval[1]))
    assert at_end.p_two_sided == pytest.approx(0.05)


@pytest.mark.parametrize(("runs", "missing"), [(0, 5), (4, 1), (5, 0)])
def test_a_short_history_says_how_many_runs_are_missing(runs: int, missing: int) -> None:
    found = place(_series([1.0, 1.1, 0.9, 1.0, 1.05][:runs]), 1.0)
    assert (found.runs, found.missing, found.interval is None) == (runs, missing, missing > 0)


def test_a_value_is_held_against_the_runs_since_the_last_change() -> None:
    before, after = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0], [2.0, 2.02, 1.98, 2.0, 2.01, 1.99]
    found = place(_series(before + after), 2.0)
    assert found.runs == 6
    assert found.effect == pytest.approx(0.0, abs=0.001)
    assert found.interval is not None
    assert found.interval[1] < 0.05


def test_values_that_repeat_predict_themselves() -> None:
    found = place(_series([0.9923] * 5, is_log=False), 0.9905)
    assert found.effect == pytest.approx(-0.0018)
    assert found.p_two_sided is not None
    assert found.p_two_sided < 1e-6


def test_a_level_is_where_95_percent_of_its_runs_lie() -> None:
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
