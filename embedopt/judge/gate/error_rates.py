"""How often is the gate wrong? Whole gate runs, drawn from real process pairs and judged by its own rule.

A run with a slow-down has one slowed cell among identical ones: the hardest for a rule that corrects for the
number of cells. The usual rules get the calls that their tools would have: those of one process of the base
and of one process of the head, measured one after the other.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from embedopt.errors import RecordError
from embedopt.evidence import Cell, PairedCell, SlowdownSample, SlowdownSamples
from embedopt.judge.gate.other_tools import OTHER_TOOLS
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.stats import fewest_pairs
from embedopt.judge.gate.verdict import judge_cells, plan_pairs
from embedopt.sampling import sample_pairs

GATE = "embedopt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How gate runs are drawn.

    Attributes:
        runs: whole gate runs on identical sides, and runs for each slowed cell.
        usual_runs: the same for the usual rules, which are slower to compute.
        budget_s: of each run, charged with what pairs took when they were collected: the calls of the cells
            that are wanted, and a start of two processes.
        survey_s: that a run takes before its first pair, for the exact values of both sides.
        seed: of the generator.
    """

    runs: int = 1000
    usual_runs: int = 500
    budget_s: float = 480.0
    survey_s: float = 60.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRate:
    """How often a rule called a cell, or with ``cell`` None any cell of a run, slower.

    On identical sides (``slowdown`` 0) these are false alarms, else detections.
    """

    rule: str
    slowdown: float
    cell: Cell | None
    alarms: int
    draws: int

    @property
    def share(self) -> float:
        """Of the draws."""
        return self.alarms / self.draws

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share over draws (Wilson 1927), the pairs drawn from taken as given."""
        # Imported here: it takes half a second, and every command imports this file.
        from scipy import stats

        low, high = stats.binomtest(self.alarms, self.draws).proportion_ci(0.95, method="wilson")
        return float(low), float(high)


def error_rates(
    calibration: SlowdownSamples,
    settings: GateSettings,
    drawing: Drawing,
    on_step: Callable[[str], None] = lambda _: None,
) -> tuple[ErrorRate, ...]:
    """Return false alarms and detections of the gate and the usual rules, for each cell and for whole runs.

    Raises:
        RecordError: there are no identical sides among the samples, or a sample has too few pairs.
    """
    samples = {(sample.cell, sample.slowdown): sample for sample in calibration.samples}
    _check(samples, settings)
    draw = _Draw(calibration, settings, drawing)
    cells = [cell for cell, slowdown in samples if slowdown == 0]
    found: list[ErrorRate] = []
    for slowdown in sorted({slowdown for _, slowdown in samples}):
        on_step(f"drawing runs with {slowdown:.0%} of slow-down")
        slowed = [cell for cell in cells if (cell, slowdown) in samples]
        if slowdown == 0:
            found += _tally(GATE, 0.0, cells, [draw.slower(samples, cells) for _ in range(drawing.runs)])
        else:
            for cell in slowed:
                mixed = {**samples, (cell, 0.0): samples[cell, slowdown]}
                alarms = [draw.slower(mixed, cells) & {cell} for _ in range(drawing.runs)]
                found += _tally(GATE, slowdown, [cell], alarms)
        picked = [draw.usual(samples, slowed, slowdown) for _ in range(drawing.usual_runs)]
        for rule in OTHER_TOOLS:
            found += _tally(rule, slowdown, slowed, [run[rule] for run in picked])
    return tuple(found)


class _Draw:
    """Draws pairs with replacement."""

    def __init__(self, calibration: SlowdownSamples, settings: GateSettings, drawing: Drawing) -> None:
        self._settings = settings
        self._rng = np.random.default_rng(drawing.seed)
        self._budget_s = drawing.budget_s - drawing.survey_s
        identical = [sample for sample in calibration.samples if sample.slowdown == 0]
        self._call_s = {of.cell: _call_s(of) / len(of.pairs) for of in identical}
        # What a process pair takes besides its calls, above all to start and load two processes.
        pairs = {of.cell.backend: len(of.pairs) for of in identical}
        calls_s = sum(_call_s(of) for of in calibration.samples if of.cell.metric == "latency")
        self._start_s = max(calibration.seconds - calls_s, 0.0) / max(sum(pairs.values()), 1)

    def slower(
        self, samples: Mapping[tuple[Cell, float], SlowdownSample], cells: Sequence[Cell]
    ) -> set[Cell]:
        """Play one gate run and return the cells that it fails."""
        ratios = {cell: [pair.log_ratio for pair in samples[cell, 0.0].pairs] for cell in cells}
        left_s = self._budget_s

        def take_pair(wanted: Sequence[Cell]) -> Mapping[Cell, float] | None:
            nonlocal left_s
            takes_s = self._start_s + sum(self._call_s[of] for of in wanted if of.metric == "latency")
            if takes_s > left_s:
                return None
            left_s -= takes_s
            return {of: ratios[of][self._rng.integers(len(ratios[of]))] for of in wanted}

        known = [PairedCell(cell=cell) for cell in cells]
        found = sample_pairs(known, partial(plan_pairs, settings=self._settings), take_pair)
        verdicts = judge_cells(found, self._settings)
        return {cell for cell, verdict in zip(cells, verdicts, strict=True) if verdict.outcome == "regressed"}

    def usual(
        self, samples: Mapping[tuple[Cell, float], SlowdownSample], cells: Sequence[Cell], slowdown: float
    ) -> dict[str, set[Cell]]:
        """Draw a process of each side, of two pairs; return the cells that each usual rule fails."""
        failed: dict[str, set[Cell]] = {rule: set() for rule in OTHER_TOOLS}
        for cell in cells:
            pairs = samples[cell, slowdown].pairs
            first, second = self._rng.choice(len(pairs), size=2, replace=False)
            base, head = np.asarray(pairs[first].base_ms), np.asarray(pairs[second].head_ms)
            for name, rule in OTHER_TOOLS.items():
                if rule(base, head):
                    failed[name].add(cell)
        return failed


def _call_s(sample: SlowdownSample) -> float:
    """Return the seconds that all calls of a sample took."""
    return sum(math.fsum(pair.base_ms) + math.fsum(pair.head_ms) for pair in sample.pairs) / 1e3


def _tally(rule: str, slowdown: float, cells: Sequence[Cell], alarms: Sequence[set[Cell]]) -> list[ErrorRate]:
    """Count alarms by cell, and on identical sides by run."""
    draws = len(alarms)
    found = [
        ErrorRate(
            rule=rule,
            slowdown=slowdown,
            cell=cell,
            alarms=sum(cell in failed for failed in alarms),
            draws=draws,
        )
        for cell in cells
    ]
    if slowdown == 0:
        whole = sum(bool(failed) for failed in alarms)
        found.append(ErrorRate(rule=rule, slowdown=slowdown, cell=None, alarms=whole, draws=draws))
    return found


def _check(samples: Mapping[tuple[Cell, float], SlowdownSample], settings: GateSettings) -> None:
    fewest = fewest_pairs(settings.level)
    for (cell, slowdown), sample in samples.items():
        if len(sample.pairs) < fewest:
            raise RecordError(
                f"{cell}, {slowdown:.0%} slower: {len(sample.pairs)} pairs, wanted {fewest}: collect more"
            )
        if (cell, 0.0) not in samples:
            raise RecordError(f"{cell} has no pairs of identical sides: collect them first")
    if not samples:
        raise RecordError("the calibration has no pairs: collect some first")
