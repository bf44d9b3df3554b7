"""Change points of a series, and the prediction interval of its next value."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ruptures
from numpy.typing import NDArray
from scipy import special

from embedopt.judge.history.series import Series

# The fewest runs that a prediction rests on, and for which a change has to persist.
FEWEST_RUNS = 5
# How much a change has to explain, in variances of the noise times log(runs). At 3, 1,000 runs of noise alone
# show no change, and a step of 8 % in noise of 3 % is detected within two runs of its place
# (tests/judge/history/test_trend.py).
_PENALTY = 3.0
# False alarm rate of a series of noise alone, shared by all runs at which a change could be. A short series
# estimates the noise in the penalty badly: without this level, 5 % of series of 20 runs showed a change.
_LEVEL = 0.01
# Turns the median absolute difference of neighbours into the standard deviation of a normal distribution.
_MAD_TO_SD = 1.4826 / math.sqrt(2)
# Values that repeat exactly, such as a cosine or the size of a file, have no noise but rounding.
_LEAST_NOISE = 1e-6

Values = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change point: ``at`` is the index of the first run of the new level.

    ``effect`` is a share where changes are ratios, else a difference.
    """

    at: int
    effect: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The runs ``start`` to ``stop`` (exclusive) between two change points.

    In the units of the series, 95 % of such runs lie between ``low`` and ``high``.
    """

    start: int
    stop: int
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The position of a value in the prediction interval of the values since the last change before it.

    Attributes:
        runs: number of earlier runs that the prediction rests on.
        missing: number of runs that a prediction still needs; if above 0, effect and interval are None.
        effect: change from the mean of those runs to the value: a share where changes are ratios.
        interval: interval in which 95 % of next values lie, as effects.
        p_two_sided: chance of a value at least as far off without a change; 1 without a prediction.
    """

    runs: int
    missing: int = 0
    effect: float | None = None
    interval: tuple[float, float] | None = None
    p_two_sided: float = 1.0


def changes(series: Series) -> tuple[Change, ...]:
    """Return the changes of a series that persist for five runs and exceed the noise of a single run.

    Each also passes a t test between the runs before and after it. The search is PELT on the mean (Killick,
    Fearnhead and Eckley 2012, J. Am. Stat. Assoc. 107, 1590-1598), by ruptures.
    """
    values = _transformed(series.values, is_log=series.is_log)
    if len(values) < 2 * FEWEST_RUNS:
        return ()
    noise = _noise(values)
    search = ruptures.KernelCPD(kernel="linear", min_size=FEWEST_RUNS)
    ends = search.fit_predict((values / noise).reshape(-1, 1), pen=_PENALTY * math.log(len(values)))
    kept = _without_weak(values, [int(end) for end in ends[:-1]], noise)
    return tuple(
        Change(at=at, effect=_effect(after - before, is_log=series.is_log))
        for at, (before, after) in zip(kept, itertools.pairwise(_medians(values, kept)), strict=True)
    )


def position_of(value: float, earlier: Series) -> Position:
    """Return the position of a value in the prediction interval of the values since their last change.

    The interval is Student's, for one more value of a normal distribution: mean ± t · s · sqrt(1 + 1/n).
    """
    since = ([change.at for change in changes(earlier)] or [0])[-1]
    known = _transformed(earlier.values[since:], is_log=earlier.is_log)
    runs = len(known)
    if runs < FEWEST_RUNS:
        return Position(runs=runs, missing=FEWEST_RUNS - runs)
    offset = float(_transformed([value], is_log=earlier.is_log)[0] - known.mean())
    half = _half_width(known)
    return Position(
        runs=runs,
        effect=_effect(offset, is_log=earlier.is_log),
        interval=(_effect(-half, is_log=earlier.is_log), _effect(half, is_log=earlier.is_log)),
        p_two_sided=2 * float(special.stdtr(runs - 1, -abs(offset / _prediction_error(known)))),
    )


def levels(series: Series, changed: Sequence[Change]) -> tuple[Level, ...]:
    """Return the parts of a series between its changes that have enough runs for a prediction interval.

    The interval is that of :func:`position_of`, in the units of the series.
    """
    ends = [0, *(change.at for change in changed), len(series.values)]
    return tuple(
        _level(series, start, stop) for start, stop in itertools.pairwise(ends) if stop - start >= FEWEST_RUNS
    )


def _level(series: Series, start: int, stop: int) -> Level:
    known = _transformed(series.values[start:stop], is_log=series.is_log)
    middle, half = float(known.mean()), _half_width(known)
    interval = (middle - half, middle + half)
    low, high = (math.exp(end) for end in interval) if series.is_log else interval
    return Level(start=start, stop=stop, low=low, high=high)


def _half_width(known: Values) -> float:
    runs = len(known)
    return float(special.stdtrit(runs - 1, 0.975)) * _prediction_error(known)


def _prediction_error(known: Values) -> float:
    return max(float(known.std(ddof=1)), _LEAST_NOISE) * math.sqrt(1 + 1 / len(known))


def _transformed(values: Sequence[float], *, is_log: bool) -> Values:
    numbers = np.asarray(values, dtype=float)
    return np.log(numbers) if is_log else numbers


def _effect(step: float, *, is_log: bool) -> float:
    return math.expm1(step) if is_log else step


def _noise(values: Values) -> float:
    """Return the spread of a single run, from differences of neighbours: a few changes barely affect it."""
    return max(_LEAST_NOISE, _MAD_TO_SD * float(np.median(np.abs(np.diff(values)))))


def _medians(values: Values, at: Sequence[int]) -> list[float]:
    """Return the median of each part; a median is robust to a bad day of the machine."""
    return [float(np.median(part)) for part in np.split(values, at)]


def _without_weak(values: Values, at: list[int], noise: float) -> list[int]:
    """Drop weak changes, the smallest first: those within the noise, due to chance, or short-lived."""
    while weak := [
        step
        for step in _steps(values, at)
        if step.size <= noise or step.runs < FEWEST_RUNS or step.p >= _LEVEL / len(values)
    ]:
        smallest = min(weak, key=lambda step: step.size)
        at = [index for index in at if index != smallest.at]
    return at


@dataclass(frozen=True, slots=True)
class _Step:
    """A candidate for a change point, between an old and a new level.

    Attributes:
        runs: runs after the change that are nearer to the new level than to the old one.
        p: p-value of Student's t test between the runs of both levels.
    """

    at: int
    size: float
    runs: int
    p: float


def _steps(values: Values, at: Sequence[int]) -> list[_Step]:
    medians, parts = _medians(values, at), np.split(values, at)
    steps = []
    neighbours = zip(at, itertools.pairwise(medians), itertools.pairwise(parts), strict=True)
    for index, (before, after), (old, new) in neighbours:
        nearer = int(np.count_nonzero(np.abs(new - after) < np.abs(new - before)))
        steps.append(_Step(at=index, size=abs(after - before), runs=nearer, p=_p_two_sided(old, new)))
    return steps


def _p_two_sided(old: Values, new: Values) -> float:
    degrees = len(old) + len(new) - 2
    spread = math.sqrt((old.var() * len(old) + new.var() * len(new)) / degrees)
    error = max(spread, _LEAST_NOISE) * math.sqrt(1 / len(old) + 1 / len(new))
    return 2 * float(special.stdtr(degrees, -abs(new.mean() - old.mean()) / error))
