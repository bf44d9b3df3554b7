"""Which batches a call makes of its texts, and whether replicas share them: decided from data alone.

Measured times choose the number of replicas only. For a number of replicas the batches are always the same,
since with some backends an embedding depends on its batch.
"""

import bisect
import heapq
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from embedopt.inference.cost import Cost
from embedopt.inference.encoder import CallPlan, IntArray

# With more batches than this for each replica, a replica that idles at the end costs less than about 1 %.
_FEW_BATCHES = 32
# The fixed cost of a batch is about that of this many tokens: 0.5 ms and 0.045 ms a token with onnx-int8 on a
# core.
_BATCH_AS_TOKENS = 12
# Fewer replicas have several cores each, which wait for the slowest at every operator. The small batches that
# are timed show too little of that: with onnx-int8 on two cores that neighbours share, both ways looked equal
# to 2 %, and calls with 32 texts took 5 to 25 % longer with one replica.
_SHARED_CORES = 1.1
# More batches have less padding and a higher fixed cost: so many numbers of batches a replica are compared.
_COMPARED = 4


def plan_call(
    token_counts: IntArray,
    costs: Mapping[int, Cost],
    batch_size: int | None = None,
    batch_tokens: int | None = None,
) -> CallPlan:
    """Choose the fastest plan of a call.

    Args:
        token_counts: ``(n,)``, number of tokens of each text.
        costs: what a batch costs, by the number of replicas among which the cores are shared; at least one.
        batch_size: largest number of texts in a batch; None for no limit.
        batch_tokens: largest number of padded tokens in a batch of several texts; None for no limit.
    """
    plans = [
        CallPlan(plan_for_replicas(token_counts, replicas, batch_size, batch_tokens), replicas)
        for replicas in costs
    ]
    most = max(costs)
    return min(
        plans,
        key=lambda plan: (
            (1.0 if plan.replicas == most else _SHARED_CORES)
            * plan_seconds(plan, token_counts, costs[plan.replicas])
        ),
    )


def plan_seconds(plan: CallPlan, token_counts: IntArray, cost: Cost) -> float:
    """Return the expected seconds of a plan, each batch going to the replica that is free first."""
    return _busiest((cost.seconds(tokens) for tokens in _padded(token_counts, plan.batches)), plan.replicas)


def plan_for_replicas(
    token_counts: IntArray, replicas: int, batch_size: int | None = None, batch_tokens: int | None = None
) -> list[IntArray]:
    """Group texts of like length into batches, the longest first, that keep all replicas busy to the end.

    While batches are few, a plan with more of them may be faster: with five batches for two replicas, one
    replica would idle for a sixth of the time; one batch of unlike lengths is mostly padding.

    Returns:
        Indices into ``token_counts`` for each batch; each index is in exactly one batch. Texts of the same
        length keep their order.
    """
    order, lengths = _longest_first(token_counts)
    ends = _cut(lengths, batch_size, batch_tokens)
    if len(lengths) > 1 and len(ends) <= _FEW_BATCHES * replicas:
        ends = _evened(lengths, replicas, batch_size, batch_tokens)
    return _batches(order, ends)


def _evened(
    lengths: Sequence[int], replicas: int, batch_size: int | None, batch_tokens: int | None
) -> list[int]:
    """Compare several numbers of batches; return the ends of those with which all replicas are done first."""
    largest = lengths[0] * len(lengths) if batch_tokens is None else batch_tokens
    limits = range(min(lengths[0], largest), largest + 1)
    widest = _cut(lengths, batch_size, largest)
    fewest = -(-len(widest) // replicas) * replicas
    compared = [widest, list(range(1, len(lengths) + 1))]
    for count in range(fewest, min(fewest + _COMPARED * replicas, len(lengths) + 1), replicas):
        # The smallest limit on tokens that needs at most ``count`` batches makes the most even ones.
        smallest = bisect.bisect_left(
            limits, -count, key=lambda limit: -len(_cut(lengths, batch_size, limit))
        )
        compared.append(_cut(lengths, batch_size, limits[smallest]))
    return min(
        compared,
        key=lambda ends: _busiest(
            (
                _BATCH_AS_TOKENS + lengths[start] * (end - start)
                for start, end in zip([0, *ends], ends, strict=False)
            ),
            replicas,
        ),
    )


def _longest_first(token_counts: IntArray) -> tuple[IntArray, list[int]]:
    """Return the indices of the texts and their lengths, at least 1, the longest text first."""
    order = np.argsort(-token_counts, kind="stable")
    return order, np.maximum(token_counts[order], 1).tolist()


def _cut(lengths: Sequence[int], batch_size: int | None, batch_tokens: int | None) -> list[int]:
    """Return the end of each batch in the sorted ``lengths``."""
    ends, start = [], 0
    while start < len(lengths):
        size = len(lengths) if batch_tokens is None else max(batch_tokens // lengths[start], 1)
        start = min(start + (size if batch_size is None else min(size, batch_size)), len(lengths))
        ends.append(start)
    return ends


def _batches(order: IntArray, ends: Sequence[int]) -> list[IntArray]:
    return [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def padding_share(token_counts: IntArray, batches: Sequence[IntArray]) -> float:
    """Return the share of padding among all tokens that a model computes for the batches, in [0, 1)."""
    computed = sum(_padded(token_counts, batches))
    return 1.0 - int(token_counts.sum()) / computed if computed else 0.0


def _padded(token_counts: IntArray, batches: Iterable[IntArray]) -> list[int]:
    """Return the number of tokens of each batch, padding included."""
    return [len(batch) * max(int(token_counts[batch].max()), 1) for batch in batches]


def _busiest(batches: Iterable[float], replicas: int) -> float:
    """Return how long the busiest replica works when each batch goes to the one that is free first."""
    free = [0.0] * replicas
    for batch in batches:
        heapq.heapreplace(free, free[0] + batch)
    return max(free)
