"""Open-loop load generator for a server in the same process, or for an endpoint.

Arrival times are drawn before the run and kept whatever the server does, and the latency of a request counts
from its intended arrival: a server that stalls can't put off the requests that would show the stall (no
coordinated omission).
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from embedopt.clock import Clock
from embedopt.errors import MeasureError, Overloaded, Refused
from embedopt.inference.encoder import FloatArray
from embedopt.measure.latency import percentiles
from embedopt.measure.load_test.servers import SentRequest, Server
from embedopt.records import LoadPoint

Times = NDArray[np.float64]

P99_SHARE = 0.99
# A single arrival, at the start, has no rate.
LEAST_ARRIVALS = 2
# Where the generator sends 1 % of the requests later than this share of the promise, the run measures the
# generator rather than the server.
_LATE_PROMISE_SHARE = 0.2
# Longest time from the last arrival to the last answer.
_PATIENCE_S = 20.0


def poisson(rate_per_s: float, seconds: float, seed: int = 0) -> Times:
    """Draw Poisson arrivals, those of many independent callers: ``(n,)`` seconds, ascending.

    They are scaled so that the last one is at ``n / rate_per_s``: the rate is exactly the one that was asked
    for, however few arrivals are drawn. They remain Poisson arrivals, since given the time of the last one,
    those before it are independent and uniform (order statistics).
    """
    number = math.ceil(rate_per_s * seconds)
    drawn = np.cumsum(np.random.default_rng(seed).exponential(size=number))
    return np.asarray(drawn / drawn[-1:] * (number / rate_per_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The requests of a load test.

    Attributes:
        texts: texts that are sent in this order, over and over.
        promise_ms: latency within which a request should be answered.
        alone: ``(len(texts), dim) float32``, the same texts encoded one by one, which the answers are
            compared with; None for no comparison.
        cpu_clock: returns CPU seconds, to find those that sending takes: of the sending thread where the
            server is in this process, otherwise of this process.
    """

    texts: Sequence[str]
    promise_ms: float
    alone: FloatArray | None = None
    cpu_clock: Clock = time.thread_time


@dataclass(slots=True, eq=False)
class _Log:
    """Outcome of each request, written by the generator and by the server's threads."""

    traffic: Traffic
    clock: Clock
    started_s: float
    answered_s: Times
    sent_s: Times
    cpu_s: float = 0.0
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
            if isinstance(future, SentRequest) and future.sent_s is not None:
                self.sent_s[number] = future.sent_s - self.started_s
            error = None if future.cancelled() else future.exception()
            if isinstance(error, Refused):
                self.refused_after_s.append(ended_s - self.sent_s[number])
            else:
                self.settled += 1
            self.changed.notify()
            if future.cancelled() or error is not None:
                return
            self.answered_s[number] = ended_s
            if self.traffic.alone is not None:
                self._compare(future.result(), self.traffic.alone[number % len(self.traffic.alone)])

    def _compare(self, answer: FloatArray, alone: FloatArray) -> None:
        lengths = np.linalg.norm(answer) * np.linalg.norm(alone)
        cosine = float(answer @ alone / lengths) if lengths else 0.0
        self.worst_cosine = float(np.minimum(self.worst_cosine, cosine))  # propagates NaN


def drive(
    server: Server,
    arrivals_s: Times,
    traffic: Traffic,
    *,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> LoadPoint:
    """Send a request at each arrival time, on this thread, and wait for all answers.

    ``arrivals_s`` has the ``(n,)`` intended arrivals, in seconds from now, ascending.

    Raises:
        MeasureError: there are too few arrivals to have a rate.
    """
    if len(arrivals_s) < LEAST_ARRIVALS:
        raise MeasureError(
            f"a load test of {len(arrivals_s)} requests has no rate; wanted {LEAST_ARRIVALS} or more: "
            "measure for longer"
        )
    log = _send_all(server, arrivals_s, traffic, clock, sleep)
    with log.changed:
        return _summary(log, arrivals_s)


def latencies_ms(
    server: Server,
    arrivals_s: Times,
    traffic: Traffic,
    *,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> list[float | None]:
    """Send requests as :func:`drive` does; return the latency of each, None for one without an answer."""
    log = _send_all(server, arrivals_s, traffic, clock, sleep)
    with log.changed:
        latencies = (1e3 * (log.answered_s - arrivals_s)).tolist()
    return [None if math.isnan(latency) else latency for latency in latencies]


def _send_all(
    server: Server, arrivals_s: Times, traffic: Traffic, clock: Clock, sleep: Callable[[float], None]
) -> _Log:
    unknown_s = np.full(len(arrivals_s), np.nan)
    log = _Log(traffic, clock, clock(), answered_s=unknown_s, sent_s=unknown_s.copy())
    cpu_s = traffic.cpu_clock()
    for number, arrival_s in enumerate(arrivals_s.tolist()):
        while (left_s := log.started_s + arrival_s - clock()) > 0:
            sleep(left_s)
        log.send(server, number)
    log.cpu_s = traffic.cpu_clock() - cpu_s
    with log.changed:
        log.changed.wait_for(
            lambda: log.settled + len(log.refused_after_s) == len(arrivals_s), timeout=_PATIENCE_S
        )
    return log


def _summary(log: _Log, arrivals_s: Times) -> LoadPoint:
    requests, refused = len(arrivals_s), len(log.refused_after_s)
    seconds = float(arrivals_s[-1])
    promise_s = log.traffic.promise_ms / 1e3
    latencies_s = log.answered_s - arrivals_s
    latencies_s = latencies_s[~np.isnan(latencies_s)]
    lateness_s = float(np.quantile(log.sent_s - arrivals_s, P99_SHARE))
    point = LoadPoint(
        rate_per_s=requests / seconds,
        seconds=seconds,
        refused_share=refused / requests,
        refusal_ms=max(log.refused_after_s) * 1e3 if refused else None,
        lost=requests - refused - len(latencies_s),
        worst_cosine=None if log.worst_cosine == math.inf else log.worst_cosine,
        generator_cpu=log.cpu_s / seconds,
        late_ms=1e3 * lateness_s,
        fell_behind=lateness_s > promise_s * _LATE_PROMISE_SHARE,
    )
    if point.fell_behind:
        return point
    kept_share = float(np.sum(latencies_s <= promise_s)) / requests
    # The intervals take the answers for independent; in a queue, neighbours share their delay, so that the
    # true intervals are wider.
    return replace(point, kept_share=kept_share, **percentiles(latencies_s.tolist()))
