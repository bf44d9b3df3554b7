"""What other tools would say of calls whose difference is known."""

import numpy as np
import pytest

from embedopt.judge.gate.other_tools import OTHER_TOOLS, asv, benchstat, compare_fail, criterion

BASE = np.linspace(9.0, 11.0, 101)


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (1.0, (False, False, False, False)),
        (1.03, (False, True, False, True)),
        (1.09, (False, True, False, True)),
        (1.11, (True, True, True, True)),
        (0.5, (False, False, False, False)),
    ],
)
def test_what_each_rule_says_of_a_factor(factor: float, said: tuple[bool, ...]) -> None:
    rules = (compare_fail, benchstat, asv, criterion)
    assert tuple(rule(BASE, factor * BASE) for rule in rules) == said


def test_asv_needs_more_than_a_factor() -> None:
    """Four calls of a side can't reach its p-value, whatever their medians."""
    assert not asv(BASE[:4], 2 * BASE[:4])
    assert compare_fail(BASE[:4], 2 * BASE[:4])


def test_criterion_leaves_room_for_its_noise_threshold() -> None:
    narrow = np.linspace(9.999, 10.001, 101)
    assert not criterion(narrow, 1.009 * narrow)
    assert criterion(narrow, 1.011 * narrow)


def test_all_are_in_the_table() -> None:
    assert list(OTHER_TOOLS.values()) == [compare_fail, benchstat, asv, criterion]
