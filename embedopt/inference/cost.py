"""What a batch costs: a line through the batches that were timed."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from statistics import median

# Each new batch lowers the weight of all earlier ones by 1 %: a batch has half of its weight after 69.
_DECAY = 0.99
# A stall of the machine says nothing about the cost of a batch: no batch counts for more than this many
# times its expected time.
_OUTLIER = 4.0
# Where the spread of the batch sizes is below this share of its largest possible value, it can't separate
# the fixed cost from the cost of a token.
_LEAST_SPREAD = 1e-3
# Number of times that each batch is timed; their median counts. Two are too few: of twelve processes of the
# same code on a busy machine, two chose the slower way of sharing the cores, and kept to it.
_REPEATS = 6


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Time of a batch as ``fixed_s + token_s * padded tokens``, learnt by decayed weighted least squares.

    A batch weighs 1 / tokens in the fit, since the spread of its time grows with its size.

    Attributes:
        weight: decayed sum of 1 / tokens over the batches.
        batches: decayed number of batches.
        tokens: decayed sum of padded tokens.
        seconds_per_token: decayed sum of seconds / tokens.
        total_s: decayed sum of seconds.
    """

    weight: float = 0.0
    batches: float = 0.0
    tokens: float = 0.0
    seconds_per_token: float = 0.0
    total_s: float = 0.0

    def learned(self, tokens: int, seconds: float) -> "Cost":
        """Return the cost after one more batch, of ``tokens`` padded tokens, took ``seconds``."""
        if self.batches > 1.0:
            seconds = min(seconds, _OUTLIER * self.seconds(tokens))
        return Cost(
            weight=_DECAY * self.weight + 1 / tokens,
            batches=_DECAY * self.batches + 1,
            tokens=_DECAY * self.tokens + tokens,
            seconds_per_token=_DECAY * self.seconds_per_token + seconds / tokens,
            total_s=_DECAY * self.total_s + seconds,
        )

    @property
    def fixed_s(self) -> float:
        """Seconds that every batch takes, whatever its size."""
        return self._line[0]

    @property
    def token_s(self) -> float:
        """Seconds that each padded token adds."""
        return self._line[1]

    def seconds(self, tokens: float) -> float:
        """Return the expected seconds of a batch of ``tokens`` padded tokens; 0 before the first batch."""
        fixed_s, token_s = self._line
        return fixed_s + token_s * tokens

    @cached_property  # used several times for each request that arrives
    def _line(self) -> tuple[float, float]:
        if not self.batches:
            return 0.0, 0.0
        spread = self.weight * self.tokens - self.batches**2
        if spread > _LEAST_SPREAD * self.weight * self.tokens:
            token_s = (self.weight * self.total_s - self.batches * self.seconds_per_token) / spread
            fixed_s = (self.seconds_per_token - token_s * self.batches) / self.weight
            if fixed_s >= 0.0 and token_s >= 0.0:
                return fixed_s, token_s
            if token_s < 0.0:
                return self.seconds_per_token / self.weight, 0.0
        return 0.0, self.total_s / self.tokens


def measured_cost(
    batches: Iterable[tuple[int, Callable[[], object]]], clock: Callable[[], float] = time.perf_counter
) -> Cost:
    """Time calls and return what a batch costs; see :func:`measured_costs`."""
    [cost] = measured_costs([batches], clock)
    return cost


def measured_costs(
    ways: Iterable[Iterable[tuple[int, Callable[[], object]]]],
    clock: Callable[[], float] = time.perf_counter,
) -> list[Cost]:
    """Time calls and return what a batch costs in each way of encoding it.

    The ways take turns: a busy moment of the machine slows all of them, and leaves the fastest the fastest.

    Args:
        ways: of each way, padded tokens of each batch, and the call that encodes it.
        clock: returns seconds.
    """
    batches_of_ways = [list(batches) for batches in ways]
    timed = [
        (way, tokens, encode) for way, batches in enumerate(batches_of_ways) for tokens, encode in batches
    ]
    for _, _, encode in timed:
        encode()  # the first call of a shape may be slow
    rounds = [[_seconds(encode, clock) for _, _, encode in timed] for _ in range(_REPEATS)]
    costs = [Cost() for _ in batches_of_ways]
    for (way, tokens, _), seconds in zip(timed, zip(*rounds, strict=True), strict=True):
        costs[way] = costs[way].learned(tokens, median(seconds))
    return costs


def _seconds(encode: Callable[[], object], clock: Callable[[], float]) -> float:
    started_s = clock()
    encode()
    return clock() - started_s
