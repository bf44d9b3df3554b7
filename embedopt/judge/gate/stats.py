"""The statistics of a verdict: one value a process pair, so that the spread between pairs counts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from scipy import special

# Chance of detecting the smallest effect that is quoted.
_POWER = 0.9
# Nominal chance that normal values have an outlier: 1.3 to 1.9 % by simulation, with 6 to 15 values. One
# value in three may be one.
_OUTLIER_LEVEL, _VALUES_PER_OUTLIER = 0.01, 3
# Logarithms of times that differ by less differ only by the rounding of floats.
SAME = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean log ratio with its confidence interval from ``low`` to ``high``, and its standard error."""

    mean: float
    low: float
    high: float
    error: float
    pairs: int

    @property
    def p_not_above(self) -> float:
        """The p-value of the one-sided t test against "not above 0"."""
        # Without spread, any mean but 0 is certain.
        t = self.mean / self.error if self.error > 0 else math.copysign(math.inf, self.mean)
        return float(special.stdtr(self.pairs - 1, -t)) if self.mean else 0.5


def estimate(log_ratios: Sequence[float], level: float) -> Estimate:
    """Return the mean of pairs' log ratios with its Student interval, each end of which misses at ``level``.

    ``log_ratios`` has at least two values, one for each process pair. With six pairs, Student's interval is
    narrower than those of rank tests, and a far value widens it instead of turning the verdict.
    Identical values have an interval of no width.
    """
    pairs = len(log_ratios)
    mean = math.fsum(log_ratios) / pairs
    # Plain Python: error rates take a million estimates, and arrays of six values are ten times as slow.
    variance = math.fsum([(value - mean) ** 2 for value in log_ratios]) / (pairs - 1)
    error = math.sqrt(variance / pairs)
    half = _quantile(pairs - 1, 1 - level) * error
    return Estimate(mean=mean, low=mean - half, high=mean + half, error=error, pairs=pairs)


def split_outliers(log_ratios: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the log ratios that are no outliers, in any order, and the outliers, the farthest first.

    The generalised extreme Studentised deviate test, for up to a third of the values: two outliers do not
    hide each other (Rosner 1983, Technometrics 25, 165-172).
    """
    kept, removed, outliers = list(log_ratios), list[float](), 0
    for _ in range(len(log_ratios) // _VALUES_PER_OUTLIER):
        mean = math.fsum(kept) / len(kept)
        removed.append(max(kept, key=lambda value: abs(value - mean)))
        kept.remove(removed[-1])
        if _is_outlier(removed[-1], estimate(kept, _OUTLIER_LEVEL)):
            outliers = len(removed)
    return kept + removed[outliers:], removed[:outliers]


def _is_outlier(value: float, others: Estimate) -> bool:
    """Return whether the farthest value is too far from the others; where they are identical, it is not.

    Any of them may have been the farthest: the level is divided by their number, and by two for both sides.
    """
    error = others.error * math.sqrt(others.pairs + 1)
    quantile = _quantile(others.pairs - 1, 1 - _OUTLIER_LEVEL / (2 * (others.pairs + 1)))
    return others.error > SAME and error * quantile < abs(value - others.mean)


@cache
def _quantile(degrees: int, share: float) -> float:
    """Return a quantile of Student's t."""
    return float(special.stdtrit(degrees, share))


def fewest_pairs(level: float) -> int:
    """Return the smallest number of pairs that a verdict at ``level`` may rest on.

    A test that assumes only symmetry, by flipping the signs of pairs, has ``2 ** (1 - n)`` as its smallest
    p-value: with fewer pairs, even a verdict on one cell would rest on the assumed normal distribution alone.
    The flag of one cell among many does rest on it, so fresh pairs have to confirm it.
    """
    return max(3, 1 + math.ceil(-math.log2(level)))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values adjusted for their number, in their order (Holm 1979, Scand. J. Statist. 6, 65-70)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)


def smallest_effect(known: Estimate, level: float) -> float:
    """Return the minimum detectable effect: the log ratio that a one-sided test detects 9 times out of 10.

    It is (t of the level + t of the power) standard errors, which errs on the large side with few pairs
    (Bloom 1995, Evaluation Review 19, 547-556).
    """
    degrees = known.pairs - 1
    return (_quantile(degrees, 1 - level) + _quantile(degrees, _POWER)) * known.error


def share(log_ratio: float) -> float:
    """Return a log ratio as a share: 0.05 is 5 % slower."""
    return math.expm1(log_ratio)
