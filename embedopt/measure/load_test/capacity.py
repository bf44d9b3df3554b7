"""How much load can a server take? Rates to try, a search, and what comes of it."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count

import numpy as np

from embedopt.inference.encoder import Encoder, FloatArray
from embedopt.measure.footprint import resident_bytes
from embedopt.measure.latency import Clock
from embedopt.measure.load_test.open_loop import LEAST_ARRIVALS, P99_SHARE, Traffic, drive, poisson
from embedopt.measure.load_test.servers import BATCHINGS, Batching, open_server
from embedopt.measure.options import LoadTestPlan
from embedopt.records import LoadPoint, LoadTest

# Where the search begins, as a share of the rate one by one.
_FIRST_SHARE = 0.5
_STRIDE = 1.5
_STRIDES_UP = 6
# The reference, whose single calls take a third of the promise, keeps it at low rates only.
_STRIDES_DOWN = 5
_STEP_DOWN = 0.97
_LEAST_REQUESTS = 100
_OVERLOAD = 3.0
# A run is made so often, where the generator was late, or where the promise was missed by so little that a
# stall of the machine may have done it.
_ATTEMPTS = 2
_NEAR_SHARE = 0.9


def keeps_promise(point: LoadPoint) -> bool:
    """Return whether 99 % of all requests were answered within the promise: a refusal is a miss."""
    return point.kept_share is not None and point.kept_share >= P99_SHARE


def highest_rate(
    measure: Callable[[float, bool], LoadPoint], first_per_s: float, steps: int
) -> tuple[float | None, tuple[LoadPoint, ...]]:
    """Search the highest rate that keeps the promise, and verify the answer.

    From ``first_per_s`` it goes up by half until the promise is missed, at most six times, or down until it
    is kept, at most five times. Then it halves the ratio of the two rates ``steps`` times, unless even the
    last on the way up kept the promise. While a longer, verifying run misses it, it lowers the rate by 3 %.
    A rate that misses by little is tried twice.

    Args:
        measure: does one run at a rate, a longer one where it is told that it verifies.
        first_per_s: to begin with.
        steps: bisections.

    Returns:
        The rate, or None, and all runs. A run in which the generator fell behind keeps no promise.
    """
    runs: list[LoadPoint] = []

    def keeps(rate_per_s: float, *, verifying: bool = False) -> bool:
        for _attempt in range(_ATTEMPTS):
            runs.append(measure(rate_per_s, verifying))
            if keeps_promise(runs[-1]):
                return True
            if (runs[-1].kept_share or 0.0) < _NEAR_SHARE:
                break
        return False

    low_per_s = high_per_s = first_per_s
    if keeps(first_per_s):
        for _ in range(_STRIDES_UP):
            high_per_s *= _STRIDE
            if not keeps(high_per_s):
                break
            low_per_s = high_per_s
    else:
        for _ in range(_STRIDES_DOWN):
            low_per_s, high_per_s = low_per_s / _STRIDE, low_per_s
            if keeps(low_per_s):
                break
        else:
            return None, tuple(runs)
    best_per_s = low_per_s
    for _ in range(steps if low_per_s < high_per_s else 0):
        middle_per_s = math.sqrt(best_per_s * high_per_s)
        if keeps(middle_per_s):
            best_per_s = middle_per_s
        else:
            high_per_s = middle_per_s
    while not keeps(best_per_s, verifying=True):
        best_per_s *= _STEP_DOWN
        if best_per_s < low_per_s / _STRIDE:
            return None, tuple(runs)
    return best_per_s, tuple(runs)


class CapacityTest:
    """Puts load on one encoder behind different ways of batching.

    Args:
        encoder: with all its replicas.
        texts: that arrive.
        promise_ms: what the p99 is held to.
        plan: how much is measured.
    """

    def __init__(self, encoder: Encoder, texts: Sequence[str], promise_ms: float, plan: LoadTestPlan) -> None:
        self._encoder, self._plan = encoder, plan
        texts = texts[: plan.texts]
        self._traffic = Traffic(texts=texts, promise_ms=promise_ms, alone=_one_by_one(encoder, texts))
        self._single_per_s = single_rate(encoder, texts, plan.point_s)

    def measure(self) -> dict[Batching, LoadTest]:
        """Measure fixed rates, the highest that keeps the promise and, adaptively, three times that."""
        # Rate by rate: what is compared at a rate runs in the same mood of the machine.
        curves: dict[Batching, list[LoadPoint]] = {batching: [] for batching in BATCHINGS}
        for share in self._plan.shares:
            for batching, points in curves.items():
                points.append(self._point(batching, share * self._single_per_s, self._plan.point_s))
        return {batching: self._searched(batching, points) for batching, points in curves.items()}

    def _searched(self, batching: Batching, points: Sequence[LoadPoint]) -> LoadTest:
        plan = self._plan
        highest_per_s: float | None = None
        searched: tuple[LoadPoint, ...] = ()
        overload, growth_bytes = None, None
        if plan.search_steps:
            highest_per_s, searched = highest_rate(
                lambda rate, verifying: self._point(
                    batching, rate, plan.verify_s if verifying else plan.point_s
                ),
                _FIRST_SHARE * self._single_per_s,
                plan.search_steps,
            )
        if highest_per_s and plan.overload_s and batching == "adaptive":
            before_bytes = resident_bytes()
            overload = self._point(batching, _OVERLOAD * highest_per_s, plan.overload_s)
            growth_bytes = resident_bytes() - before_bytes
        runs = (*points, *searched, *((overload,) if overload else ()))
        return LoadTest(
            replicas=self._encoder.replicas,
            promise_ms=self._traffic.promise_ms,
            single_per_s=self._single_per_s,
            highest_per_s=highest_per_s,
            worst_cosine=min(
                (run.worst_cosine for run in runs if run.worst_cosine is not None), default=None
            ),
            points=(*points, *searched),
            overload=overload,
            overload_growth_bytes=growth_bytes,
        )

    def _point(self, batching: Batching, rate_per_s: float, seconds: float) -> LoadPoint:
        """Drive a new server; other arrivals at each rate, the same for each way of batching."""
        seconds = max(seconds, min(_LEAST_REQUESTS / rate_per_s, 2 * seconds), LEAST_ARRIVALS / rate_per_s)
        arrivals_s = poisson(rate_per_s, seconds, seed=round(rate_per_s))
        for _attempt in range(_ATTEMPTS):
            with closing(open_server(batching, self._encoder, self._traffic.promise_ms)) as server:
                point = drive(server, arrivals_s, self._traffic)
            if not point.fell_behind:
                break
        return point


def _one_by_one(encoder: Encoder, texts: Sequence[str]) -> FloatArray:
    return np.concatenate([encoder.encode([text]) for text in texts])


def single_rate(
    encoder: Encoder, texts: Sequence[str], seconds: float, clock: Clock = time.perf_counter
) -> float:
    """Return how many texts a second the replicas encode one by one, each with the next text at hand."""
    ends_s, turns = clock() + seconds, count()

    def encode() -> int:
        done = 0
        while clock() < ends_s:
            encoder.encode([texts[next(turns) % len(texts)]], 1)
            done += 1
        return done

    with ThreadPoolExecutor(encoder.replicas) as pool:
        started_s = clock()
        calls = [pool.submit(encode) for _ in range(encoder.replicas)]
        encoded = sum(call.result() for call in calls)
        return encoded / (clock() - started_s)
