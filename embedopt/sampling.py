"""How a gate run takes process pairs: as long as some are wanted and can be had."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from embedopt.evidence import Cell, PairedCell, PairsWanted

PlanPairs = Callable[[Sequence[PairedCell]], Sequence[PairsWanted]]
# Takes one process pair of one backend: the log ratio of each cell, or None where the budget ends before.
MeasurePair = Callable[[Sequence[Cell]], Mapping[Cell, float] | None]


def sample_pairs(
    cells: Sequence[PairedCell], plan_pairs: PlanPairs, take_pair: MeasurePair
) -> tuple[PairedCell, ...]:
    """Take process pairs for as long as they are wanted and can be had: the one course of a gate run.

    What confirms a flagged cell comes first, since the budget may end. A cold start is had with every pair of
    its backend, for nothing.
    """
    known = {of.cell: of for of in cells}
    while wanted := plan_pairs(tuple(known.values())):
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


def _purchases(wanted: Sequence[PairsWanted]) -> Iterator[dict[Cell, bool]]:
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
