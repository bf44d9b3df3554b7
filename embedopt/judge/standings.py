"""Speed ratios between backends that took turns on the same texts, round by round."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embedopt.records import Run, SideBySideCase


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """The median over the rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One backend in one case; None for what was not measured.

    Attributes:
        texts_per_s: median over the rounds.
        over_reference: ``texts_per_s`` over the reference's texts per second one by one.
        default_over: the default backend's ``texts_per_s`` over this one's.
        p50_ms: median time of calls with one text.
        p99_ms: 99th percentile of the same calls.
        roofline_share: operations per second on the texts' own tokens, without padding, as a share of those
            that plain matrix products of the backend's precision reach on the same cores.
    """

    backend: str
    texts_per_s: float
    over_reference: Ratio | None
    default_over: Ratio | None
    p50_ms: float | None
    p99_ms: float | None
    roofline_share: float | None


def standings(run: Run, case: SideBySideCase) -> tuple[Standing, ...]:
    """Return the backends of a case, the fastest first."""
    reference, default = case.turns.get(run.reference), case.turns.get(case.default)
    unsorted = [
        Standing(
            backend=name,
            texts_per_s=float(np.median(turns.texts_per_s)),
            over_reference=_ratio(turns.texts_per_s, reference.one_by_one_per_s) if reference else None,
            default_over=_ratio(default.texts_per_s, turns.texts_per_s) if default else None,
            p50_ms=turns.p50_ms,
            p99_ms=turns.p99_ms,
            roofline_share=_roofline_share(run.backends[name].precision, turns.texts_per_s, case),
        )
        for name, turns in case.turns.items()
    ]
    return tuple(sorted(unsorted, key=lambda standing: -standing.texts_per_s))


def _ratio(rates: Sequence[float], others: Sequence[float]) -> Ratio:
    ratios = np.asarray(rates) / np.asarray(others)
    return Ratio(median=float(np.median(ratios)), low=float(ratios.min()), high=float(ratios.max()))


def _roofline_share(precision: str, texts_per_s: Sequence[float], case: SideBySideCase) -> float | None:
    rooflines_per_s = case.roofline_per_s.get(precision)
    if not rooflines_per_s:
        return None
    operations_per_text = case.mean_tokens * case.operations_per_token
    return float(np.median(np.asarray(texts_per_s) * operations_per_text / np.asarray(rooflines_per_s)))
