"""The order in which a gate run samples process pairs, and when it stops.

The same function serves real runs and the simulated ones that error rates are estimated from.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from embedopt.evidence import Cell, FigureKind, PairedCell, PairsWanted

# Seconds that a gate run may take, unless --against-budget says otherwise.
BUDGET_S = 480.0

PlanPairs = Callable[[Sequence[PairedCell]], Sequence[PairsWanted]]
# Measures cells of one backend in one process pair, and returns their log ratios.
MeasurePair = Callable[[Sequence[Cell]], Mapping[Cell, float]]
# What is measured at once: a batch size or a kind of figure of a backend, such as all that its batcher does.
Measurement = tuple[str, int, FigureKind]


class Budget:
    """The seconds that are left of a gate run, and those that process pairs take: the mean so far.

    What has not been measured yet is taken to need no time. A free cell needs none: the start of each pair
    includes it. ``left_s`` returns the seconds that are left.
    """

    def __init__(self, left_s: Callable[[], float]) -> None:
        self._left_s = left_s
        # Number and total of each measurement's, and of those of the start of a backend's pair.
        self._taken_s = dict[Measurement | str, tuple[int, float]]()

    def learn(self, backend: str, pair_s: float, taken_s: Mapping[Cell, float]) -> None:
        """Note the seconds of a process pair of a backend, and those of each of its cells."""
        by_part = defaultdict[Measurement | str, float](float)
        for cell, seconds in taken_s.items():
            if measurement := measurement_of(cell):
                by_part[measurement] += seconds
        by_part[backend] = pair_s - sum(by_part.values())
        for part, seconds in by_part.items():
            pairs, total_s = self._taken_s.get(part, (0, 0.0))
            self._taken_s[part] = pairs + 1, total_s + seconds

    def knows(self, cell: Cell) -> bool:
        """Return whether the seconds of a cell are known."""
        return all(part in self._taken_s for part in _parts(cell))

    def worthwhile(self, wanted: Sequence[PairsWanted], begun: Collection[Cell] = ()) -> list[PairsWanted]:
        """Return the requests whose pairs should all fit into what is left, those with precedence first.

        The pairs that would confirm what they flag have to fit, too: those of the dearest, unless the request
        is begun. What need not fit comes first, then what is begun. Then come confirmations in their order,
        and of other requests those that take the least time, so that most cells are decided.
        """
        left_s, total_s, reserve_s = self._left_s(), 0.0, 0.0
        pairs, taken = defaultdict[Measurement | str, int](int), list[PairsWanted]()
        for request in sorted(
            wanted, key=lambda one: (one.must_fit, one.cell not in begun, self._order_s(one))
        ):
            parts = _parts(request.cell)
            more_s = sum(max(request.pairs - pairs[part], 0) * self._mean_s(part) for part in parts)
            confirming_s = max(reserve_s, request.confirming * sum(map(self._mean_s, parts)))
            asked_s = total_s + more_s + (0.0 if request.cell in begun else confirming_s)
            if request.must_fit and asked_s >= left_s:
                continue
            taken.append(request)
            total_s, reserve_s = total_s + more_s, confirming_s
            for part in parts:
                pairs[part] = max(pairs[part], request.pairs)
        return taken

    def next_pair(self, wanted: Sequence[PairsWanted]) -> tuple[Cell, ...]:
        """Return the cells of a backend that its next process pair measures; the first have precedence.

        Where only free cells would remain, none is measured.
        """
        left_s, pair_s = self._left_s(), self._mean_s(wanted[0].cell.backend)
        taken, paid = list[PairsWanted](), set[Measurement | None]()
        for request in wanted:
            measurement = measurement_of(request.cell)
            own_s = self._mean_s(measurement) if measurement and measurement not in paid else 0.0
            if pair_s + own_s < left_s:
                pair_s += own_s
                paid.add(measurement)
                taken.append(request)
        is_worth_a_pair = any(_is_fresh(request) or not request.cell.figure.is_free for request in taken)
        return tuple(r.cell for r in taken) if is_worth_a_pair or len(taken) == len(wanted) else ()

    def _order_s(self, request: PairsWanted) -> float:
        measurement = measurement_of(request.cell)
        return self._mean_s(measurement) if measurement and not _is_fresh(request) else 0.0

    def _mean_s(self, part: Measurement | str) -> float:
        pairs, total_s = self._taken_s.get(part, (1, 0.0))
        return total_s / pairs


def sample_pairs(
    cells: Sequence[PairedCell], plan_pairs: PlanPairs, measure_pair: MeasurePair, budget: Budget
) -> tuple[PairedCell, ...]:
    """Measure process pairs until no more are wanted or the budget is spent.

    Pairs that confirm flagged cells come first, one backend after the other, since the budget may end. Every
    process pair also measures what is free, such as a cold start of its backend.

    Returns:
        ``cells`` with the log ratios of all pairs that were measured.
    """
    sampler = _Sampler(cells, measure_pair, budget)
    while wanted := plan_pairs(tuple(sampler.evidence.values())):
        by_look = {
            look: [one for one in wanted if one.look == look] for look in ("confirmation", "first", "later")
        }
        is_any = (
            any(map(sampler.measure_all, _by_backend(by_look["confirmation"])))
            or sampler.measure_round(by_look["first"])
            or any(map(sampler.measure_all, _by_backend(by_look["later"])))
        )
        if not is_any:
            break
    return tuple(sampler.evidence.values())


def measurement_of(cell: Cell) -> Measurement | None:
    """Return the measurement that a cell is part of; None for a free one."""
    return None if cell.figure.is_free else (cell.backend, cell.batch_size, cell.figure.kind)


class _Sampler:
    """Measures process pairs that are wanted, as the budget allows, and adds them to the evidence.

    The first pair of a figure tells what it takes. Calls with a batch size have precedence over all other
    figures, even over those that are begun.
    """

    def __init__(self, cells: Sequence[PairedCell], measure_pair: MeasurePair, budget: Budget) -> None:
        self.evidence = {known.cell: known for known in cells}
        self._measure_pair, self._budget = measure_pair, budget
        self._begun = set[Cell]()

    def measure_round(self, wanted: Sequence[PairsWanted]) -> bool:
        """Measure one pair of each backend; return whether the budget allowed any."""
        left, is_any = list(wanted), False
        for backend in dict.fromkeys(request.cell.backend for request in wanted):
            left = self._budget.worthwhile(left, self._begun)
            own = [request for request in left if request.cell.backend == backend]
            known = {one.cell for one in own if one.must_fit and self._budget.knows(one.cell)}
            measured = self._measure(own)
            self._begun |= known & measured
            left = [*(one for one in left if one.cell.backend != backend), *_rest(own, measured)]
            is_any |= bool(measured)
        return is_any

    def measure_all(self, wanted: Sequence[PairsWanted]) -> bool:
        """Measure the pairs of one backend; return whether the budget allowed any.

        What is begun goes on as long as its next pair fits: to stop would gain nothing.
        """
        left, is_any = self._budget.worthwhile(wanted), False
        while left:
            measured = self._measure(left)
            left = _rest(left, measured)
            is_any |= bool(measured)
        return is_any

    def _measure(self, wanted: Sequence[PairsWanted]) -> set[Cell]:
        """Measure a process pair of a backend; return the wanted cells that the budget allowed."""
        if not wanted:
            return set()
        asked = {request.cell: request for request in wanted}
        # A cold start that is being confirmed gets no more pairs of the first judgement.
        free = [
            PairsWanted(cell=cell, pairs=1)
            for cell, known in self.evidence.items()
            if cell.backend == wanted[0].cell.backend and cell.figure.is_free and not known.fresh
        ]
        cells = self._budget.next_pair([*(one for one in free if one.cell not in asked), *wanted])
        log_ratios = self._measure_pair(cells) if cells else {}
        for cell, log_ratio in log_ratios.items():
            known = self.evidence[cell]
            if cell in asked and _is_fresh(asked[cell]):
                self.evidence[cell] = replace(known, fresh=(*known.fresh, log_ratio))
            else:
                self.evidence[cell] = replace(known, log_ratios=(*known.log_ratios, log_ratio))
        return asked.keys() & log_ratios.keys()


def _by_backend(wanted: Sequence[PairsWanted]) -> Iterator[Sequence[PairsWanted]]:
    for backend in dict.fromkeys(request.cell.backend for request in wanted):
        yield [request for request in wanted if request.cell.backend == backend]


def _rest(wanted: Sequence[PairsWanted], measured: Collection[Cell]) -> list[PairsWanted]:
    """Return what is still wanted of the cells that were measured; the budget does not allow the others."""
    rest = (replace(one, pairs=one.pairs - 1) for one in wanted if one.cell in measured)
    return [request for request in rest if request.pairs]


def _parts(cell: Cell) -> tuple[Measurement | str, ...]:
    """Return what a process pair of a cell takes time for: its start, by backend, and the measurement."""
    measurement = measurement_of(cell)
    return (cell.backend, measurement) if measurement else (cell.backend,)


def _is_fresh(request: PairsWanted) -> bool:
    return request.look == "confirmation"
