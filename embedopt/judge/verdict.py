"""Did this change make anything slower, bigger or less faithful?

A time varies: its verdict rests on process pairs, and one that would fail is confirmed with fresh pairs first.
A score or a size does not: it fails at once beyond its own small threshold.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from embedopt.evidence import Against, PairedCell, Wanted

Outcome = Literal["regressed", "improved", "equivalent", "inconclusive", "not comparable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """When a change counts; thresholds are shares (0.03 is 3 %)."""

    threshold: float = 0.03
    level: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is said of one cell or value."""

    backend: str
    what: str
    metric: str
    outcome: Outcome
    effect: float | None = None
    interval: tuple[float, float] | None = None
    smallest_effect: float | None = None
    pairs: int = 0
    why: str = ""


def wants_more(cells: Iterable[PairedCell], settings: GateSettings) -> tuple[Wanted, ...]:
    """Return the pairs that would settle what is open; cells without pairs get their first ones."""
    raise NotImplementedError


def judge(against: Against, settings: GateSettings) -> tuple[Verdict, ...]:
    """Return a verdict for every cell, exact value and backend that could not be compared, in that order."""
    raise NotImplementedError
