"""How often the gate is wrong, estimated from whole gate runs that are drawn from real process pairs.

A run with a slow-down has one slowed cell among identical ones: the hardest case for a rule that corrects for
the number of cells. The rules of other tools get the calls that those tools would have: those of one process
of the base and of one process of the head, measured one after the other.

Few pairs are collected, so a rate stays uncertain however many runs are drawn from them. So the pairs are
resampled, and runs are drawn from each resample: a nested bootstrap. :func:`simulated` draws any number of
pairs from a normal distribution with the spread of the collected ones: a simulation, not a measurement.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy import special

from embedopt.errors import RecordError
from embedopt.evidence import Cell, PairedCell, ProcessPair, SlowdownSample, SlowdownSamples
from embedopt.judge.gate.other_tools import OTHER_TOOLS
from embedopt.judge.gate.pairs_rule import judge_cells, plan_pairs
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.stats import fewest_pairs
from embedopt.judge.gate.verdict import Outcome
from embedopt.sampling import BUDGET_S, cells_within_budget, has_limited_share, sample_pairs

GATE = "embedopt"
_Samples = Mapping[tuple[Cell, float], SlowdownSample]
_LogRatios = Mapping[Cell, Sequence[float]]
_Outcomes = Mapping[Cell, Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How gate runs are drawn.

    Attributes:
        resamples: how many times the collected pairs are resampled.
        runs: gate runs from each resample, on identical sides and again for each slowed cell.
        other_tool_runs: runs for the rules of other tools, which are slower to compute.
        budget_s: seconds of each run; a pair costs what its cells and the start of its two processes took
            when they were collected.
        survey_s: seconds that a run takes before its first pair, for the scores and sizes of both sides.
        seed: seed of the random generator.
    """

    resamples: int = 50
    runs: int = 20
    other_tool_runs: int = 500
    budget_s: float = BUDGET_S
    survey_s: float = 70.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRate:
    """How often a rule reported a slow-down: false alarms where ``slowdown`` is 0, else detections.

    Attributes:
        rule: :data:`GATE`, or a rule of other tools.
        slowdown: share of a call's time by which the head was slowed.
        cell: the cell that was reported; None counts runs in which any cell was.
        equivalent: draws in which the cell was called equivalent.
        effective_draws: number of independent draws that would be as uncertain.
    """

    rule: str
    slowdown: float
    cell: Cell | None
    alarms: int
    equivalent: int = 0
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
) -> tuple[ErrorRate, ...]:
    """Return false alarms and detections of the gate and of other tools, for each cell and for whole runs.

    ``on_step`` gets a line of text before the runs of each slow-down are drawn, and one that names the cells
    that are left out at a slow-down because they have too few pairs.

    Raises:
        RecordError: no cell has enough pairs of identical sides.
    """
    samples = _enough(collected, settings, on_step)
    draw = _Draw(collected, settings, drawing)
    cells = [cell for cell, slowdown in samples if slowdown == 0]
    rates: list[ErrorRate] = []
    for slowdown in sorted({slowdown for _, slowdown in samples}):
        on_step(f"drawing runs with a slow-down of {slowdown:.0%}")
        slowed = [cell for cell in cells if (cell, slowdown) in samples]
        for group in [cells] if slowdown == 0 else [[cell] for cell in slowed]:
            ratios = {cell: _log_ratios(samples[cell, slowdown if cell in group else 0.0]) for cell in cells}
            pairs = {cell: len(ratios[cell]) for cell in group}
            rates += _counted(GATE, slowdown, pairs, draw.gate_runs(ratios))
        runs = [draw.other_tools(samples, slowed, slowdown) for _ in range(drawing.other_tool_runs)]
        pairs = {cell: len(samples[cell, slowdown].pairs) for cell in slowed}
        for rule in OTHER_TOOLS if runs else ():
            rates += _counted(rule, slowdown, pairs, [[run[rule] for run in runs]])
    return tuple(rates)


def simulated(
    collected: SlowdownSamples, slowdowns: Sequence[float], fewest: int, pairs: int = 2000, seed: int = 0
) -> SlowdownSamples:
    """Return normally distributed pairs for each cell that has at least ``fewest`` pairs of identical sides.

    Each cell keeps its spread and seconds per pair. Only calls are slowed, by exactly ``slowdowns``.
    """
    rng = np.random.default_rng(seed)
    made = []
    for sample in (s for s in collected.samples if s.slowdown == 0 and len(s.pairs) >= fewest):
        seconds = _cell_s(sample) / len(sample.pairs)
        spread = float(np.std(_log_ratios(sample), ddof=1))
        for slowdown in (0.0, *slowdowns) if _is_call(sample.cell) else (0.0,):
            drawn = (math.log1p(slowdown) + spread * rng.standard_normal(pairs)).tolist()
            measured = (ProcessPair(log_ratio=x, base_ms=(), head_ms=(), seconds=seconds) for x in drawn)
            made.append(SlowdownSample(cell=sample.cell, slowdown=slowdown, pairs=tuple(measured)))
    backends = {sample.cell.backend for sample in made}
    taken_s = _start_s(collected) * pairs * len(backends) + math.fsum(map(_cell_s, made))
    return replace(collected, samples=tuple(made), seconds=taken_s)


