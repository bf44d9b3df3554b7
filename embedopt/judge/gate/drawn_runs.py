"""Whole gate runs that are drawn from process pairs, real or simulated, within the budget, and judged."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from embedopt.evidence import Cell, PairedCell, ProcessPair, SlowdownSample, SlowdownSamples
from embedopt.judge.gate.other_tools import OTHER_TOOLS
from embedopt.judge.gate.pairs_rule import judge_cells, plan_pairs
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.verdict import Verdict, exit_code
from embedopt.sampling import BUDGET_S, Budget, Measurement, measurement_of, sample_pairs

Samples = Mapping[tuple[Cell, float], SlowdownSample]
LogRatios = Mapping[Cell, Sequence[float]]
# What matters of a verdict; "unanswered" is what ends with exit code 5.
_Outcome = Literal["regressed", "equivalent", "unanswered", ""]
# Of each cell of a run, and at None of the whole run.
Outcomes = Mapping[Cell | None, _Outcome]
_BY_EXIT_CODE: Mapping[int, _Outcome] = {1: "regressed", 5: "unanswered"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How gate runs are drawn.

    Attributes:
        resamples: how many times the collected pairs are resampled.
        runs: gate runs from each resample, on identical sides and again for each slowed cell.
        other_tool_runs: runs for the rules of other tools, which are slower to compute.
        budget_s: seconds of each run; a pair costs what its cells and the start of its two processes took
            when they were collected.
        seed: seed of the random generator of each slow-down.
    """

    resamples: int = 50
    runs: int = 20
    other_tool_runs: int = 500
    budget_s: float = BUDGET_S
    seed: int = 0


def simulated(
    collected: SlowdownSamples, slowdowns: Sequence[float], fewest: int, pairs: int = 2000, seed: int = 0
) -> SlowdownSamples:
    """Return normally distributed pairs for each cell that has at least ``fewest`` pairs of identical sides.

    Each cell keeps its spread and seconds per pair. Only calls are slowed, by exactly ``slowdowns``. It is a
    simulation, not a measurement.
    """
    rng = np.random.default_rng(seed)
    made = []
    for sample in (s for s in collected.samples if s.slowdown == 0 and len(s.pairs) >= fewest):
        seconds = _sample_s(sample) / len(sample.pairs)
        spread = float(np.std(log_ratios(sample), ddof=1))
        for slowdown in (0.0, *slowdowns) if _is_call(sample.cell) else (0.0,):
            drawn = (math.log1p(slowdown) + spread * rng.standard_normal(pairs)).tolist()
            measured = (ProcessPair(log_ratio=x, base_ms=(), head_ms=(), seconds=seconds) for x in drawn)
            made.append(SlowdownSample(cell=sample.cell, slowdown=slowdown, pairs=tuple(measured)))
    backends = {sample.cell.backend for sample in made}
    taken_s = _pair_start_s(collected) * pairs * len(backends) + math.fsum(map(_sample_s, made))
    return replace(collected, samples=tuple(made), seconds=taken_s)


