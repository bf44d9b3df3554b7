"""A slow-down of a known size: real work added to a call, so that a gate can be tried on it."""

from collections import defaultdict, deque
from collections.abc import Callable

import numpy as np

# Some 10 us of arithmetic on one core, in its cache.
_VALUES = np.linspace(0.0, 1.0, 2048, dtype=np.float32)
_REMEMBERED = 31
_UNIT_TRIES = 201


class ExtraWork:
    """Knows what calls of each kind take, and does a share of it again as plain arithmetic.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
        self._unit_s: float | None = None
        self._result = np.empty_like(_VALUES)

    def learn(self, kind: str, seconds: float) -> None:
        """Remember what an unchanged call of a kind took."""
        self._seconds[kind].append(seconds)

    def units(self, kind: str, share: float) -> int:
        """Return how much :meth:`work` takes ``share`` of a call of a kind: 0 before one was learned."""
        if not share or not self._seconds[kind]:
            return 0
        if self._unit_s is None:
            self._unit_s = float(np.median([self._timed_unit() for _ in range(_UNIT_TRIES)]))
        return round(share * float(np.median(self._seconds[kind])) / self._unit_s)

    def work(self, units: int) -> None:
        """Do the work."""
        for _ in range(units):
            np.tanh(_VALUES, out=self._result)

    def _timed_unit(self) -> float:
        started_s = self._clock()
        self.work(1)
        return self._clock() - started_s
