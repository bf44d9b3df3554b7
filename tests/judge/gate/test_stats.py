"""Intervals, p-values and their adjustment, compared with scipy and with textbook figures."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from embedopt.judge.gate.stats import (
    estimate,
    fewest_pairs,
    holm,
    share,
    smallest_effect,
    split_outliers,
)

VALUES = (0.01, 0.03, -0.02, 0.04, 0.00, 0.02)


def test_the_interval_is_students() -> None:
    actual = estimate(VALUES, level=0.025)
    low, high = stats.ttest_1samp(VALUES, 0.0).confidence_interval(0.95)
    assert [actual.low, actual.high, actual.mean] == pytest.approx([low, high, np.mean(VALUES)])
    assert actual.pairs == 6
    expected = stats.ttest_1samp(VALUES, 0.0, alternative="greater").pvalue
    assert actual.p_not_above == pytest.approx(expected)


@pytest.mark.parametrize(("value", "p_not_above"), [(0.1, 0), (-0.1, 1), (0.0, 0.5)])
def test_values_without_spread_are_certain(value: float, p_not_above: float) -> None:
    actual = estimate([value] * 8, level=0.05)
    assert (actual.low, actual.high) == (value, value)
    assert actual.p_not_above == p_not_above


def test_an_outlying_pair_widens_the_interval() -> None:
    assert estimate([0.05, 0.051, 0.049, 0.05, 0.05, 0.05], 0.05).p_not_above < 1e-6
    assert estimate([0.05, 0.051, 0.049, 0.05, 0.05, 0.95], 0.05).p_not_above > 0.05


@pytest.mark.parametrize(
    ("far", "outliers"),
    [
        ((), []),
        ((0.5,), [0.5]),
        ((-0.2,), [-0.2]),
        ((0.5, 0.45), [0.5, 0.45]),  # neither hides the other
        ((0.5, -0.2), [0.5, -0.2]),
        ((0.11,), []),  # not far enough
        ((0.5, 0.5, 0.5, 0.5, 0.5), []),  # more than a third
    ],
)
def test_outliers_lie_far_from_the_others(far: tuple[float, ...], outliers: list[float]) -> None:
    kept, left_out = split_outliers([*VALUES, *far])
    assert left_out == outliers
    assert sorted([*kept, *left_out]) == sorted([*VALUES, *far])


def test_an_outlier_is_what_the_studentised_deviate_says() -> None:
    """With n values, the critical deviate is (n - 1) t / sqrt(n (n - 2 + t^2)), t at 1 - 0.01 / (2 n)."""
    t = stats.t.ppf(1 - 0.01 / 14, 5)
    critical = 6 * t / math.sqrt(7 * (5 + t * t))
    for value in np.linspace(0.0, 0.3, 61):
        values = np.array([*VALUES, value])
        deviate = abs(value - values.mean()) / values.std(ddof=1)
        assert (split_outliers(values.tolist())[1] == [value]) == (deviate > critical)


def test_a_value_beside_identical_ones_is_no_outlier() -> None:
    assert split_outliers([0.0] * 5 + [0.05])[1] == []
    assert split_outliers([0.1, 0.1 + 1e-12, 0.1 - 1e-12, 0.1, 0.1, 0.2])[1] == []  # but for rounding
    assert split_outliers([0.1, 0.2])[1] == []


@pytest.mark.parametrize(("level", "pairs"), [(0.2, 4), (0.05, 6), (0.01, 8), (0.9, 3)])
def test_the_fewest_pairs_are_those_whose_smallest_p_value_reaches_the_level(
    level: float, pairs: int
) -> None:
    assert fewest_pairs(level) == pairs
    assert 2 ** (1 - pairs) <= level


def test_holm_multiplies_the_smallest_p_value_by_their_number() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1.0, p * len(p_values)) or q == pytest.approx(max(p, q))
    ordered = sorted(zip(p_values, adjusted, strict=True))
    assert [q for _, q in ordered] == sorted(adjusted)


def test_the_smallest_effect_is_detected_nine_times_out_of_ten() -> None:
    """The formula errs on the large side: of 4,000 drawn samples, 88 % to 95 % are detected."""
    rng = np.random.default_rng(3)
    spread, pairs = 0.02, 8
    error = spread / math.sqrt(pairs)
    known = estimate([sign * spread * math.sqrt(7 / 8) for sign in (-1, 1) * 4], level=0.025)
    effect = smallest_effect(known, level=0.025)
    assert effect == pytest.approx((2.3646 + 1.4149) * error, rel=1e-3)
    drawn = effect + spread * rng.standard_normal((4000, pairs))
    detected = np.mean([estimate(values, 0.05).p_not_above < 0.025 for values in drawn])
    assert 0.88 < detected < 0.95


def test_a_log_ratio_becomes_a_share() -> None:
    assert share(math.log(1.05)) == pytest.approx(0.05)
