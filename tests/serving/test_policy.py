"""Which batch is next, what it costs, and which requests are too much."""

from math import inf

import pytest

from embedopt.errors import UsageError
from embedopt.inference.cost import Cost
from embedopt.inference.encoder import TokenizedText
from embedopt.serving.policy import (
    Backlog,
    Limits,
    adjusted_bound_s,
    batch_budget,
    choose_batch,
    expected_latency_s,
    misses_deadline,
)
from embedopt.serving.queue import Request


def _request(tokens: int, due_s: float = 0.0, deadline_s: float = inf) -> Request:
    return Request(TokenizedText("", tokens), tokens, 0.0, due_s, deadline_s)


def make_cost(fixed_s: float, token_s: float) -> Cost:
    """A cost that was learnt from batches of exactly this cost."""
    cost = Cost()
    for tokens in (10, 20, 100, 200):
        cost = cost.learned(tokens, fixed_s + token_s * tokens)
    return cost


COST = make_cost(0.00245, 0.0001)
LIMITS = Limits(promise_ms=50.0)  # a batch may take 12.5 ms: 100 tokens, and half a token


def _chosen(*tokens: int, free_replicas: int = 1, limits: Limits = LIMITS) -> list[int]:
    """Indices of the chosen texts, where each text is due before the next one."""
    return sorted(
        choose_batch(
            [_request(size, due_s=place) for place, size in enumerate(tokens)], free_replicas, COST, limits
        )
    )


def test_a_batch_takes_a_quarter_of_the_promise() -> None:
    assert batch_budget(COST, LIMITS) == 100
    assert batch_budget(COST, Limits(promise_ms=50.0, batch_tokens=64)) == 64
    assert batch_budget(make_cost(0.030, 0.0001), LIMITS) == 1
    assert batch_budget(Cost(), LIMITS) == 512


def test_texts_of_like_length_share_a_batch() -> None:
    assert _chosen(20, 60, 21, 59, 20, 5) == [0, 2, 4]
    assert _chosen(60, 20, 21, 59, 20, 5) == [0]  # with the text of 59 tokens it would be 120 tokens
    assert _chosen(10, 10, 60) == [0, 1]


def test_the_budget_bounds_a_batch_with_its_padding() -> None:
    assert _chosen(20, 20, 20, 20, 20, 20) == [0, 1, 2, 3, 4]
    assert _chosen(26, 26, 26, 27, 27) == [0, 1, 2]  # with the next it would be 4 x 27


def test_a_text_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    assert _chosen(400, 20, 20) == [0]


def test_the_request_that_is_due_first_is_always_in_the_batch() -> None:
    waiting = [
        _request(20, due_s=3.0),
        _request(20, due_s=2.0),
        _request(60, due_s=1.0),
        _request(20, due_s=2.0),
    ]
    assert choose_batch(waiting, 1, COST, LIMITS) == [2]


def test_no_request_starves() -> None:
    """However many short texts arrive, a long one waits only for those that are due before it."""
    waiting = [_request(10, due_s=0.0), _request(60, due_s=1.0), *[_request(10, due_s=2.0)] * 50]
    first = choose_batch(waiting, 1, COST, LIMITS)
    assert 1 not in first
    rest = [request for index, request in enumerate(waiting) if index not in first]
    assert rest[choose_batch(rest, 1, COST, LIMITS)[0]].tokens == 60


def test_free_replicas_share_the_waiting_requests() -> None:
    assert _chosen(20, 20) == [0, 1]
    assert _chosen(20, 20, free_replicas=2) == [0]
    assert _chosen(20, 20, 20, 20, free_replicas=2) == [0, 1]


def test_the_cost_is_learnt_from_batches() -> None:
    assert COST.fixed_s == pytest.approx(0.00245)
    assert COST.token_s == pytest.approx(0.0001)
    assert COST.seconds(30) == pytest.approx(0.00545)


def test_the_learnt_cost_follows_the_machine() -> None:
    cost = COST
    for _ in range(300):
        cost = cost.learned(20, 0.008).learned(200, 0.026)
    assert cost.fixed_s == pytest.approx(0.006, rel=0.01)
    assert cost.token_s == pytest.approx(0.0001, rel=0.01)


