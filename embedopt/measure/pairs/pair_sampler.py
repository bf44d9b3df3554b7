"""Measures process pairs of a gate run within its budget."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from embedopt.clock import Clock
from embedopt.evidence import Cell, ProcessPair
from embedopt.measure.pairs.cells import measure_pair
from embedopt.measure.pairs.last_calls import LastCalls
from embedopt.measure.pairs.process_pair import StartWorker, Work, live_pair
from embedopt.sampling import Budget


class PairSampler:
    """Starts process pairs and measures cells in them. The budget of ``budget_s`` seconds begins now.

    Attributes:
        budget: what is left of it, and what the pairs took.
        pairs: number of process pairs so far.
    """

    def __init__(
        self,
        starts: tuple[StartWorker, StartWorker],
        budget_s: float,
        on_step: Callable[[str], None],
        last_calls: LastCalls,
        clock: Clock,
    ) -> None:
        self._starts, self._on_step, self._clock = starts, on_step, clock
        self._on_last_call = last_calls.add
        self._started_s, self._budget_s = clock(), budget_s
        self.budget = Budget(self._left_s)
        self._measured: Counter[Cell] = Counter()
        self._disagreements: dict[Cell, list[str]] = {}
        self._quads = self._disturbed = self._dropped = 0
        self.pairs = 0

    def measure(self, cells: Sequence[Cell], work: Work) -> Mapping[Cell, float]:
        """Measure cells of one backend in a process pair; return their log ratios."""
        backend, started_s = cells[0].backend, self._clock()
        log_ratios, taken_s = {}, dict[Cell, float]()
        with live_pair(self.pairs, *self._starts) as pair:
            now_s = self._clock()
            measured = measure_pair(pair, cells, work, clock=self._clock, on_last_call=self._on_last_call)
            for (cell, _), process_pair in measured:
                log_ratios[cell] = process_pair.log_ratio
                self._note(cell, process_pair)
                before_s, now_s = now_s, self._clock()
                taken_s[cell] = now_s - before_s
        self.pairs += 1
        pair_s = self._clock() - started_s
        self.budget.learn(backend, pair_s, taken_s)
        self._on_step(
            f"pair {self.pairs}: {backend} in {pair_s:.0f} s; "
            f"{max(0.0, self._left_s()):.0f} of {self._budget_s:.0f} s left"
        )
        return log_ratios

    def disagreeing(self) -> dict[Cell, str]:
        """Return the cells in most of whose pairs the clocks at both ends of the pipe disagree, and how."""
        return {
            cell: reasons[-1]
            for cell, reasons in self._disagreements.items()
            if 2 * len(reasons) > self._measured[cell]
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """A line on the quads in which other processes took the CPU, if there were any."""
        if not self._disturbed:
            return ()
        quieter = "" if self._dropped == self._disturbed else ": measure on a quieter machine"
        taken = f"other processes took the CPU in {self._disturbed} of {self._quads} turns"
        return (f"{taken}, {self._dropped} of which are left out{quieter}",)

    def _note(self, cell: Cell, pair: ProcessPair) -> None:
        self._measured[cell] += 1
        self._quads += pair.quads
        self._disturbed += pair.disturbed
        self._dropped += pair.quads - len(pair.base_ms) // 2 if pair.quads else 0
        if pair.disagreement:
            self._disagreements.setdefault(cell, []).append(pair.disagreement)

    def _left_s(self) -> float:
        return self._budget_s - (self._clock() - self._started_s)
