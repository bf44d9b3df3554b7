"""How often the gate is wrong, estimated from whole gate runs that are drawn from real process pairs.

A run with a slow-down has one slowed cell among identical ones: the hardest case for a rule that corrects for
the number of cells. The rules of other tools get the calls that those tools would have: those of one process
of the base and of one process of the head, measured one after the other.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from embedopt.errors import RecordError
from embedopt.evidence import Cell, PairedCell, SlowdownSample, SlowdownSamples
from embedopt.judge.gate.other_tools import OTHER_TOOLS
from embedopt.judge.gate.pairs_rule import judge_cells, plan_pairs
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.stats import fewest_pairs
from embedopt.sampling import BUDGET_S, sample_pairs

GATE = "embedopt"
_Samples = Mapping[tuple[Cell, float], SlowdownSample]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How gate runs are drawn.

    Attributes:
        runs: gate runs on identical sides, and again for each slowed cell.
        other_tool_runs: that number for the rules of other tools, which are slower to compute.
        budget_s: seconds of each run, charged with what pairs took when they were collected: the calls of the
            cells that are timed, and the start of two processes.
        survey_s: seconds that a run takes before its first pair, for the scores and sizes of both sides.
        seed: seed of the random generator.
    """

    runs: int = 1000
    other_tool_runs: int = 500
    budget_s: float = BUDGET_S
    survey_s: float = 60.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRate:
    """How often a rule reported a slow-down: false alarms where ``slowdown`` is 0, else detections.

    Attributes:
        rule: :data:`GATE`, or a rule of other tools.
        slowdown: share of a call's time by which the head was slowed.
        cell: the cell that was reported; None counts runs in which any cell was.
    """

    rule: str
    slowdown: float
    cell: Cell | None
    alarms: int
    draws: int

    @property
    def share(self) -> float:
        """Alarms as a share of the draws."""
        return self.alarms / self.draws

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share over draws (Wilson 1927), taking the collected pairs as given."""
        # Imported here: it takes half a second, and every command imports this file.
        from scipy import stats

        low, high = stats.binomtest(self.alarms, self.draws).proportion_ci(0.95, method="wilson")
        return float(low), float(high)


def error_rates(
    collected: SlowdownSamples,
    settings: GateSettings,
    drawing: Drawing,
    on_step: Callable[[str], None] = lambda _: None,
) -> tuple[ErrorRate, ...]:
    """Return false alarms and detections of the gate and of other tools, for each cell and for whole runs.

    ``on_step`` is called with a line of text before the runs of each slow-down are drawn.

    Raises:
        RecordError: there are no identical sides among the samples, or a sample has too few pairs.
    """
    samples = {(sample.cell, sample.slowdown): sample for sample in collected.samples}
    _check(samples, settings)
    draw = _Draw(collected, settings, drawing)
    cells = [cell for cell, slowdown in samples if slowdown == 0]
    rates: list[ErrorRate] = []
    for slowdown in sorted({slowdown for _, slowdown in samples}):
        on_step(f"drawing runs with a slow-down of {slowdown:.0%}")
        slowed = [cell for cell in cells if (cell, slowdown) in samples]
        for group in [cells] if slowdown == 0 else [[cell] for cell in slowed]:
            mixed = {**samples, **{(cell, 0.0): samples[cell, slowdown] for cell in group}}
            reports = [draw.gate_run(mixed, cells) for _ in range(drawing.runs)]
            rates += _counted(GATE, slowdown, group, reports)
        runs = [draw.other_tools(samples, slowed, slowdown) for _ in range(drawing.other_tool_runs)]
        for rule in OTHER_TOOLS:
            rates += _counted(rule, slowdown, slowed, [run[rule] for run in runs])
    return tuple(rates)


class _Draw:
    """Draws pairs with replacement, and judges what they make up."""

    def __init__(self, collected: SlowdownSamples, settings: GateSettings, drawing: Drawing) -> None:
        self._settings = settings
        self._rng = np.random.default_rng(drawing.seed)
        self._budget_s = drawing.budget_s - drawing.survey_s
        identical = [sample for sample in collected.samples if sample.slowdown == 0]
        self._call_s = {sample.cell: _call_s(sample) / len(sample.pairs) for sample in identical}
        # What a process pair takes besides its calls, above all the start of two processes.
        pairs = {sample.cell.backend: len(sample.pairs) for sample in identical}
        calls_s = sum(_call_s(sample) for sample in collected.samples if sample.cell.metric == "latency")
        self._start_s = max(collected.seconds - calls_s, 0.0) / max(sum(pairs.values()), 1)

    def gate_run(self, samples: _Samples, cells: Sequence[Cell]) -> set[Cell]:
        """Draw one gate run and return the cells that fail it."""
        ratios = {cell: [pair.log_ratio for pair in samples[cell, 0.0].pairs] for cell in cells}
        left_s = self._budget_s

        def take_pair(timed: Sequence[Cell]) -> Mapping[Cell, float] | None:
            nonlocal left_s
            takes_s = self._start_s + sum(self._call_s[cell] for cell in timed if cell.metric == "latency")
            if takes_s > left_s:
                return None
            left_s -= takes_s
            return {cell: ratios[cell][self._rng.integers(len(ratios[cell]))] for cell in timed}

        empty = [PairedCell(cell=cell) for cell in cells]
        sampled = sample_pairs(empty, partial(plan_pairs, settings=self._settings), take_pair)
        verdicts = judge_cells(sampled, self._settings)
        return {cell for cell, verdict in zip(cells, verdicts, strict=True) if verdict.outcome == "regressed"}

    def other_tools(self, samples: _Samples, cells: Sequence[Cell], slowdown: float) -> dict[str, set[Cell]]:
        """Draw the base of one pair and the head of another; return the cells that each rule reports."""
        reported: dict[str, set[Cell]] = {rule: set() for rule in OTHER_TOOLS}
        for cell in cells:
            pairs = samples[cell, slowdown].pairs
            first, second = self._rng.choice(len(pairs), size=2, replace=False)
            base, head = np.asarray(pairs[first].base_ms), np.asarray(pairs[second].head_ms)
            for name, rule in OTHER_TOOLS.items():
                if rule(base, head):
                    reported[name].add(cell)
        return reported


def _call_s(sample: SlowdownSample) -> float:
    """Return the seconds that all calls of a sample took."""
    return sum(math.fsum(pair.base_ms) + math.fsum(pair.head_ms) for pair in sample.pairs) / 1e3


def _counted(
    rule: str, slowdown: float, cells: Sequence[Cell], reports: Sequence[set[Cell]]
) -> list[ErrorRate]:
    """Count reports by cell, and on identical sides also by run."""
    alarms: dict[Cell | None, int] = {cell: sum(cell in report for report in reports) for cell in cells}
    if slowdown == 0:
        alarms[None] = sum(bool(report) for report in reports)
    return [
        ErrorRate(rule=rule, slowdown=slowdown, cell=cell, alarms=count, draws=len(reports))
        for cell, count in alarms.items()
    ]


def _check(samples: _Samples, settings: GateSettings) -> None:
    fewest = fewest_pairs(settings.level)
    for (cell, slowdown), sample in samples.items():
        if len(sample.pairs) < fewest:
            pairs = f"{len(sample.pairs)} pairs, wanted {fewest}"
            raise RecordError(f"{cell}, {slowdown:.0%} slower: {pairs}: collect more with --resume")
        if (cell, 0.0) not in samples:
            raise RecordError(f"{cell} has no pairs of identical sides: collect them first")
    if not samples:
        raise RecordError("there are no process pairs to draw from: collect some with --budget above 0")
