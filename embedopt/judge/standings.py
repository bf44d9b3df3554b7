"""What backends that took turns say about each other: ratios of the same round, with their spread."""

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
    """One backend in one case; None for what can't be said.

    Attributes:
        backend: its name.
        texts_per_s: median over the rounds.
        over_reference: its texts per second over those of the reference one by one.
        default_over: the default backend's texts per second over its own.
        p50_ms: of calls with one text.
        p99_ms: likewise.
        roofline_share: of plain products of its precision that its texts' own tokens amount to, padding not
            counted.
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
    found = [
        Standing(
            backend=name,
            texts_per_s=float(np.median(turns.texts_per_s)),
            over_reference=_ratio(turns.texts_per_s, reference.one_by_one_per_s) if reference else None,
            default_over=_ratio(default.texts_per_s, turns.texts_per_s) if default else None,
            p50_ms=turns.p50_ms,
            p99_ms=turns.p99_ms,
            roofline_share=_share(run.backends[name].precision, turns.texts_per_s, case),
        )
        for name, turns in case.turns.items()
    ]
    return tuple(sorted(found, key=lambda standing: -standing.texts_per_s))


def _ratio(rates: Sequence[float], others: Sequence[float]) -> Ratio:
    ratios = np.asarray(rates) / np.asarray(others)
    return Ratio(median=float(np.median(ratios)), low=float(ratios.min()), high=float(ratios.max()))


def _share(precision: str, rates: Sequence[float], case: SideBySideCase) -> float | None:
    roofs = case.roofline_per_s.get(precision)
    if not roofs:
        return None
    operations = case.mean_tokens * case.operations_per_token
    return float(np.median(np.asarray(rates) * operations / np.asarray(roofs)))
