"""What the gate judges by: frozen records of two sides, base and head, measured in one go.

The unit of evidence is the process pair: one process of each side, live at the same time and called in
turns. Calls inside one process share its luck, so a pair yields one log ratio, log(time of head / of base):
above 0 where the head is slower.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

PairedMetric = Literal["latency", "load_s"]
# Up to 22,000 times as slow or as fast: beyond it, something was measured that is no encoder.
LogRatio = Annotated[float, Field(ge=-10.0, le=10.0)]

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What is timed in pairs: calls of a batch size, or with ``load_s`` (and batch size 0) the cold start."""

    __pydantic_config__ = _STRICT

    backend: str
    batch_size: int
    metric: PairedMetric = "latency"

    def __str__(self) -> str:
        return f"{self.backend} {'load' if self.metric == 'load_s' else f'batch {self.batch_size}'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedCell:
    """The evidence on one cell: a natural log ratio for each process pair.

    Attributes:
        cell: what was timed.
        log_ratios: of the pairs that a first judgement rests on.
        fresh: of the pairs measured after it flagged the cell, to confirm it; nothing else goes here.
    """

    __pydantic_config__ = _STRICT

    cell: Cell
    log_ratios: tuple[LogRatio, ...] = ()
    fresh: tuple[LogRatio, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """More pairs that the judge asks for: ``fresh`` ones confirm a flagged cell."""

    __pydantic_config__ = _STRICT

    cell: Cell
    pairs: int
    fresh: bool = False


WantsMore = Callable[[Sequence[PairedCell]], Sequence[Wanted]]
# Takes one process pair of one backend: the log ratio of each cell, or None where the budget ends before.
TakesPair = Callable[[Sequence[Cell]], Mapping[Cell, float] | None]


def gather(
    cells: Sequence[PairedCell], wants_more: WantsMore, take_pair: TakesPair
) -> tuple[PairedCell, ...]:
    """Take process pairs for as long as they are wanted and can be had: the one course of a gate run.

    What confirms a flagged cell comes first, since the budget may end. A cold start is had with every pair of
    its backend, for nothing.
    """
    known = {of.cell: of for of in cells}
    while wanted := wants_more(tuple(known.values())):
        some = False
        for fresh in _purchases([of for of in wanted if of.fresh] or wanted):
            backend = next(iter(fresh)).backend
            starts = [cell for cell in known if cell.backend == backend and cell.metric == "load_s"]
            fresh = dict.fromkeys((cell for cell in starts if not known[cell].fresh), False) | fresh
            found = take_pair(tuple(fresh))
            for cell, log_ratio in (found or {}).items():
                known[cell] = _with(known[cell], log_ratio, fresh=fresh[cell])
            some = some or found is not None
        if not some:
            break
    return tuple(known.values())


def _purchases(wanted: Sequence[Wanted]) -> Iterator[dict[Cell, bool]]:
    """Yield what one process pair after the other is taken for, the backends in turn: cells, and if fresh."""
    for number in range(max(of.pairs for of in wanted)):
        for backend in dict.fromkeys(of.cell.backend for of in wanted):
            cells = {of.cell: of.fresh for of in wanted if of.cell.backend == backend and of.pairs > number}
            if cells:
                yield cells


def _with(known: PairedCell, log_ratio: float, *, fresh: bool) -> PairedCell:
    if fresh:
        return replace(known, fresh=(*known.fresh, log_ratio))
    return replace(known, log_ratios=(*known.log_ratios, log_ratio))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactPair:
    """A value of both sides that does not vary from run to run.

    ``metric`` is ``disk_bytes`` or a metric of :class:`embedopt.records.Accuracy`.
    """

    __pydantic_config__ = _STRICT

    backend: str
    metric: str
    base: float
    head: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NotComparable:
    """Why a backend could not be measured on both sides, in words."""

    __pydantic_config__ = _STRICT

    backend: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """One gate run: the field ``against`` of a :class:`embedopt.records.Run`.

    Attributes:
        base: the REF as it was given.
        base_commit: the commit that it was.
        head: the commit that it was compared with, followed by ``+ changes`` where files differed from it.
        cells: what was timed in pairs.
        exact: what needs no pairs.
        not_comparable: backends that could not be measured on both sides.
        pairs: process pairs measured in all.
        seconds: that the measurement took.
        budget_s: that it was given.
        threshold: of ``--gate-threshold``, a share; None where it was not given.
    """

    __pydantic_config__ = _STRICT

    base: str
    base_commit: str
    cells: tuple[PairedCell, ...]
    exact: tuple[ExactPair, ...] = ()
    not_comparable: tuple[NotComparable, ...] = ()
    pairs: int
    seconds: float
    budget_s: float
    head: str = ""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledPair:
    """One process pair of a calibration, with its calls in order: what the usual rules need."""

    __pydantic_config__ = _STRICT

    log_ratio: float
    base_ms: tuple[float, ...]
    head_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The pairs of one cell, the head slowed by a share of the call's time: 0.05 is 5 %, 0 is identical."""

    __pydantic_config__ = _STRICT

    cell: Cell
    slowdown: float
    pairs: tuple[SampledPair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Real pairs of identical and of slowed sides, as ``embedopt calibrate`` collects and saves them."""

    __pydantic_config__ = _STRICT

    hardware_class: str
    samples: tuple[Sample, ...]
    seconds: float