class _Draw:
    """Draws gate runs from pairs, with replacement, and judges them."""

    def __init__(self, collected: SlowdownSamples, settings: GateSettings, drawing: Drawing) -> None:
        self._settings, self._drawing = settings, drawing
        self._rng = np.random.default_rng(drawing.seed)
        self._cell_s = {
            sample.cell: _cell_s(sample) / len(sample.pairs)
            for sample in collected.samples
            if sample.slowdown == 0
        }
        self._start_s = _start_s(collected)

    def gate_runs(self, ratios: _LogRatios) -> list[list[_Outcomes]]:
        """Return the outcomes of gate runs: one list of runs for each resample of the log ratios."""
        runs = []
        for _ in range(self._drawing.resamples):
            resampled = self._resampled(ratios)
            runs.append([self._gate_run(resampled) for _ in range(self._drawing.runs)])
        return runs

    def _resampled(self, ratios: _LogRatios) -> _LogRatios:
        """Resample whole process pairs: the cells of a backend were measured in the same ones."""
        places = {cell.backend: self._rng.random(max(map(len, ratios.values()))) for cell in ratios}
        return {
            cell: [values[int(place * len(values))] for place in places[cell.backend][: len(values)]]
            for cell, values in ratios.items()
        }

    def _gate_run(self, ratios: _LogRatios) -> _Outcomes:
        """Draw one gate run and return the outcome of each cell."""
        left_s, extras_s = self._drawing.budget_s - self._drawing.survey_s, 0.0

        def take_pair(wanted: Mapping[Cell, bool]) -> Mapping[Cell, float] | None:
            nonlocal left_s, extras_s
            timed = cells_within_budget(wanted, extras_s, self._drawing.budget_s)
            pair_s = self._start_s + sum(self._cell_s[cell] for cell in timed)
            if not timed or pair_s > left_s:
                return None
            left_s -= pair_s
            extras_s += sum(self._cell_s[cell] for cell in timed if has_limited_share(cell))
            place = self._rng.random()
            return {cell: ratios[cell][int(place * len(ratios[cell]))] for cell in timed}

        empty = [PairedCell(cell=cell) for cell in ratios]
        sampled = sample_pairs(empty, partial(plan_pairs, settings=self._settings), take_pair)
        verdicts = judge_cells(sampled, self._settings)
        return {cell: verdict.outcome for cell, verdict in zip(ratios, verdicts, strict=True)}

    def other_tools(
        self, samples: _Samples, cells: Sequence[Cell], slowdown: float
    ) -> Mapping[str, _Outcomes]:
        """Draw the base of one pair and the head of another; return the cells that each rule reports."""
        reported: dict[str, dict[Cell, Outcome]] = {rule: {} for rule in OTHER_TOOLS}
        for cell in cells:
            pairs = samples[cell, slowdown].pairs
            first, second = self._rng.choice(len(pairs), size=2, replace=False)
            base, head = np.asarray(pairs[first].base_ms), np.asarray(pairs[second].head_ms)
            for name, rule in OTHER_TOOLS.items():
                if rule(base, head):
                    reported[name][cell] = "regressed"
        return reported


def _log_ratios(sample: SlowdownSample) -> list[float]:
    return [pair.log_ratio for pair in sample.pairs]


def _is_call(cell: Cell) -> bool:
    return cell.figure.threshold is None


def _cell_s(sample: SlowdownSample) -> float:
    """Return the seconds that a sample took."""
    return math.fsum(pair.seconds or _call_s(sample.cell, pair) for pair in sample.pairs)


def _call_s(cell: Cell, pair: ProcessPair) -> float:
    """Return the seconds of a pair's calls, for older samples, whose pairs have no ``seconds``."""
    return (math.fsum(pair.base_ms) + math.fsum(pair.head_ms)) / 1e3 if _is_call(cell) else 0.0


def _start_s(collected: SlowdownSamples) -> float:
    """Return the seconds that a process pair spends outside its cells, above all to start two processes."""
    pairs = {sample.cell.backend: len(sample.pairs) for sample in collected.samples if sample.slowdown == 0}
    outside_s = collected.seconds - math.fsum(map(_cell_s, collected.samples))
    return max(outside_s, 0.0) / max(sum(pairs.values()), 1)


def _counted(
    rule: str, slowdown: float, pairs: Mapping[Cell, int], runs: Sequence[Sequence[_Outcomes]]
) -> list[ErrorRate]:
    """Count the outcomes of runs by cell, and on identical sides also by run.

    ``pairs`` has the number of pairs of each cell; each list in ``runs`` belongs to one resample.
    """

    def rate(cell: Cell | None, most: int) -> ErrorRate:
        counts = [sum("regressed" in _outcomes_of(run, cell) for run in group) for group in runs]
        equivalent = sum("equivalent" in _outcomes_of(run, cell) for group in runs for run in group)
        return ErrorRate(
            rule=rule,
            slowdown=slowdown,
            cell=cell,
            alarms=sum(counts),
            equivalent=equivalent if cell else 0,
            draws=sum(map(len, runs)),
            effective_draws=min(_effective_draws(counts, len(runs[0])), most),
        )

    rates = [rate(cell, number) for cell, number in pairs.items()]
    return [*rates, rate(None, min(pairs.values()))] if slowdown == 0 else rates


def _outcomes_of(run: _Outcomes, cell: Cell | None) -> Collection[str]:
    """Return the outcome of a cell in a run; without a cell, those of all."""
    return run.values() if cell is None else (run.get(cell, ""),)


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


def _enough(collected: SlowdownSamples, settings: GateSettings, on_step: Callable[[str], None]) -> _Samples:
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
