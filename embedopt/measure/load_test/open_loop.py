"""What do the people feel who wait? Open-loop load on a server in this process.

Arrival times are drawn beforehand and kept whatever the server does, and a latency counts from the intended
arrival: a server that stalls can't put off the requests that would show it (no coordinated omission).
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

from embedopt.errors import MeasureError, Overloaded
from embedopt.inference.encoder import FloatArray
from embedopt.measure.latency import Clock
from embedopt.measure.load_test.servers import Server
from embedopt.records import LoadPoint

Times = NDArray[np.float64]

# From 1 us to 100 s, to three digits.
_HISTOGRAM = (1, 100_000_000, 3)
# A generator that sends 1 % of its requests later than this share of the promise has measured itself.
_LATE_PROMISE_SHARE = 0.2
P99_SHARE = 0.99
# One that comes at the start tells no rate.
LEAST_ARRIVALS = 2
# After the last arrival, this is how long the answers may take.
_PATIENCE_S = 20.0


def poisson(rate_per_s: float, seconds: float, seed: int = 0) -> Times:
    """Draw the arrivals of many callers who know nothing of each other: ``(n,)`` seconds, ascending.

    They are scaled so that the last comes at ``n / rate_per_s``: they come at the rate that is asked for, not
    at what a few draws make of it. They are Poisson's all the same, since given the time of the last, those
    before it are spread evenly and without regard to each other (uniform order statistics).
    """
    number = math.ceil(rate_per_s * seconds)
    drawn = np.cumsum(np.random.default_rng(seed).exponential(size=number))
    return np.asarray(drawn / drawn[-1:] * (number / rate_per_s))


def constant(rate_per_s: float, seconds: float) -> Times:
    """Return arrivals at equal distances: ``(n,)`` seconds."""
    return np.asarray(np.arange(math.ceil(rate_per_s * seconds)) / rate_per_s)


def bursts(rate_per_s: float, seconds: float, size: int, seed: int = 0) -> Times:
    """Draw arrivals of ``size`` requests at a time, at ``rate_per_s`` requests a second on average."""
    return np.repeat(poisson(rate_per_s / size, seconds, seed), size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What arrives.

    Attributes:
        texts: over and over, in this order.
        promise_ms: what the answers are held to.
        alone: ``(len(texts), dim) float32``, the same texts encoded one by one, to hold the answers against.
    """

    texts: Sequence[str]
    promise_ms: float
    alone: FloatArray | None = None


@dataclass(slots=True, eq=False)
class _Log:
    """What happened to each request; written by the generator and by the server's threads."""

    traffic: Traffic
    clock: Clock
    started_s: float
    answered_s: Times
    sent_s: Times
    refused_after_s: list[float] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)  # guards what `settle` writes
    settled: int = 0
    worst_cosine: float = math.inf

    def send(self, server: Server, number: int) -> None:
        texts = self.traffic.texts
        self.sent_s[number] = self.clock() - self.started_s
        try:
            future = server.submit(texts[number % len(texts)])
        except Overloaded:
            self.refused_after_s.append(self.clock() - self.started_s - self.sent_s[number])
            return
        future.add_done_callback(partial(self.settle, number))

    def settle(self, number: int, future: "Future[FloatArray]") -> None:
        ended_s = self.clock() - self.started_s
        with self.changed:
            self.settled += 1
            self.changed.notify()
            if future.cancelled() or future.exception() is not None:
                return
            self.answered_s[number] = ended_s
            alone = self.traffic.alone
            if alone is not None:
                cosine = float(future.result() @ alone[number % len(alone)])
                self.worst_cosine = min(self.worst_cosine, cosine)


def drive(
    server: Server,
    arrivals_s: Times,
    traffic: Traffic,
    *,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> LoadPoint:
    """Send a request at each of ``arrivals_s``, on this thread, and wait for all answers.

    Raises:
        MeasureError: there are too few arrivals to tell a rate.
    """
    if len(arrivals_s) < LEAST_ARRIVALS:
        raise MeasureError(
            f"requests to send: {len(arrivals_s)}; wanted {LEAST_ARRIVALS} or more: measure for longer"
        )
    nothing = np.full(len(arrivals_s), np.nan)
    log = _Log(traffic, clock, clock(), nothing, nothing.copy())
    cpu_s = time.thread_time()
    for number, arrival_s in enumerate(arrivals_s.tolist()):
        while (left_s := log.started_s + arrival_s - clock()) > 0:
            sleep(left_s)
        log.send(server, number)
    cpu_s = time.thread_time() - cpu_s
    with log.changed:
        log.changed.wait_for(
            lambda: log.settled + len(log.refused_after_s) == len(arrivals_s), timeout=_PATIENCE_S
        )
        return _summary(log, arrivals_s, cpu_s)


def _summary(log: _Log, arrivals_s: Times, cpu_s: float) -> LoadPoint:
    requests, refused = len(arrivals_s), len(log.refused_after_s)
    seconds = float(arrivals_s[-1])
    promise_s = log.traffic.promise_ms / 1e3
    latencies_s = log.answered_s - arrivals_s
    answered_s = latencies_s[~np.isnan(latencies_s)]
    lateness_s = float(np.quantile(log.sent_s - arrivals_s, P99_SHARE))
    point = LoadPoint(
        rate_per_s=requests / seconds,
        seconds=seconds,
        refused_share=refused / requests,
        refusal_ms=max(log.refused_after_s) * 1e3 if refused else None,
        lost=requests - refused - len(answered_s),
        worst_cosine=log.worst_cosine if log.worst_cosine < math.inf else None,
        generator_cpu=cpu_s / seconds,
        fell_behind=lateness_s > promise_s * _LATE_PROMISE_SHARE,
    )
    if point.fell_behind:
        return point
    p50_ms, p95_ms, p99_ms = _percentiles_ms(answered_s)
    kept_share = float(np.sum(answered_s <= promise_s)) / requests
    return replace(point, kept_share=kept_share, p50_ms=p50_ms, p95_ms=p95_ms, p99_ms=p99_ms)


def _percentiles_ms(latencies_s: Times) -> list[float | None]:
    if not len(latencies_s):
        return [None, None, None]
    histogram = HdrHistogram(*_HISTOGRAM)
    for latency_s in latencies_s.tolist():
        histogram.record_value(max(round(latency_s * 1e6), 1))
    return [histogram.get_value_at_percentile(percent) / 1e3 for percent in (50, 95, 99)]
