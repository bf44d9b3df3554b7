"""How often the gate is wrong, estimated from whole gate runs that are drawn from real process pairs.

A run with a slow-down has one slowed cell among identical ones: the hardest case for a rule that corrects for
the number of cells. The rules of other tools get the calls that those tools would have: those of one process
of the base and of one process of the head, measured one after the other.

Few pairs are collected, so a rate stays uncertain however many runs are drawn from them. So the pairs are
resampled, and runs are drawn from each resample: a nested bootstrap.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import special

from embedopt.errors import RecordError
from embedopt.evidence import Cell, SlowdownSample, SlowdownSamples
from embedopt.judge.gate.drawn_runs import Drawing, DrawnRuns, Outcomes, Samples, log_ratios
from embedopt.judge.gate.other_tools import OTHER_TOOLS
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.stats import fewest_pairs

GATE = "embedopt"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRate:
    """How often a rule reported a slow-down: false alarms where ``slowdown`` is 0, else detections.

    Attributes:
        rule: :data:`GATE`, or a rule of other tools.
        slowdown: share of a call's time by which the head was slowed.
        cell: the cell that was reported; None counts runs in which any cell was.
        equivalent: draws in which the cell was called equivalent.
        unanswered: draws in which the cell looked slower when the budget ended; of runs, those that end with
            exit code 5.
        effective_draws: number of independent draws that would be as uncertain.
    """

    rule: str
    slowdown: float
    cell: Cell | None
    alarms: int
    equivalent: int = 0
    unanswered: int = 0
    draws: int
    effective_draws: float

    @property
    def share(self) -> float:
        """Alarms as a share of the draws."""
        return self.alarms / self.draws

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share (Wilson 1927)."""
        n, p, z = self.effective_draws, self.share, float(special.ndtri(0.975))
        center = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2) / (1 + z * z / n)
        # Rounded, so that no alarm has 0 as the lower end, and nothing but alarms 1 as the upper end.
        return round(center - half, 12), round(center + half, 12)


def error_rates(
    collected: SlowdownSamples,
    settings: GateSettings,
    drawing: Drawing,
    on_step: Callable[[str], None] = lambda _: None,
    executor: Executor | None = None,
) -> tuple[ErrorRate, ...]:
    """Return false alarms and detections of the gate and of other tools, for each cell and for whole runs.

    ``on_step`` gets a line of text before the rates of each slow-down are awaited, and one that names the
    cells that are left out at a slow-down because they have too few pairs. With an ``executor``, several
    slow-downs are drawn at once, with the same rates.

    Raises:
        RecordError: no cell has enough pairs of identical sides.
    """
    samples = _enough(collected, settings, on_step)
    slowdowns = sorted({slowdown for _, slowdown in samples})
    draw = partial(_rates_at, collected=collected, samples=samples, settings=settings, drawing=drawing)
    drawn = (executor.map if executor else map)(draw, slowdowns)
    rates: list[ErrorRate] = []
    for slowdown in slowdowns:
        on_step(f"drawing runs with a slow-down of {slowdown:.0%}")
        rates += next(drawn)
    return tuple(rates)


def _rates_at(
    slowdown: float,
    collected: SlowdownSamples,
    samples: Samples,
    settings: GateSettings,
    drawing: Drawing,
) -> list[ErrorRate]:
    draw = DrawnRuns(collected, settings, drawing)
    cells = [cell for cell, other in samples if other == 0]
    slowed = [cell for cell in cells if (cell, slowdown) in samples]
    rates: list[ErrorRate] = []
    for group in [cells] if slowdown == 0 else [[cell] for cell in slowed]:
        ratios = {cell: log_ratios(samples[cell, slowdown if cell in group else 0.0]) for cell in cells}
        pairs = {cell: len(ratios[cell]) for cell in group}
        rates += _counted(GATE, slowdown, pairs, draw.gate_runs(ratios))
    runs = [draw.other_tools(samples, slowed, slowdown) for _ in range(drawing.other_tool_runs)]
    pairs = {cell: len(samples[cell, slowdown].pairs) for cell in slowed}
    for rule in OTHER_TOOLS if runs else ():
        rates += _counted(rule, slowdown, pairs, [[run[rule] for run in runs]])
    return rates


def _counted(
    rule: str, slowdown: float, pairs: Mapping[Cell, int], runs: Sequence[Sequence[Outcomes]]
) -> list[ErrorRate]:
    """Count the outcomes of runs by cell, and on identical sides also by run.

    ``pairs`` has the number of pairs of each cell; each list in ``runs`` belongs to one resample.
    """

    def rate(cell: Cell | None, most: int) -> ErrorRate:
        outcomes = [Counter(run.get(cell) for run in group) for group in runs]
        counts = [group["regressed"] for group in outcomes]
        return ErrorRate(
            rule=rule,
            slowdown=slowdown,
            cell=cell,
            alarms=sum(counts),
            equivalent=sum(group["equivalent"] for group in outcomes),
            unanswered=sum(group["unanswered"] for group in outcomes),
            draws=sum(map(len, runs)),
            effective_draws=min(_effective_draws(counts, len(runs[0])), most),
        )

    rates = [rate(cell, number) for cell, number in pairs.items()]
    return [*rates, rate(None, min(pairs.values()))] if slowdown == 0 else rates


def _effective_draws(counts: Sequence[int], runs: int) -> float:
    """Return the number of independent draws that would make a share as uncertain as resampling does.

    Resamples differ also because each share rests on few runs. That part of their variance is subtracted
    (Sun, Apley and Staum 2011, Operations Research 59, 998-1007).
    """
    draws = runs * len(counts)
    share = sum(counts) / draws
    run_variance = share * (1 - share)
    if len(counts) < 2 or run_variance == 0:
        return draws
    between = float(np.var(np.divide(counts, runs), ddof=1)) - run_variance / runs
    return run_variance / (max(between, 0.0) + run_variance / draws)


def _enough(collected: SlowdownSamples, settings: GateSettings, on_step: Callable[[str], None]) -> Samples:
    """Return the samples with enough pairs, of cells that have enough pairs of identical sides, too."""
    fewest = fewest_pairs(settings.level)
    samples: dict[tuple[Cell, float], SlowdownSample] = {}
    few: dict[float, list[str]] = {}
    # Identical sides come first: the slowed samples of a cell need them.
    for sample in sorted(collected.samples, key=lambda sample: sample.slowdown):
        if len(sample.pairs) < fewest:
            few.setdefault(sample.slowdown, []).append(f"{sample.cell} ({len(sample.pairs)})")
        elif sample.slowdown and (sample.cell, 0.0) not in samples:
            on_step(f"left out: {sample.cell} has no pairs of identical sides: collect them first")
        else:
            samples[sample.cell, sample.slowdown] = sample
    for slowdown, cells in few.items():
        on_step(
            f"left out, {slowdown:.0%} slower, with fewer than {fewest} pairs each: {', '.join(cells)}: "
            "collect more with --resume"
        )
    if not samples:
        raise RecordError(
            f"no cell has {fewest} process pairs of identical sides, which draws need: collect more with "
            "--budget above 0"
        )
    return samples
