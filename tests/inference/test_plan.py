"""Batches have little padding, keep the replicas busy, and go where they are expected to be faster."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedopt.inference.cost import Cost
from embedopt.inference.encoder import CallPlan, IntArray
from embedopt.inference.plan import (
    padding_share,
    plan_call,
    plan_for_replicas,
    plan_seconds,
)

lengths = st.lists(st.integers(1, 256), max_size=300).map(lambda values: np.asarray(values, dtype=np.int64))
sizes = st.none() | st.integers(1, 64)
budgets = st.none() | st.integers(1, 2048)


def _full_batches(counts: IntArray, batch_size: int | None, batch_tokens: int | None) -> list[list[int]]:
    """The longest texts first, each in the last batch unless it would exceed a limit there."""
    batches: list[list[int]] = []
    for index in sorted(range(len(counts)), key=lambda index: -int(counts[index])):
        last = batches[-1] if batches else []
        padded = (len(last) + 1) * int(counts[last[0]]) if last else 0
        if last and len(last) < (batch_size or padded) and padded <= (batch_tokens or padded):
            last.append(index)
        else:
            batches.append([index])
    return batches


@given(lengths, st.integers(1, 8), sizes, budgets)
def test_a_plan_has_each_text_once_in_batches_of_falling_length(
    counts: IntArray, replicas: int, batch_size: int | None, batch_tokens: int | None
) -> None:
    batches = plan_for_replicas(counts, replicas, batch_size, batch_tokens)
    assert sorted(index for batch in batches for index in batch) == list(range(len(counts)))
    assert all(len(batch) <= (batch_size or len(counts)) for batch in batches)
    assert all(counts[first].min() >= counts[second].max() for first, second in pairwise(batches))
    if batch_tokens is not None:
        assert all(len(batch) == 1 or len(batch) * counts[batch].max() <= batch_tokens for batch in batches)


@given(
    st.lists(st.integers(1, 256), min_size=4 * 32 + 1, max_size=300).map(np.asarray),
    st.integers(1, 4),
    budgets,
)
def test_many_batches_are_full(counts: IntArray, batch_size: int, batch_tokens: int | None) -> None:
    """From 33 for each replica, one more text in any batch but the last would exceed a limit."""
    batches = plan_for_replicas(counts, 1, batch_size, batch_tokens)
    assert [batch.tolist() for batch in batches] == _full_batches(counts, batch_size, batch_tokens)


@given(lengths, st.integers(1, 64))
def test_a_plan_pads_no_more_than_batches_in_the_given_order(counts: IntArray, batch_size: int) -> None:
    """Sorting gives the least padding for a batch size when all batches are full."""
    counts = counts[: len(counts) // batch_size * batch_size]
    as_given = [
        np.arange(start, min(start + batch_size, len(counts))) for start in range(0, len(counts), batch_size)
    ]
    share = padding_share(counts, plan_for_replicas(counts, 1, batch_size))
    assert 0.0 <= share <= padding_share(counts, as_given) + 1e-12


@given(lengths, st.integers(1, 2048), st.integers(1, 8))
def test_a_plan_is_no_slower_than_full_batches(counts: IntArray, batch_tokens: int, replicas: int) -> None:
    batches = plan_for_replicas(counts, replicas, None, batch_tokens)
    plain = [np.asarray(batch) for batch in _full_batches(counts, None, batch_tokens)]
    cost = Cost().learned(10, 22.0).learned(100, 112.0)  # 12 and 1 a token
    planned_s, plain_s = (plan_seconds(CallPlan(plan, replicas), counts, cost) for plan in (batches, plain))
    assert planned_s <= plain_s + 1e-6


def test_texts_of_unlike_length_make_more_batches_than_the_limit_needs() -> None:
    """One batch of 8 x 60 tokens would be two thirds padding."""
    counts = np.asarray([60, 58, 22, 20, 8, 8, 7, 6])
    assert [batch.tolist() for batch in plan_for_replicas(counts, 1, None, 512)] == [
        [0],
        [1],
        [2, 3],
        [4, 5, 6, 7],
    ]


def test_a_plan_for_replicas_leaves_none_idle() -> None:
    """For two replicas, five batches become six, and one batch becomes two."""
    counts = np.full(100, 10)
    assert [len(batch) for batch in plan_for_replicas(counts, 2, None, 220)] == [17, 17, 17, 17, 17, 15]
    assert [len(batch) for batch in plan_for_replicas(counts, 1, None, 220)] == [22, 22, 22, 22, 12]
    assert [len(batch) for batch in plan_for_replicas(counts, 2, None, 1000)] == [50, 50]
    assert [len(batch) for batch in plan_for_replicas(counts[:1], 2, None, 1000)] == [1]


def test_texts_of_the_same_length_keep_their_order() -> None:
    batches = plan_for_replicas(np.asarray([2, 3, 2, 3, 2]), 1, 2)
    assert [batch.tolist() for batch in batches] == [[1, 3], [0, 2], [4]]


def test_padding_share_is_the_share_of_padding_among_computed_tokens() -> None:
    counts = np.asarray([2, 4, 4, 2])
    assert padding_share(counts, [np.asarray([0, 1]), np.asarray([2, 3])]) == pytest.approx(4 / 16)
    assert padding_share(counts, [np.asarray([1, 2]), np.asarray([0, 3])]) == 0.0
    assert padding_share(counts[:0], []) == 0.0


def _cost(fixed_ms: float, token_ms: float) -> Cost:
    return Cost().learned(10, fixed_ms + 10 * token_ms).learned(100, fixed_ms + 100 * token_ms)


# A batch on all of two cores, and on one of them: the second core takes 40 % off the time of a large one.
COSTS = {1: _cost(0.8, 0.06), 2: _cost(1.0, 0.10)}


@pytest.mark.parametrize(
    ("counts", "replicas", "batches"),
    [
        ([12], 1, [[0]]),  # 1.52 against 2.2 ms
        ([12, 12], 2, [[0], [1]]),  # 2.24 against 2.2 ms
        ([12, 12, 12, 200], 1, [[3], [0, 1, 2]]),  # 15.76 against 21 ms
        ([10, 20, 30, 40], 2, [[3], [2], [1], [0]]),
    ],
)
def test_a_call_goes_where_it_is_faster(counts: list[int], replicas: int, batches: list[list[int]]) -> None:
    plan = plan_call(np.asarray(counts), COSTS, batch_tokens=512)
    assert (plan.replicas, [batch.tolist() for batch in plan.batches]) == (replicas, batches)


def test_the_seconds_of_a_plan_are_those_of_its_busiest_replica() -> None:
    """Batches of 40, 30, 20 and 10 tokens: the first replica gets the first and the last."""
    counts = np.asarray([40, 30, 20, 10])
    batches = [np.asarray([index]) for index in range(4)]
    assert plan_seconds(CallPlan(batches, 1), counts, COSTS[1]) == pytest.approx(4 * 0.8 + 6.0)
    assert plan_seconds(CallPlan(batches, 2), counts, COSTS[2]) == pytest.approx(2 * 1.0 + 5.0)
    assert plan_seconds(CallPlan([], 2), counts[:0], COSTS[2]) == 0.0


@pytest.mark.parametrize(("share", "replicas"), [(1.0, 2), (0.92, 2), (0.9, 1)])
def test_one_replica_with_all_cores_has_to_be_expected_a_tenth_faster(share: float, replicas: int) -> None:
    """Two texts of 10 tokens: one batch of 20 on one replica, or one of 10 on each of two."""
    token_s = {1: share * 0.5, 2: 1.0}
    costs = {
        count: Cost().learned(10, 10 * seconds).learned(100, 100 * seconds)
        for count, seconds in token_s.items()
    }
    assert plan_call(np.asarray([10, 10]), costs).replicas == replicas