class DrawnRuns:
    """Draws gate runs from pairs, with replacement, and judges them."""

    def __init__(self, collected: SlowdownSamples, settings: GateSettings, drawing: Drawing) -> None:
        self._settings, self._drawing = settings, drawing
        self._rng = np.random.default_rng(drawing.seed)
        self._survey_s = collected.survey_s
        self._measured_s = defaultdict[Measurement, float](float)
        self._start_s = defaultdict[str, float](lambda: _pair_start_s(collected))
        for sample in (sample for sample in collected.samples if sample.slowdown == 0):
            seconds = _sample_s(sample) / len(sample.pairs)
            if measurement := measurement_of(sample.cell):
                self._measured_s[measurement] += seconds
            else:
                self._start_s[sample.cell.backend] += seconds

    def gate_runs(self, ratios: LogRatios) -> list[list[Outcomes]]:
        """Return the outcomes of gate runs: one list of runs for each resample of the log ratios."""
        runs = []
        for _ in range(self._drawing.resamples):
            resampled = self._resampled(ratios)
            runs.append([self._gate_run(resampled) for _ in range(self._drawing.runs)])
        return runs

    def _resampled(self, ratios: LogRatios) -> LogRatios:
        """Resample whole process pairs: the cells of a backend were measured in the same ones."""
        places = {cell.backend: self._rng.random(max(map(len, ratios.values()))) for cell in ratios}
        return {
            cell: [values[int(place * len(values))] for place in places[cell.backend][: len(values)]]
            for cell, values in ratios.items()
        }

    def _gate_run(self, ratios: LogRatios) -> Outcomes:
        """Draw one gate run and return its outcomes."""
        left_s = self._drawing.budget_s - self._survey_s
        budget = Budget(lambda: left_s)

        def take_pair(cells: Sequence[Cell]) -> Mapping[Cell, float]:
            nonlocal left_s
            backend, place = cells[0].backend, self._rng.random()
            taken_s = self._taken_s(cells)
            pair_s = self._start_s[backend] + sum(taken_s.values())
            left_s -= pair_s
            budget.learn(backend, pair_s, taken_s)
            return {cell: ratios[cell][int(place * len(ratios[cell]))] for cell in cells}

        empty = [PairedCell(cell=cell) for cell in ratios]
        plan = partial(plan_pairs, settings=self._settings)
        sampled = sample_pairs(empty, plan, take_pair, budget)
        verdicts = judge_cells(sampled, self._settings)
        outcomes: dict[Cell | None, _Outcome] = {None: _BY_EXIT_CODE.get(exit_code(verdicts), "")}
        return outcomes | dict(zip(ratios, map(_outcome, verdicts), strict=True))

    def _taken_s(self, cells: Sequence[Cell]) -> Mapping[Cell, float]:
        """Return the seconds of the cells of a pair; what is measured at once takes them once."""
        measured = {part: cell for cell in cells if (part := measurement_of(cell))}
        return {cell: self._measured_s[part] for part, cell in measured.items()}

    def other_tools(self, samples: Samples, cells: Sequence[Cell], slowdown: float) -> Mapping[str, Outcomes]:
        """Draw the base of one pair and the head of another; return the cells that each rule reports."""
        reported: dict[str, dict[Cell | None, _Outcome]] = {rule: {} for rule in OTHER_TOOLS}
        for cell in cells:
            pairs = samples[cell, slowdown].pairs
            first, second = self._rng.choice(len(pairs), size=2, replace=False)
            base, head = np.asarray(pairs[first].base_ms), np.asarray(pairs[second].head_ms)
            for name, rule in OTHER_TOOLS.items():
                if rule(base, head):
                    reported[name][cell] = reported[name][None] = "regressed"
        return reported


def log_ratios(sample: SlowdownSample) -> list[float]:
    """Return the log ratio of each pair of a sample."""
    return [pair.log_ratio for pair in sample.pairs]


def _is_call(cell: Cell) -> bool:
    return cell.figure.threshold is None


def _sample_s(sample: SlowdownSample) -> float:
    """Return the seconds that a sample took."""
    return math.fsum(pair.seconds for pair in sample.pairs)


def _pair_start_s(collected: SlowdownSamples) -> float:
    """Return the seconds that a process pair spends outside its cells, above all to start two processes."""
    pairs = {sample.cell.backend: len(sample.pairs) for sample in collected.samples if sample.slowdown == 0}
    outside_s = collected.seconds - math.fsum(map(_sample_s, collected.samples))
    return max(outside_s, 0.0) / max(sum(pairs.values()), 1)


def _outcome(verdict: Verdict) -> _Outcome:
    if verdict.unanswered:
        return "unanswered"
    return verdict.outcome if verdict.outcome in ("regressed", "equivalent") else ""
