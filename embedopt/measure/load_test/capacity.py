"""Capacity of a server: latency over arrival rate, highest rate, memory under overload and in a soak."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import count

import numpy as np

from embedopt.clock import Clock
from embedopt.errors import MeasureError
from embedopt.inference.encoder import Encoder
from embedopt.measure.footprint import processes_of, resident_bytes
from embedopt.measure.load_test.open_loop import LEAST_ARRIVALS, P99_SHARE, Traffic, drive, poisson
from embedopt.measure.load_test.servers import Batching, batchings_of, open_server
from embedopt.measure.profiles import LoadTestPlan
from embedopt.records import LoadPoint, LoadTest

_STRIDE = 1.5
_STRIDES_UP = 6
_STEP_DOWN = 0.95
# Most runs at a rate: there is a second one where the generator fell behind, or where the promise was missed
# by so little that a stall of the machine may be the cause.
_ATTEMPTS = 2
_NEAR_SHARE = 0.9
_LEAST_REQUESTS = 100
_OVERLOAD = 3.0
_IN_WORDS: Mapping[Batching, str] = {
    "none": "without batching",
    "window": "a fixed window",
    "adaptive": "adaptive batching",
    "own": "its own batching",
}
_SOAK_SHARE = 0.8
_SOAK_PARTS = 4
_SOAK_RATE_S = 2.0


def keeps_promise(point: LoadPoint) -> bool:
    """Return whether 99 % of all requests were answered within the promise.

    A refused request was not, and a run in which the generator fell behind has no such share.
    """
    return point.kept_share is not None and point.kept_share >= P99_SHARE


class RateSearch:
    """Search for the highest arrival rate that keeps the promise; ``measure`` takes a rate and seconds.

    Attributes:
        runs: all runs, in their order.
    """

    def __init__(self, measure: Callable[[float, float], LoadPoint], plan: LoadTestPlan) -> None:
        self.runs: list[LoadPoint] = []
        self._measure, self._plan = measure, plan

    def highest_rate(self, points: Sequence[LoadPoint]) -> float | None:
        """Return the highest rate, or None where no rate keeps the promise.

        The search begins between the rates of ``points``, ascending, that keep the promise and miss it. Where
        none misses it, the search goes up by half until one does, at most six times; where none keeps it,
        down by a third, once. Then it bisects the ratio of the two rates, unless even the last rate up kept
        the promise. As long as a longer, verifying run misses the promise, the rate is lowered by
        5 %. A rate that misses by little is tried twice.
        """
        kept_per_s, missed_per_s = self._bracket(points)
        if kept_per_s is None:
            return None
        best_per_s = kept_per_s if missed_per_s is None else self._bisected(kept_per_s, missed_per_s)
        while not self._keeps(best_per_s, self._plan.verify_s):
            best_per_s *= _STEP_DOWN
            if best_per_s < kept_per_s / _STRIDE:
                return None
        return best_per_s

    def _keeps(self, rate_per_s: float, seconds: float) -> bool:
        for _ in range(_ATTEMPTS):
            self.runs.append(self._measure(rate_per_s, seconds))
            if keeps_promise(self.runs[-1]):
                return True
            if (self.runs[-1].kept_share or 0.0) < _NEAR_SHARE:
                break
        return False

    def _bracket(self, points: Sequence[LoadPoint]) -> tuple[float | None, float | None]:
        """Return the highest rate that keeps the promise, and the lowest above it that misses it."""
        kept = [point.rate_per_s for point in points if keeps_promise(point)]
        if not kept:
            return self._strode_down(points[0].rate_per_s)
        higher = [point.rate_per_s for point in points if point.rate_per_s > kept[-1]]
        return (kept[-1], higher[0]) if higher else self._strode_up(kept[-1])

    def _strode_up(self, kept_per_s: float) -> tuple[float, float | None]:
        for _ in range(_STRIDES_UP):
            if not self._keeps(kept_per_s * _STRIDE, self._plan.point_s):
                return kept_per_s, kept_per_s * _STRIDE
            kept_per_s *= _STRIDE
        return kept_per_s, None

    def _strode_down(self, missed_per_s: float) -> tuple[float | None, float]:
        # Once only. A server that misses the promise even at a fifth of the rate one by one, such as a fixed
        # window that is longer than the promise, is not worth more runs.
        lower_per_s = missed_per_s / _STRIDE
        is_kept = self._keeps(lower_per_s, self._plan.point_s)
        return (lower_per_s, missed_per_s) if is_kept else (None, lower_per_s)

    def _bisected(self, kept_per_s: float, missed_per_s: float) -> float:
        for _ in range(self._plan.search_steps):
            middle_per_s = math.sqrt(kept_per_s * missed_per_s)
            if self._keeps(middle_per_s, self._plan.point_s):
                kept_per_s = middle_per_s
            else:
                missed_per_s = middle_per_s
        return kept_per_s


class CapacityTest:
    """Load test of one encoder, with all its replicas, behind each way of batching.

    ``on_detail`` is called with the rate and the way of batching, in words, before each run.
    """

    def __init__(
        self,
        encoder: Encoder,
        texts: Sequence[str],
        promise_ms: float,
        plan: LoadTestPlan,
        on_detail: Callable[[str], None] = lambda _: None,
    ) -> None:
        texts = texts[: plan.texts]
        alone = np.concatenate([encoder.encode([text]) for text in texts])
        self._encoder, self._plan, self._on_detail = encoder, plan, on_detail
        cpu_clock = time.process_time if encoder.is_endpoint else time.thread_time
        self._traffic = Traffic(texts=texts, promise_ms=promise_ms, alone=alone, cpu_clock=cpu_clock)
        self._single_per_s = single_rate(encoder, texts, plan.point_s)

    def measure(self) -> dict[Batching, LoadTest]:
        """Measure fixed rates, the highest that keeps the promise and, for adaptive batching, an overload."""
        # Rate by rate: what is compared at a rate is measured at nearly the same time, on the same machine.
        curves: dict[Batching, list[LoadPoint]] = {batching: [] for batching in batchings_of(self._encoder)}
        for share in self._plan.shares:
            for batching, points in curves.items():
                points.append(self._point(batching, share * self._single_per_s, self._plan.point_s))
        return {batching: self._searched(batching, points) for batching, points in curves.items()}

    def _searched(self, batching: Batching, points: Sequence[LoadPoint]) -> LoadTest:
        search = RateSearch(partial(self._point, batching), self._plan)
        highest_per_s = overload = growth_bytes = None
        if self._plan.search_steps:
            highest_per_s = search.highest_rate(points)
        if highest_per_s and self._plan.overload_s and batching == "adaptive":
            before_bytes = resident_bytes()
            overload = self._point(batching, _OVERLOAD * highest_per_s, self._plan.overload_s)
            growth_bytes = resident_bytes() - before_bytes
        points = (*points, *search.runs)
        runs = (*points, overload) if overload else points
        cosines = [run.worst_cosine for run in runs if run.worst_cosine is not None]
        return LoadTest(
            replicas=self._encoder.replicas,
            promise_ms=self._traffic.promise_ms,
            single_per_s=self._single_per_s,
            highest_per_s=highest_per_s,
            worst_cosine=float(np.min(cosines)) if cosines else None,  # NaN where one is
            points=points,
            overload=overload,
            overload_growth_bytes=growth_bytes,
        )

    def _point(self, batching: Batching, rate_per_s: float, seconds: float) -> LoadPoint:
        """Measure a new server at a rate; all ways of batching get the same arrivals at the same rate."""
        seconds = max(seconds, min(_LEAST_REQUESTS / rate_per_s, 2 * seconds), LEAST_ARRIVALS / rate_per_s)
        self._on_detail(f"{_IN_WORDS[batching]}, {rate_per_s:,.0f} texts/s")
        arrivals_s = poisson(rate_per_s, seconds, seed=round(rate_per_s))
        for _ in range(_ATTEMPTS):
            with closing(open_server(batching, self._encoder, self._traffic.promise_ms)) as server:
                point = drive(server, arrivals_s, self._traffic)
            if not point.fell_behind:
                break
        return point


def single_rate(
    encoder: Encoder, texts: Sequence[str], seconds: float, clock: Clock = time.perf_counter
) -> float:
    """Return how many texts a second the replicas encode one by one, each always having a next text."""
    ends_s, numbers = clock() + seconds, count()

    def encode() -> int:
        encoded = 0
        while clock() < ends_s:
            encoder.encode([texts[next(numbers) % len(texts)]], 1)
            encoded += 1
        return encoded

    with ThreadPoolExecutor(encoder.replicas) as pool:
        started_s = clock()
        calls = [pool.submit(encode) for _ in range(encoder.replicas)]
        return sum(call.result() for call in calls) / (clock() - started_s)


def soak(
    encoder: Encoder, texts: Sequence[str], promise_ms: float, seconds: float
) -> dict[Batching, LoadTest]:
    """Measure how memory grows in a long load test at 80 % of the rate one by one.

    An endpoint gets the requests as they are, any other encoder those of the adaptive batcher. The memory is
    that of the processes that a declared row starts, else of this one; the growth is that from the end of the
    first quarter to the end of the last.

    Raises:
        MeasureError: the endpoint was started elsewhere, or requests were lost.
    """
    *_, batching = batchings_of(encoder)
    if encoder.is_endpoint and encoder.pid is None:
        raise MeasureError(
            f"{encoder.name} runs already, and its memory can't be read; wanted a target with `start`: "
            "add it to its table, or leave --soak-s out"
        )
    rate_per_s = _SOAK_SHARE * single_rate(encoder, texts, _SOAK_RATE_S)
    traffic = Traffic(texts=texts, promise_ms=promise_ms)
    sizes_bytes = []
    with closing(open_server(batching, encoder, promise_ms)) as server:
        for part in range(_SOAK_PARTS):
            point = drive(server, poisson(rate_per_s, seconds / _SOAK_PARTS, seed=part), traffic)
            if point.lost:  # the memory of what doesn't answer is flat, too
                raise MeasureError(
                    f"{encoder.name} lost {point.lost} requests of a soak; wanted all answers: see its log"
                )
            processes = [None] if encoder.pid is None else processes_of(encoder.pid)
            sizes_bytes.append(sum(map(resident_bytes, processes)))
    growth_bytes = sizes_bytes[-1] - sizes_bytes[0]
    return {
        batching: LoadTest(replicas=encoder.replicas, promise_ms=promise_ms, soak_growth_bytes=growth_bytes)
    }
