"""Why the log ratios of identical sides differ between process pairs.

Only more pairs reduce the part that is the luck of two processes. More calls, or a calmer machine, reduce the
part that differs from moment to moment. What base and head have in common cancels; it is shown separately.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from embedopt.evidence import TRIMMED_SHARE, Cell, ProcessPair, SlowdownSamples
from embedopt.judge.gate.stats import SAME

_Floats = NDArray[np.float64]
# Two halves of two quads each.
_FEWEST_CALLS, _FEWEST_PAIRS = 8, 4
PARTS = ("process", "order", "texts", "neighbours")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairVariance:
    """Spread of a cell's log ratios over process pairs of identical sides, and its parts.

    Attributes:
        mean: mean log ratio, which should be 0 for identical code.
        error: standard error of the mean.
        spread: standard deviation of the log ratios.
        shares: shares of the variance: ``process``, ``order`` (whether base or head is started first),
            ``texts`` (longer texts have another ratio than shorter ones) and ``neighbours`` (the two halves
            of a pair's calls differ). Empty where a pair has few calls, or one value.
        cancelled: standard deviation over pairs of what base and head have in common, the texts and the
            machine; None where a pair has few calls.
    """

    cell: Cell
    pairs: int
    mean: float
    error: float
    spread: float
    shares: Mapping[str, float] = field(default_factory=dict)
    cancelled: float | None = None


def pair_variances(collected: SlowdownSamples) -> tuple[PairVariance, ...]:
    """Return the parts of each cell's variance; cells with few pairs are left out."""
    return tuple(
        _pair_variance(sample.cell, sample.pairs)
        for sample in collected.samples
        if sample.slowdown == 0 and len(sample.pairs) >= _FEWEST_PAIRS
    )


def _pair_variance(cell: Cell, pairs: tuple[ProcessPair, ...]) -> PairVariance:
    log_ratios = np.array([pair.log_ratio for pair in pairs])
    variance = float(np.var(log_ratios, ddof=1))
    whole = PairVariance(
        cell=cell,
        pairs=len(pairs),
        mean=float(log_ratios.mean()),
        error=float(np.sqrt(variance / len(pairs))),
        spread=float(np.sqrt(variance)),
    )
    has_parts = all(len(pair.base_ms) >= _FEWEST_CALLS for pair in pairs)
    return _with_parts(whole, log_ratios, pairs) if has_parts else whole


def _with_parts(known: PairVariance, log_ratios: _Floats, pairs: tuple[ProcessPair, ...]) -> PairVariance:
    quads = [(_quads(pair.base_ms), _quads(pair.head_ms)) for pair in pairs]
    texts = _variance_by_texts(quads)
    moments = float(np.mean([_variance_by_moment(head - base) for base, head in quads]))
    parts = {
        "order": _variance_by_order(log_ratios),
        "texts": texts,
        "neighbours": max(moments - texts, 0.0),
    }
    # Each part is an estimate: together they may exceed the whole, and then nothing is left.
    whole = max(known.spread**2, sum(parts.values()))
    parts = {"process": whole - sum(parts.values()), **parts}
    return replace(
        known,
        shares={name: part / whole if whole else 0.0 for name, part in parts.items()},
        cancelled=float(np.std([(base + head).mean() / 2 for base, head in quads], ddof=1)),
    )


def _quads(calls_ms: tuple[float, ...]) -> _Floats:
    """Return the mean logarithm of the two calls that one side has in each quad."""
    logs: _Floats = np.log(np.reshape(calls_ms, (-1, 2))).mean(axis=1)
    return logs


def _variance_by_order(log_ratios: _Floats) -> float:
    """Return the variance that comes from which side is started first: it alternates from pair to pair."""
    first, second = log_ratios[::2], log_ratios[1::2]
    by_chance = np.var(first, ddof=1) / len(first) + np.var(second, ddof=1) / len(second)
    return float(max((first.mean() - second.mean()) ** 2 - by_chance, 0.0)) / 4


def _variance_by_texts(quads: list[tuple[_Floats, _Floats]]) -> float:
    """Return the variance that comes from a pair's texts, where the ratio depends on the time of a call."""
    sizes = [(base + head) / 2 - (base + head).mean() / 2 for base, head in quads]
    ratios = [head - base - (head - base).mean() for base, head in quads]
    if min(np.abs(np.concatenate(values)).max() for values in (sizes, ratios)) < SAME:
        return 0.0
    # Imported here: it takes half a second, and every command imports this file.
    from scipy import stats

    fit = stats.linregress(np.concatenate(sizes), np.concatenate(ratios))
    slope_squared = max(fit.slope**2 - fit.stderr**2, 0.0)
    return float(slope_squared * np.mean([size.var(ddof=1) / len(size) for size in sizes]))


def _variance_by_moment(logs: _Floats) -> float:
    """Return the variance that comes from when calls are made: the early half of a pair against the late."""
    from scipy import stats

    early, late = np.array_split(logs, 2)
    difference = stats.trim_mean(early, TRIMMED_SHARE) - stats.trim_mean(late, TRIMMED_SHARE)
    return float(difference) ** 2 / 4
