"""What to encode next, what it will cost, and whom to refuse: no clock, no thread.

The policy is work-conserving. It has no timer: there are only two moments at which something can be
decided, when a request comes and when a replica is free, and a free replica never waits. While all
are busy the queue grows, and what has gathered goes next.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from embedopt.errors import UsageError

# Of the promise, how long a batch may take: a request may wait for one batch and be in the next, on a
# machine that is not always on time. By simulation with the costs of onnx-int8 on two replicas, the highest
# rate within a p99 of 50 ms is flat from a fifth to a third, and falls on both sides.
_BATCH_SHARE = 0.25
# A batch weighs 1 % less in what is learnt with each one that follows: half after 69.
_DECAY = 0.99
# A stall of the machine says nothing of what a batch costs: no batch counts for more than this many times
# what was expected.
_OUTLIER = 4.0
# Below this share of its largest possible value, the spread of lengths tells no base from a slope.
_LEAST_SPREAD = 1e-3
# Of 1 % that a p99 allows; the rest is for what comes before it is learnt, and for a stalling machine.
_LATE_SHARE = 0.003
_ROOM_STEP = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the batcher's owner wants.

    Attributes:
        promise_ms: the 99th percentile of the time from arrival to answer that accepted requests are held to.
        max_waiting: requests in the queue, at most.
        batch_tokens: padded tokens in a batch of more than one text, at most. A batch whose activations leave
            a core's cache is slower per token.
    """

    promise_ms: float = 50.0
    max_waiting: int = 1024
    batch_tokens: int = 512

    def __post_init__(self) -> None:
        if not 0.0 < self.promise_ms < math.inf:
            raise UsageError(f"promise_ms is {self.promise_ms}; wanted milliseconds above 0")
        for name in ("max_waiting", "batch_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; wanted 1 or more")

    @property
    def promise_s(self) -> float:
        """The promise in seconds."""
        return self.promise_ms / 1e3


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of a batch as ``base_s + token_s * padded tokens``, learnt by decayed least squares.

    The sums are of weights 1 / tokens, since the spread of a batch's time grows with its size.
    """

    weight: float = 0.0
    count: float = 0.0
    tokens: float = 0.0
    seconds_per_token: float = 0.0
    total_s: float = 0.0

    def learned(self, tokens: int, seconds: float) -> "Cost":
        """Return what is known after a batch of ``tokens`` padded tokens took ``seconds``."""
        if self.count > 1.0:
            seconds = min(seconds, _OUTLIER * self.seconds(tokens))
        return Cost(
            weight=_DECAY * self.weight + 1 / tokens,
            count=_DECAY * self.count + 1,
            tokens=_DECAY * self.tokens + tokens,
            seconds_per_token=_DECAY * self.seconds_per_token + seconds / tokens,
            total_s=_DECAY * self.total_s + seconds,
        )

    @property
    def base_s(self) -> float:
        """Seconds that a batch takes whatever is in it."""
        return self._line[0]

    @property
    def token_s(self) -> float:
        """Seconds that a padded token takes."""
        return self._line[1]

    def seconds(self, tokens: float) -> float:
        """Return what a batch of ``tokens`` padded tokens is expected to take; 0 before the first batch."""
        base_s, token_s = self._line
        return base_s + token_s * tokens

    @cached_property  # each request that comes asks for it several times
    def _line(self) -> tuple[float, float]:
        if not self.count:
            return 0.0, 0.0
        spread = self.weight * self.tokens - self.count**2
        if spread > _LEAST_SPREAD * self.weight * self.tokens:
            slope = (self.weight * self.total_s - self.count * self.seconds_per_token) / spread
            base = (self.seconds_per_token - slope * self.count) / self.weight
            if base >= 0.0 and slope >= 0.0:
                return base, slope
            if slope < 0.0:
                return self.seconds_per_token / self.weight, 0.0
        return 0.0, self.total_s / self.tokens


class Waiting(Protocol):
    """A request in the queue.

    Attributes:
        tokens: of its text.
        due_s: when it should be answered.
        deadline_s: when an answer is of no use any more; infinity for never.
    """

    tokens: int
    due_s: float
    deadline_s: float


def hopeless(request: Waiting, now_s: float, cost: Cost) -> bool:
    """Return whether a request would miss its deadline even if it were encoded now and alone."""
    return now_s + cost.seconds(request.tokens) > request.deadline_s


def pick(waiting: Sequence[Waiting], free: int, cost: Cost, limits: Limits) -> list[int]:
    """Choose the next batch.

    The most urgent request is always in it, so that none starves. Around it gather the texts of nearest
    length, as long as each makes a second of computing yield more tokens that are no padding.

    Args:
        waiting: the queue, not empty.
        free: replicas that have nothing to do; they share what waits.
        cost: of a batch.
        limits: of the batcher.

    Returns:
        Indices into ``waiting``.
    """
    order = sorted(range(len(waiting)), key=lambda index: waiting[index].tokens)
    lengths = [waiting[index].tokens for index in order]
    budget = min(batch_budget(cost, limits), math.ceil(sum(lengths) / free))
    urgent = min(range(len(order)), key=lambda place: (waiting[order[place]].due_s, order[place]))
    low, high = _gather(lengths, urgent, budget, cost)
    return order[low:high]


def _gather(lengths: Sequence[int], urgent: int, budget: float, cost: Cost) -> tuple[int, int]:
    """Widen the stretch ``[urgent, urgent + 1)`` of sorted lengths while that pays; return its ends."""
    base_s, token_s = cost.base_s, cost.token_s
    low, high, useful = urgent, urgent + 1, lengths[urgent]
    best = _yield(useful, base_s + token_s * useful)
    while True:
        wider = [
            (_yield(useful + lengths[new], base_s + token_s * padded), start, end, useful + lengths[new])
            for start, end, new in ((low - 1, high, low - 1), (low, high + 1, high))
            if start >= 0 and end <= len(lengths)
            if (padded := lengths[end - 1] * (end - start)) <= budget
        ]
        if not wider or max(wider)[0] < best:
            return low, high
        best, low, high, useful = max(wider)


def _yield(useful: int, seconds: float) -> float:
    return useful / seconds if seconds else math.inf


def batch_budget(cost: Cost, limits: Limits) -> int:
    """Return how many padded tokens a batch may have, so that it takes a fixed share of the promise."""
    base_s, token_s = cost.base_s, cost.token_s
    room_s = limits.promise_s * _BATCH_SHARE - base_s
    return max(1, min(limits.batch_tokens, int(room_s / token_s) if token_s else limits.batch_tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What a new request finds.

    Attributes:
        waiting_tokens: of all texts in the queue.
        busy_s: what the replicas still have to do, added up.
        replicas: batches that are encoded at a time.
    """

    waiting_tokens: int
    busy_s: float
    replicas: int


