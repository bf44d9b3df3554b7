"""How often is the gate wrong? Whole gate runs, drawn from real process pairs and judged by its own rule.

A run with a slow-down has one slowed cell among identical ones: the hardest for a rule that corrects for the
number of cells. The usual rules get the calls that their tools would have: those of one process of the base
and of one process of the head, measured one after the other.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from embedopt.errors import RecordError
from embedopt.evidence import Calibration, Cell, PairedCell, Sample, Wanted
from embedopt.judge.settings import GateSettings
from embedopt.judge.stats import fewest_pairs
from embedopt.judge.usual import USUAL
from embedopt.judge.verdict import Verdict, judge_cells, wants_more

GATE = "embedopt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How gate runs are drawn.

    Attributes:
        runs: whole gate runs on identical sides, and runs for each slowed cell.
        usual_runs: the same for the usual rules, which are slower to compute.
        budget_s: of each run, charged with what a pair took when it was collected.
        seed: of the generator.
    """

    runs: int = 1000
    usual_runs: int = 500
    budget_s: float = 480.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
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
        low, high = stats.binomtest(self.alarms, self.draws).proportion_ci(0.95, method="wilson")
        return float(low), float(high)


def findings(
    calibration: Calibration,
    settings: GateSettings,
    drawing: Drawing,
    on_step: Callable[[str], None] = lambda _: None,
) -> tuple[Finding, ...]:
    """Return false alarms and detections of the gate and the usual rules, for each cell and for whole runs.

    Raises:
        RecordError: there are no identical sides among the samples, or a sample has too few pairs.
    """
    samples = {(sample.cell, sample.slowdown): sample for sample in calibration.samples}
    _check(samples, settings)
    draw = _Draw(calibration, settings, drawing)
    cells = [cell for cell, slowdown in samples if slowdown == 0]
    found: list[Finding] = []
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
        for rule in USUAL:
            found += _tally(rule, slowdown, slowed, [run[rule] for run in picked])
    return tuple(found)


def play(
    cells: Iterable[Cell],
    settings: GateSettings,
    measure: Callable[[Wanted], Sequence[float]],
) -> tuple[Verdict, ...]:
    """Run the gate to its end: measure what it wants until it wants no more, or gets nothing for it."""
    pairs = {cell: PairedCell(cell=cell) for cell in cells}
    while wanted := wants_more(tuple(pairs.values()), settings):
        got = [(want, tuple(measure(want))) for want in wanted]
        if not any(values for _, values in got):
            break
        for want, values in got:
            known = pairs[want.cell]
            pairs[want.cell] = PairedCell(
                cell=want.cell,
                log_ratios=known.log_ratios if want.fresh else (*known.log_ratios, *values),
                fresh=(*known.fresh, *values) if want.fresh else known.fresh,
            )
    return judge_cells(tuple(pairs.values()), settings)


class _Draw:
    """Draws pairs with replacement."""

    def __init__(self, calibration: Calibration, settings: GateSettings, drawing: Drawing) -> None:
        self._settings = settings
        self._rng = np.random.default_rng(drawing.seed)
        collected = sum(len(sample.pairs) for sample in calibration.samples)
        self._affordable = int(drawing.budget_s * collected / max(calibration.seconds, 1e-9))

    def slower(self, samples: Mapping[tuple[Cell, float], Sample], cells: Sequence[Cell]) -> set[Cell]:
        """Play one gate run and return the cells that it fails."""
        ratios = {cell: [pair.log_ratio for pair in samples[cell, 0.0].pairs] for cell in cells}
        left = self._affordable

        def measure(want: Wanted) -> Sequence[float]:
            nonlocal left
            if want.pairs > left:
                return ()
            left -= want.pairs
            known = ratios[want.cell]
            return [known[index] for index in self._rng.integers(len(known), size=want.pairs)]

        verdicts = play(cells, self._settings, measure)
        return {cell for cell, verdict in zip(cells, verdicts, strict=True) if verdict.outcome == "regressed"}

    def usual(
        self, samples: Mapping[tuple[Cell, float], Sample], cells: Sequence[Cell], slowdown: float
    ) -> dict[str, set[Cell]]:
        """Draw a process of each side, of two pairs; return the cells that each usual rule fails."""
        failed: dict[str, set[Cell]] = {rule: set() for rule in USUAL}
        for cell in cells:
            pairs = samples[cell, slowdown].pairs
            first, second = self._rng.choice(len(pairs), size=2, replace=False)
            base, head = np.asarray(pairs[first].base_ms), np.asarray(pairs[second].head_ms)
            for name, rule in USUAL.items():
                if rule(base, head):
                    failed[name].add(cell)
        return failed


def _tally(rule: str, slowdown: float, cells: Sequence[Cell], alarms: Sequence[set[Cell]]) -> list[Finding]:
    """Count alarms by cell, and on identical sides by run."""
    draws = len(alarms)
    found = [
        Finding(
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
        found.append(Finding(rule=rule, slowdown=slowdown, cell=None, alarms=whole, draws=draws))
    return found


def _check(samples: Mapping[tuple[Cell, float], Sample], settings: GateSettings) -> None:
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
