"""Decision rules of other benchmark tools, used as baselines.

Each takes the times of the calls of base and head, as if they were independent, and returns whether it would
report the head as slower.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Calls = NDArray[np.floating[Any]]
Rule = Callable[[Calls, Calls], bool]

# Criterion draws 100,000; an end of a 95 % interval is steady enough for a yes or no with 1,000.
_RESAMPLES = 1000


def compare_fail(base: Calls, head: Calls) -> bool:
    """``--benchmark-compare-fail=median:10%`` of pytest-benchmark."""
    return bool(np.median(head) > 1.10 * np.median(base))


def benchstat(base: Calls, head: Calls) -> bool:
    """Go's benchstat: the medians differ, by a Mann-Whitney test at 0.05."""
    return bool(np.median(head) > np.median(base) and _mann_whitney(base, head) < 0.05)


def asv(base: Calls, head: Calls) -> bool:
    """``asv continuous``: a Mann-Whitney test at 0.002, and a factor of 1.1 between the medians."""
    return bool(np.median(head) > 1.1 * np.median(base) and _mann_whitney(base, head) < 0.002)


def criterion(base: Calls, head: Calls) -> bool:
    """Criterion.rs: the bootstrapped 95 % interval of the ratio of means lies above a noise of 1 %."""
    rng = np.random.default_rng(0)
    low = np.quantile(_resampled_means(head, rng) / _resampled_means(base, rng), 0.025)
    return bool(low > 1.01)


OTHER_TOOLS: Mapping[str, Rule] = {
    "median + 10 % (pytest-benchmark)": compare_fail,
    "Mann-Whitney 0.05 (benchstat)": benchstat,
    "p < 0.002 and 1.1x (asv)": asv,
    "bootstrap interval (criterion)": criterion,
}


def _mann_whitney(base: Calls, head: Calls) -> float:
    # Imported here: it takes half a second, and every command imports this file.
    from scipy import stats

    return float(stats.mannwhitneyu(base, head, alternative="two-sided").pvalue)


def _resampled_means(calls: Calls, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    drawn = rng.integers(len(calls), size=(_RESAMPLES, len(calls)))
    means: NDArray[np.floating[Any]] = calls[drawn].mean(axis=1)
    return means
