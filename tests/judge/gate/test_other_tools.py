"""The rules of other tools on calls whose difference is known."""

import numpy as np
import pytest

from embedopt.judge.gate.other_tools import Rule, asv, benchstat, compare_fail, criterion

BASE = np.linspace(9.0, 11.0, 101)


def test_a_change_of_three_per_cent_is_below_the_factor_that_two_of_them_ask_for() -> None:
    reports = {rule.__name__: rule(BASE, 1.03 * BASE) for rule in (compare_fail, benchstat, asv, criterion)}
    assert reports == {"compare_fail": False, "benchstat": True, "asv": False, "criterion": True}


@pytest.mark.parametrize("rule", [compare_fail, benchstat, asv, criterion])
def test_every_rule_reports_a_clear_slow_down_and_no_speed_up(rule: Rule) -> None:
    reports = [rule(BASE, factor * BASE) for factor in (1.11, 1.0, 0.5)]
    assert reports == [True, False, False]


def test_asv_also_asks_for_a_p_value() -> None:
    """With four calls a side no test reaches 0.002, whatever the medians."""
    assert not asv(BASE[:4], 2 * BASE[:4])
    assert compare_fail(BASE[:4], 2 * BASE[:4])


def test_criterion_ignores_changes_below_its_noise_threshold() -> None:
    narrow = np.linspace(9.999, 10.001, 101)
    assert not criterion(narrow, 1.009 * narrow)
    assert criterion(narrow, 1.011 * narrow)