def test_one_stall_changes_the_cost_little() -> None:
    """A batch that took a thousand times what was expected counts as one that took four times that."""
    assert COST.learned(20, 4.0) == COST.learned(20, 4 * COST.seconds(20))


def test_before_the_first_batch_the_expected_cost_is_zero() -> None:
    assert Cost().seconds(100) == 0.0


def test_batches_of_one_size_cant_separate_the_fixed_cost_from_that_of_a_token() -> None:
    """Then the cost is proportional to the tokens, so that larger batches are not expected to pay."""
    cost = Cost().learned(20, 0.004).learned(20, 0.004)
    assert cost.fixed_s == 0.0
    assert cost.token_s == pytest.approx(0.0002)


@pytest.mark.parametrize("seconds", [(0.009, 0.001), (0.001, 0.090)])
def test_neither_part_of_a_cost_is_negative(seconds: tuple[float, float]) -> None:
    cost = Cost().learned(10, seconds[0]).learned(100, seconds[1])
    assert cost.fixed_s >= 0.0
    assert cost.token_s >= 0.0
    assert cost.seconds(50) > 0.0


def test_the_expected_latency_on_idle_replicas_is_a_batch_of_its_own() -> None:
    backlog = Backlog(waiting_tokens=0, busy_s=0.0, replicas=2)
    assert expected_latency_s(30, backlog, COST, LIMITS) == pytest.approx(0.00545)


def test_the_expected_latency_of_a_backlog_is_shared_by_the_replicas() -> None:
    """Running batches: 10 ms; waiting: three of 2.45 ms with 300 tokens of 0.1 ms; its own: 12.45 ms."""
    backlog = Backlog(waiting_tokens=280, busy_s=0.010, replicas=2)
    assert expected_latency_s(20, backlog, COST, LIMITS) == pytest.approx(
        (0.010 + 0.03735 - 0.01245) / 2 + 0.01245
    )


def test_where_each_text_is_a_batch_of_its_own_a_request_waits_for_those_before_it() -> None:
    """With a fixed cost of 30 ms, no two texts fit into a batch."""
    backlog = Backlog(waiting_tokens=20, busy_s=0.0, replicas=1)
    assert expected_latency_s(20, backlog, make_cost(0.030, 0.0001), LIMITS) == pytest.approx(0.064)


def test_a_deadline_is_missed_that_the_text_alone_would_miss() -> None:
    assert not misses_deadline(_request(30, deadline_s=1.0055), 1.0, COST)
    assert misses_deadline(_request(30, deadline_s=1.0054), 1.0, COST)
    assert not misses_deadline(_request(30), 1e9, COST)


def test_the_bound_settles_where_three_answers_in_a_thousand_are_late() -> None:
    bound_s = 0.040
    for number in range(3000):
        bound_s = adjusted_bound_s(bound_s, [0.051 if number % 1000 < 3 else 0.050], LIMITS)
    assert bound_s == pytest.approx(0.040)


def test_a_late_batch_counts_once() -> None:
    """It lowers the bound by 1 % of the promise; each answer raises it by 0.003 of that."""
    assert adjusted_bound_s(0.040, [0.051, 0.060, 0.001], LIMITS) == pytest.approx(0.040 - 0.0005 * 0.991)
    assert adjusted_bound_s(0.040, [0.001, 0.050], LIMITS) == pytest.approx(0.040 + 0.0005 * 0.006)


def test_the_bound_is_between_a_quarter_of_the_promise_and_the_promise() -> None:
    assert adjusted_bound_s(0.050, [0.001], LIMITS) == 0.050
    assert adjusted_bound_s(0.0125, [9.0], LIMITS) == 0.0125


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"promise_ms": 0.0}, "promise_ms is 0.0; wanted milliseconds above 0"),
        ({"promise_ms": inf}, "promise_ms is inf; wanted milliseconds above 0"),
        ({"max_waiting": 0}, "max_waiting is 0; wanted a whole number, 1 or more"),
        ({"batch_tokens": 0}, "batch_tokens is 0; wanted a whole number, 1 or more"),
        ({"batch_tokens": 1.5}, "batch_tokens is 1.5; wanted a whole number, 1 or more"),
    ],
)
def test_limits_are_checked(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Limits(**wrong)  # type: ignore[arg-type]  # what is tested
    assert str(caught.value) == message
