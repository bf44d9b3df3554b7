"""The order in which a gate run samples process pairs, and when it stops.

The same function serves real runs and the simulated ones that error rates are estimated from.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from embedopt.evidence import Cell, PairedCell, PairsWanted

# Seconds that a gate run may take, unless --against-budget says otherwise.
BUDGET_S = 480.0
# Share of it for calls with many texts, the batcher and growing memory.
EXTRAS_SHARE = 0.35

PlanPairs = Callable[[Sequence[PairedCell]], Sequence[PairsWanted]]
# Measures cells of one backend in one process pair; True marks a cell that is to be confirmed. Returns the
# log ratios of those that the budget allows, or None.
MeasurePair = Callable[[Mapping[Cell, bool]], Mapping[Cell, float] | None]


def has_limited_share(cell: Cell) -> bool:
    """Return whether a cell gets a share of the budget only."""
    return cell.metric != "latency" and not cell.figure.is_free


def cells_within_budget(cells: Mapping[Cell, bool], extras_s: float, budget_s: float) -> Sequence[Cell]:
    """Return the cells that are still measured when cells with a limited share have taken ``extras_s``.

    A cell that is to be confirmed (True) always is. Where only free cells would remain, none is.
    """
    if extras_s < EXTRAS_SHARE * budget_s:
        return tuple(cells)
    allowed = [cell for cell, is_fresh in cells.items() if is_fresh or not has_limited_share(cell)]
    is_worth_a_pair = any(cells[cell] or not cell.figure.is_free for cell in allowed)
    return allowed if is_worth_a_pair or len(allowed) == len(cells) else ()


def sample_pairs(
    cells: Sequence[PairedCell], plan_pairs: PlanPairs, measure_pair: MeasurePair
) -> tuple[PairedCell, ...]:
    """Measure process pairs until no more are wanted or the budget is spent.

    Confirmation pairs of a flagged cell come first, since the budget may end. Every process pair also
    measures what is free, such as a cold start of its backend.

    Returns:
        ``cells`` with the log ratios of all pairs that were measured.
    """
    evidence = {known.cell: known for known in cells}
    while wanted := plan_pairs(tuple(evidence.values())):
        confirmations = [request for request in wanted if request.fresh]
        sampled_any = False
        for pair_cells in _process_pairs(confirmations or wanted):
            sampled_any = _sample_pair(evidence, pair_cells, measure_pair) or sampled_any
        if not sampled_any:
            break
    return tuple(evidence.values())


def _process_pairs(wanted: Sequence[PairsWanted]) -> Iterator[dict[Cell, bool]]:
    """Yield the cells of each process pair, True for one that is to be confirmed; the backends take turns."""
    for number in range(max(request.pairs for request in wanted)):
        for backend in dict.fromkeys(request.cell.backend for request in wanted):
            pair_cells = {
                request.cell: request.fresh
                for request in wanted
                if request.cell.backend == backend and request.pairs > number
            }
            if pair_cells:
                yield pair_cells


def _sample_pair(
    evidence: dict[Cell, PairedCell], wanted: Mapping[Cell, bool], measure_pair: MeasurePair
) -> bool:
    """Add one process pair to the evidence; return whether the budget allowed a cell that was wanted."""
    backend = next(iter(wanted)).backend
    # A cold start that is being confirmed gets no more pairs of the first judgement.
    free = {
        cell: False
        for cell, known in evidence.items()
        if cell.backend == backend and cell.figure.is_free and not known.fresh
    }
    is_fresh = {**free, **wanted}
    log_ratios = measure_pair(is_fresh)
    if log_ratios is None:
        return False
    for cell, log_ratio in log_ratios.items():
        known = evidence[cell]
        if is_fresh[cell]:
            evidence[cell] = replace(known, fresh=(*known.fresh, log_ratio))
        else:
            evidence[cell] = replace(known, log_ratios=(*known.log_ratios, log_ratio))
    return not wanted.keys().isdisjoint(log_ratios)
