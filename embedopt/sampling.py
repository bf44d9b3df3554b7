"""The order in which a gate run samples process pairs, and when it stops.

The same function serves real runs and the simulated ones that error rates are estimated from.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from embedopt.evidence import Cell, FigureKind, PairedCell, PairsWanted

# Seconds that a gate run may take, unless --against-budget says otherwise.
BUDGET_S = 480.0
# Share of it for calls with many texts, the batcher and growing memory.
EXTRAS_SHARE = 0.35

PlanPairs = Callable[[Sequence[PairedCell]], Sequence[PairsWanted]]
# Measures cells of one backend in one process pair. Returns the log ratios of those that the budget allows.
MeasurePair = Callable[[Sequence[PairsWanted]], Mapping[Cell, float]]
# What is measured at once: a batch size or a kind of figure of a backend, such as all that its batcher does.
_Measurement = tuple[str, int, FigureKind]


@dataclass(slots=True, kw_only=True)
class Budget:
    """The seconds of a gate run, and what its cells take in a process pair.

    A cell that has not been measured yet is taken to need no time, and so is a free one: the start of each
    pair includes it.
    """

    total_s: float
    # Seconds so far of the cells that get a share of the budget only.
    _extras_s: float = field(default=0.0, init=False)
    _known_s: dict[_Measurement, float] = field(default_factory=dict, init=False)

    def learn(self, taken_s: Mapping[Cell, float]) -> None:
        """Note the seconds that each cell of a process pair took."""
        measurements = defaultdict[_Measurement, float](float)
        for cell, seconds in taken_s.items():
            if measurement := _measurement(cell):
                measurements[measurement] += seconds
        self._known_s |= measurements

    def spend(self, cells: Collection[Cell]) -> float:
        """Count a process pair of these cells; return the seconds that it takes besides its start."""
        measured = {measurement: cell for cell in cells if (measurement := _measurement(cell))}
        seconds = {cell: self._known_s.get(measurement, 0.0) for measurement, cell in measured.items()}
        self._extras_s += sum(own_s for cell, own_s in seconds.items() if _has_limited_share(cell))
        return sum(seconds.values())

    def affordable(self, wanted: Sequence[PairsWanted], start_s: float, left_s: float) -> tuple[Cell, ...]:
        """Return the cells that a process pair measures where ``left_s`` seconds of the budget are left.

        The pair takes ``start_s`` seconds to start both processes and to open the backend. The first in
        ``wanted`` have precedence. Beyond its share of the budget, a cell is measured only to confirm it.
        Where only free cells would remain, none is measured.
        """
        is_extra_left = self._extras_s < EXTRAS_SHARE * self.total_s
        pair_s, taken, paid = start_s, list[PairsWanted](), set[_Measurement | None]()
        for request in wanted:
            measurement = _measurement(request.cell)
            own_s = self._known_s.get(measurement, 0.0) if measurement and measurement not in paid else 0.0
            is_allowed = is_extra_left or request.fresh or not _has_limited_share(request.cell)
            if is_allowed and request.must_fit * (pair_s + own_s) < left_s:
                pair_s += own_s
                paid.add(measurement)
                taken.append(request)
        is_worth_a_pair = any(request.fresh or not request.cell.figure.is_free for request in taken)
        return tuple(r.cell for r in taken) if is_worth_a_pair or len(taken) == len(wanted) else ()


def sample_pairs(
    cells: Sequence[PairedCell], plan_pairs: PlanPairs, measure_pair: MeasurePair
) -> tuple[PairedCell, ...]:
    """Measure process pairs until no more are wanted or the budget is spent.

    Pairs that confirm flagged cells come first, one backend after the other, since the budget may end. Every
    process pair also measures what is free, such as a cold start of its backend.

    Returns:
        ``cells`` with the log ratios of all pairs that were measured.
    """
    evidence = {known.cell: known for known in cells}
    while wanted := plan_pairs(tuple(evidence.values())):
        if not any(_sample_group(evidence, group, measure_pair) for group in _groups(wanted)):
            break
    return tuple(evidence.values())


def _groups(wanted: Sequence[PairsWanted]) -> Iterator[Sequence[PairsWanted]]:
    """Yield the confirmations of each backend, then what else is wanted, if no confirmation fits."""
    confirmations = [request for request in wanted if request.fresh]
    for backend in dict.fromkeys(request.cell.backend for request in confirmations):
        yield [request for request in confirmations if request.cell.backend == backend]
    yield [request for request in wanted if not request.fresh]


def _sample_group(
    evidence: dict[Cell, PairedCell], group: Sequence[PairsWanted], measure_pair: MeasurePair
) -> bool:
    """Measure the pairs of a group; return whether the budget allowed a cell that was wanted."""
    measured = Counter[Cell]()
    for pair_cells in _process_pairs(group):
        measured.update(_sample_pair(evidence, [_left(r, measured) for r in pair_cells], measure_pair))
    return bool(measured)


def _left(request: PairsWanted, measured: Mapping[Cell, int]) -> PairsWanted:
    """Return a request; once it is begun, only its next pair has to fit, since to stop would gain nothing."""
    return replace(request, must_fit=1) if measured[request.cell] else request


def _process_pairs(wanted: Sequence[PairsWanted]) -> Iterator[list[PairsWanted]]:
    """Yield what each process pair measures; the backends take turns."""
    for number in range(max((request.pairs for request in wanted), default=0)):
        for backend in dict.fromkeys(request.cell.backend for request in wanted):
            own = [request for request in wanted if request.cell.backend == backend]
            if pair_cells := [request for request in own if request.pairs > number]:
                yield pair_cells


def _sample_pair(
    evidence: dict[Cell, PairedCell], wanted: Sequence[PairsWanted], measure_pair: MeasurePair
) -> set[Cell]:
    """Add one process pair to the evidence; return the cells that were wanted and that the budget allowed."""
    asked = {request.cell: request for request in wanted}
    # A cold start that is being confirmed gets no more pairs of the first judgement.
    free = [
        PairsWanted(cell=cell, pairs=1)
        for cell, known in evidence.items()
        if cell.backend == wanted[0].cell.backend and cell.figure.is_free and not known.fresh
    ]
    log_ratios = measure_pair([*(one for one in free if one.cell not in asked), *wanted])
    for cell, log_ratio in log_ratios.items():
        known = evidence[cell]
        if cell in asked and asked[cell].fresh:
            evidence[cell] = replace(known, fresh=(*known.fresh, log_ratio))
        else:
            evidence[cell] = replace(known, log_ratios=(*known.log_ratios, log_ratio))
    return asked.keys() & log_ratios.keys()


def _measurement(cell: Cell) -> _Measurement | None:
    """Return the measurement that a cell is part of; None for a free one."""
    return None if cell.figure.is_free else (cell.backend, cell.batch_size, cell.figure.kind)


def _has_limited_share(cell: Cell) -> bool:
    """Return whether a cell gets a share of the budget only."""
    return cell.metric != "latency" and not cell.figure.is_free
