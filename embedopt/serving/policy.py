"""Batching policy: which requests to encode next, what a batch costs, which requests to refuse.

No clock and no thread: times and requests are arguments. The policy is work-conserving and has no timer. It
decides at two moments only, when a request arrives and when a replica becomes free, and a free replica never
waits. While all replicas are busy the queue grows, and the next batch is chosen from it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from embedopt.errors import UsageError
from embedopt.inference.cost import Cost
from embedopt.serving.queue import Request

# Share of the promised latency that a batch may take: a request may wait for one batch and be encoded in the
# next, and the machine may stall. In a simulation with the costs of onnx-int8 on two replicas, shares from a
# fifth to a third reached the same highest rate with a p99 of 50 ms; smaller and larger ones reached less.
_BATCH_SHARE = 0.25
# Share of late answers at which the bound settles. A p99 allows 1 %; the rest is left for late answers before
# the bound has settled, and for stalls of the machine.
_LATE_SHARE = 0.003
# A late batch lowers the bound by about this share of the promise.
_BOUND_STEP = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a batcher.

    Attributes:
        promise_ms: latency from arrival to answer that 99 % of the accepted requests are to meet.
        max_waiting: largest number of requests in the queue.
        batch_tokens: largest number of padded tokens in a batch of more than one text. A batch whose
            activations leave a core's cache is slower per token.
    """

    promise_ms: float = 50.0
    max_waiting: int = 1024
    batch_tokens: int = 512

    def __post_init__(self) -> None:
        if not 0.0 < self.promise_ms < math.inf:
            raise UsageError(f"promise_ms is {self.promise_ms}; wanted milliseconds above 0")
        for name in ("max_waiting", "batch_tokens"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} is {value!r}; wanted a whole number, 1 or more")

    @property
    def promise_s(self) -> float:
        """The promise in seconds."""
        return self.promise_ms / 1e3


def misses_deadline(request: Request, now_s: float, cost: Cost) -> bool:
    """Return whether a request would miss its deadline even if it were encoded now and alone."""
    return now_s + cost.seconds(request.tokens) > request.deadline_s


def choose_batch(waiting: Sequence[Request], free_replicas: int, cost: Cost, limits: Limits) -> list[int]:
    """Choose the requests of the next batch.

    The request that is due first is always among them, so that none starves. Texts of the nearest lengths
    join it while each raises the number of tokens, without padding, that are encoded in a second. The free
    replicas, this one among them, share the waiting tokens equally. At least one request has to wait.

    Returns:
        Indices into ``waiting``.
    """
    order = sorted(range(len(waiting)), key=lambda index: waiting[index].tokens)
    lengths = [waiting[index].tokens for index in order]
    budget = min(batch_budget(cost, limits), math.ceil(sum(lengths) / free_replicas))
    urgent = min(range(len(order)), key=lambda position: (waiting[order[position]].due_s, order[position]))
    low, high = _widened(lengths, urgent, budget, cost)
    return order[low:high]


def _widened(lengths: Sequence[int], urgent: int, budget: float, cost: Cost) -> tuple[int, int]:
    """Widen the range ``[urgent, urgent + 1)`` while more tokens a second are encoded; return its ends."""
    low, high, useful = urgent, urgent + 1, lengths[urgent]
    best = _tokens_per_s(useful, cost.seconds(useful))
    while True:
        wider = [
            (_tokens_per_s(useful + lengths[new], cost.seconds(padded)), start, end, useful + lengths[new])
            for start, end, new in ((low - 1, high, low - 1), (low, high + 1, high))
            if start >= 0 and end <= len(lengths)
            if (padded := lengths[end - 1] * (end - start)) <= budget
        ]
        if not wider or max(wider)[0] < best:
            return low, high
        best, low, high, useful = max(wider)


def _tokens_per_s(tokens: int, seconds: float) -> float:
    return tokens / seconds if seconds else math.inf


def batch_budget(cost: Cost, limits: Limits) -> int:
    """Return how many padded tokens a batch may have to take at most a fixed share of the promise."""
    if not cost.token_s:
        return limits.batch_tokens
    left_s = limits.promise_s * _BATCH_SHARE - cost.fixed_s
    return max(1, min(limits.batch_tokens, int(left_s / cost.token_s)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The work that is ahead of a new request.

    Attributes:
        waiting_tokens: number of tokens in the queue.
        busy_s: sum of the remaining seconds of the batches that are being encoded.
        replicas: number of replicas that share the work.
    """

    waiting_tokens: int
    busy_s: float
    replicas: int


def expected_latency_s(tokens: int, backlog: Backlog, cost: Cost, limits: Limits) -> float:
    """Return the expected seconds from arrival to answer of a new request of ``tokens`` tokens."""
    budget = max(batch_budget(cost, limits), tokens)  # a text longer than the budget is a batch of its own
    all_tokens = backlog.waiting_tokens + tokens
    own_s = cost.seconds(min(all_tokens, budget))
    work_s = cost.fixed_s * math.ceil(all_tokens / budget) + cost.token_s * all_tokens
    return (backlog.busy_s + max(work_s - own_s, 0.0)) / backlog.replicas + own_s


def adjusted_bound_s(bound_s: float, latencies_s: Sequence[float], limits: Limits) -> float:
    """Return the new bound on the expected latency of accepted requests, after a batch was answered.

    A batch with an answer later than promised lowers the bound, and each answer raises it a little: it
    settles where fewer answers are late than a p99 allows. This is a gradient step on the pinball loss
    (Koenker and Bassett, Regression Quantiles, Econometrica 46, 1978). A batch counts as late once, however
    many of its answers are, since a stall of the machine is one event.
    """
    promise_s = limits.promise_s
    is_late = max(latencies_s) > promise_s
    moved_s = bound_s - promise_s * _BOUND_STEP * (is_late - _LATE_SHARE * len(latencies_s))
    return min(max(moved_s, promise_s / 4), promise_s)
