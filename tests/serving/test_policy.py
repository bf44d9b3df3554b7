"""Decisions from data alone: which batch, at what cost, and who is too much."""

from dataclasses import dataclass
from math import inf

import pytest

from embedopt.errors import UsageError
from embedopt.serving.policy import (
    Backlog,
    Cost,
    Limits,
    batch_budget,
    expected_latency_s,
    hopeless,
    learned_room_s,
    pick,
)


@dataclass
class _Asked:
    tokens: int
    due_s: float = 0.0
    deadline_s: float = inf


def line(base_s: float, token_s: float) -> Cost:
    """A cost that was learnt from batches of just this price."""
    cost = Cost()
    for tokens in (10, 20, 100, 200):
        cost = cost.learned(tokens, base_s + token_s * tokens)
    return cost


COST = line(0.00245, 0.0001)
LIMITS = Limits(promise_ms=50.0)  # a batch may take 12.5 ms: 100 tokens, and half a token


def _picked(*tokens: int, free: int = 1, limits: Limits = LIMITS) -> list[int]:
    """Who is picked where each is more urgent than the next."""
    return sorted(pick([_Asked(size, due_s=place) for place, size in enumerate(tokens)], free, COST, limits))


def test_a_batch_takes_a_quarter_of_the_promise() -> None:
    assert batch_budget(COST, LIMITS) == 100
    assert batch_budget(COST, Limits(promise_ms=50.0, batch_tokens=64)) == 64
    assert batch_budget(line(0.030, 0.0001), LIMITS) == 1
    assert batch_budget(Cost(), LIMITS) == 512


def test_texts_of_like_length_go_together() -> None:
    assert _picked(20, 60, 21, 59, 20, 5) == [0, 2, 4]
    assert _picked(60, 20, 21, 59, 20, 5) == [0]  # 59 would be 120 tokens with it
    assert _picked(10, 10, 60) == [0, 1]


def test_the_budget_bounds_a_batch_with_its_padding() -> None:
    assert _picked(20, 20, 20, 20, 20, 20) == [0, 1, 2, 3, 4]
    assert _picked(26, 26, 26, 27, 27) == [0, 1, 2]  # with the next it would be 4 x 27


def test_a_text_longer_than_the_budget_goes_alone() -> None:
    assert _picked(400, 20, 20) == [0]


def test_the_most_urgent_is_always_in_the_batch() -> None:
    waiting = [_Asked(20, due_s=3.0), _Asked(20, due_s=2.0), _Asked(60, due_s=1.0), _Asked(20, due_s=2.0)]
    assert pick(waiting, 1, COST, LIMITS) == [2]


def test_nobody_starves() -> None:
    """Short texts that keep coming don't keep a long one waiting for more than those before it."""
    waiting = [_Asked(10, due_s=0.0), _Asked(60, due_s=1.0), *[_Asked(10, due_s=2.0)] * 50]
    first = pick(waiting, 1, COST, LIMITS)
    assert 1 not in first
    rest = [request for index, request in enumerate(waiting) if index not in first]
    assert rest[pick(rest, 1, COST, LIMITS)[0]].tokens == 60


def test_free_replicas_share_what_waits() -> None:
    assert _picked(20, 20) == [0, 1]
    assert _picked(20, 20, free=2) == [0]
    assert _picked(20, 20, 20, 20, free=2) == [0, 1]


def test_a_cost_is_learnt() -> None:
    assert COST.base_s == pytest.approx(0.00245)
    assert COST.token_s == pytest.approx(0.0001)
    assert COST.seconds(30) == pytest.approx(0.00545)


def test_what_is_learnt_follows_the_machine() -> None:
    cost = COST
    for _ in range(300):
        cost = cost.learned(20, 0.008).learned(200, 0.026)
    assert cost.base_s == pytest.approx(0.006, rel=0.01)
    assert cost.token_s == pytest.approx(0.0001, rel=0.01)


