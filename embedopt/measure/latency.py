"""The time of one call: percentiles with confidence intervals."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, islice
from typing import Any

import numpy as np

from embedopt.clock import Clock
from embedopt.inference.encoder import CallPlan
from embedopt.records import Latency
from embedopt.schema import Interval

_COVERAGE = 0.95
_REPEATED_CALLS = 8


def rotate(texts: Sequence[str], batch_size: int) -> Iterator[list[str]]:
    """Yield batches without end; each continues in ``texts`` where the one before it stopped."""
    for start in count(0, batch_size):
        yield [texts[(start + offset) % len(texts)] for offset in range(batch_size)]


def as_new(batch: Sequence[str]) -> list[str]:
    """Return texts of about the same length that are new to all processes: a random number ends each."""
    first = random.randrange(9_000)
    return [f"{text} {1_000 + (first + place) % 9_000}" for place, text in enumerate(batch)]


def repeated_share(
    encode: Callable[[list[str]], object], batches: Iterator[list[str]], clock: Clock = time.perf_counter
) -> float:
    """Return the time of a repeated call over that of a new one: the median of a few of each.

    It is well below 1 for code that keeps results.
    """
    new_s, repeated_s = [], []
    for batch in islice(batches, _REPEATED_CALLS):
        new_s.append(seconds_of(partial(encode, batch), clock))
        repeated_s.append(seconds_of(partial(encode, batch), clock))
    return float(np.median(repeated_s) / max(np.median(new_s), 1e-9))


def rounds_for(seconds: float, call: Callable[[], object], clock: Clock = time.perf_counter) -> int:
    """Return how many calls fill ``seconds``, by the time of the second of two calls made now."""
    call()
    return max(1, math.ceil(seconds / max(seconds_of(call, clock), 1e-9)))


def seconds_of(call: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Return the seconds that one call takes."""
    started_s = clock()
    call()
    return clock() - started_s


def summarise(backend: str, batch_size: int, durations_s: Sequence[float]) -> Latency:
    """Summarise the timed calls of one benchmark; a percentile without an interval is left out."""
    calls = len(durations_s)
    return Latency(
        backend=backend,
        batch_size=batch_size,
        calls=calls,
        texts_per_s=batch_size * calls / float(sum(durations_s)),
        **percentiles(durations_s),
    )


def with_plans(latency: Latency, plans: Sequence[CallPlan]) -> Latency:
    """Return the record with the means of the plans of its calls."""
    return replace(
        latency,
        batches=float(np.mean([len(plan.batches) for plan in plans])),
        replicas=float(np.mean([plan.replicas for plan in plans])),
    )


def percentiles(durations_s: Sequence[float]) -> dict[str, Any]:
    """Return p50, p95 and p99 in ms, each with its 95 % interval, as fields of a record.

    A percentile that the sample is too small for has no interval (see :func:`quantile_interval`) and is left
    out.
    """
    ordered_ms = np.sort(np.asarray(durations_s)) * 1e3
    fields: dict[str, float | Interval] = {}
    for percent in (50, 95, 99):
        interval = quantile_interval(len(ordered_ms), percent / 100)
        if interval is not None:
            low, high = interval
            fields[f"p{percent}_ms"] = float(np.percentile(ordered_ms, percent))
            fields[f"p{percent}_ci_ms"] = (float(ordered_ms[low]), float(ordered_ms[high]))
    return fields


def quantile_interval(samples: int, quantile: float) -> tuple[int, int] | None:
    """Return the ranks, from 0, of the order statistics that enclose a quantile with 95 % confidence.

    The number of samples below the quantile is binomial, whatever the distribution of the times, so
    the interval needs no assumption about it (David and Nagaraja, Order Statistics, 3rd edition, 7.1).
    None when the sample is too small to have both bounds: a p99 takes 368 samples, a p95 72, a p50 6.
    """
    # Imported here: it takes over half a second, and a worker of the gate imports this module.
    from scipy import stats

    tail = (1 - _COVERAGE) / 2
    low = int(stats.binom.ppf(tail, samples, quantile)) - 1
    high = int(stats.binom.ppf(1 - tail, samples, quantile))
    return (low, high) if low >= 0 and high < samples else None