def expected_latency_s(tokens: int, backlog: Backlog, cost: Cost, limits: Limits) -> float:
    """Return how long a request of ``tokens`` tokens will take, if it comes now."""
    budget = max(batch_budget(cost, limits), tokens)  # a text longer than the budget is a batch of its own
    all_tokens = backlog.waiting_tokens + tokens
    own_s = cost.seconds(min(all_tokens, budget))
    work_s = cost.base_s * math.ceil(all_tokens / budget) + cost.token_s * all_tokens
    return (backlog.busy_s + max(work_s - own_s, 0.0)) / backlog.replicas + own_s


def learned_room_s(room_s: float, latencies_s: Sequence[float], limits: Limits) -> float:
    """Return the longest expected latency to accept, after a batch of answers that took ``latencies_s``.

    A batch with an answer later than promised lowers it, each answer raises it a little, so that it settles
    where fewer are late than a p99 allows. It is a step of the gradient of the pinball loss (Koenker and
    Bassett, Regression Quantiles, Econometrica 46, 1978); a batch counts once, since a stall is one event.
    """
    promise_s = limits.promise_s
    late = max(latencies_s) > promise_s
    moved_s = room_s - promise_s * _ROOM_STEP * (late - _LATE_SHARE * len(latencies_s))
    return min(max(moved_s, promise_s / 4), promise_s)