def test_one_stall_says_little() -> None:
    """A batch that took a thousand times what was expected counts as one that took four times that."""
    assert COST.learned(20, 4.0) == COST.learned(20, 4 * COST.seconds(20))


def test_before_the_first_batch_nothing_costs_anything() -> None:
    assert Cost().seconds(100) == 0.0


def test_texts_of_one_length_tell_no_base_from_a_slope() -> None:
    """Then the cost is taken to be in proportion, so that nothing is promised of larger batches."""
    cost = Cost().learned(20, 0.004).learned(20, 0.004)
    assert cost.base_s == 0.0
    assert cost.token_s == pytest.approx(0.0002)


@pytest.mark.parametrize("seconds", [(0.009, 0.001), (0.001, 0.090)])
def test_no_part_of_a_cost_is_negative(seconds: tuple[float, float]) -> None:
    cost = Cost().learned(10, seconds[0]).learned(100, seconds[1])
    assert cost.base_s >= 0.0
    assert cost.token_s >= 0.0
    assert cost.seconds(50) > 0.0


def test_the_expected_latency_on_idle_replicas_is_a_batch_of_its_own() -> None:
    backlog = Backlog(waiting_tokens=0, busy_s=0.0, replicas=2)
    assert expected_latency_s(30, backlog, COST, LIMITS) == pytest.approx(0.00545)


def test_the_expected_latency_of_a_backlog_is_shared_by_the_replicas() -> None:
    """Three batches of 2.45 ms, 300 tokens of 0.1 ms; its own batch, 12.45 ms, is last; 10 ms run."""
    backlog = Backlog(waiting_tokens=280, busy_s=0.010, replicas=2)
    assert expected_latency_s(20, backlog, COST, LIMITS) == pytest.approx(
        (0.010 + 0.03735 - 0.01245) / 2 + 0.01245
    )


def test_where_each_text_is_a_batch_of_its_own_it_waits_for_those_before_it() -> None:
    """A base of 30 ms leaves no room for two texts in a batch."""
    backlog = Backlog(waiting_tokens=20, busy_s=0.0, replicas=1)
    assert expected_latency_s(20, backlog, line(0.030, 0.0001), LIMITS) == pytest.approx(0.064)


def test_a_deadline_that_a_lone_text_would_miss_is_hopeless() -> None:
    assert not hopeless(_Asked(30, deadline_s=1.0055), 1.0, COST)
    assert hopeless(_Asked(30, deadline_s=1.0054), 1.0, COST)
    assert not hopeless(_Asked(30), 1e9, COST)


def test_room_settles_where_three_answers_in_a_thousand_are_late() -> None:
    room_s = 0.040
    for number in range(3000):
        room_s = learned_room_s(room_s, [0.051 if number % 1000 < 3 else 0.050], LIMITS)
    assert room_s == pytest.approx(0.040)


def test_a_late_batch_counts_once() -> None:
    """It lowers the room by 1 % of the promise; each answer raises it by 0.003 of that."""
    assert learned_room_s(0.040, [0.051, 0.060, 0.001], LIMITS) == pytest.approx(0.040 - 0.0005 * 0.991)
    assert learned_room_s(0.040, [0.001, 0.050], LIMITS) == pytest.approx(0.040 + 0.0005 * 0.006)


def test_room_has_bounds() -> None:
    assert learned_room_s(0.050, [0.001], LIMITS) == 0.050
    assert learned_room_s(0.0125, [9.0], LIMITS) == 0.0125


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"promise_ms": 0.0}, "promise_ms is 0.0; wanted milliseconds above 0"),
        ({"promise_ms": inf}, "promise_ms is inf; wanted milliseconds above 0"),
        ({"max_waiting": 0}, "max_waiting is 0; wanted 1 or more"),
        ({"batch_tokens": 0}, "batch_tokens is 0; wanted 1 or more"),
    ],
)
def test_limits_are_checked(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Limits(**wrong)  # type: ignore[arg-type]  # what is tested
    assert str(caught.value) == said
