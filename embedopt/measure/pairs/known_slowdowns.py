"""Real process pairs of identical sides, and of sides of which one is slowed on purpose.

One pair measures both, in turns, so that every condition has the same luck. To save time a pair has every
other slow-down only: identical sides get all the pairs, each slow-down half of them.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from embedopt.errors import RecordError
from embedopt.evidence import Cell, ProcessPair, SlowdownSample, SlowdownSamples
from embedopt.files import write_whole
from embedopt.measure.pairs.gate_run import Start
from embedopt.measure.pairs.process_pair import Clock, Pair, Work, measure_pair
from embedopt.schema import from_json, to_json

SLOWDOWNS = (0.03, 0.05, 0.10, 0.20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What is collected, and how much.

    Attributes:
        cells: what is timed.
        work: texts and times.
        pairs: process pairs of each backend.
        budget_s: seconds, after which no further pair is begun.
    """

    cells: tuple[Cell, ...]
    work: Work
    pairs: int
    budget_s: float

    @property
    def total(self) -> int:
        """Pairs of all backends."""
        return self.pairs * len({cell.backend for cell in self.cells})


def collect(
    start: Start,
    effort: Effort,
    known: SlowdownSamples,
    on_pair: Callable[[SlowdownSamples, int], None],
    clock: Clock = time.perf_counter,
) -> SlowdownSamples:
    """Collect pairs, one of each backend after the other.

    Args:
        start: starts a fresh worker; both sides are the same code.
        effort: what, and how much.
        known: what was collected before, and is gone on with.
        on_pair: told after each pair what there is, and how many pairs.
        clock: seconds.

    Raises:
        RecordError: ``known`` has other cells.
        MeasureError: a worker died, hung or wrote rubbish.
    """
    cells = effort.cells
    _check(known, cells)
    backends = tuple(dict.fromkeys(cell.backend for cell in cells))
    started_s = clock()
    for number in range(effort.pairs):
        for backend in backends:
            own = [cell for cell in cells if cell.backend == backend]
            if pairs_of(known, own[0]) > number:
                continue
            if clock() - started_s >= effort.budget_s:
                return known
            began_s = clock()
            with start() as first, start() as second:
                sides = (first, second) if number % 2 == 0 else (second, first)
                found = measure_pair(Pair(number, *sides), own, effort.work, slowdowns_of(number), clock)
            known = _with(known, found, clock() - began_s)
            on_pair(known, sum(pairs_of(known, cell) for cell in _first_cells(cells)))
    return known


def read_calibration(file: Path) -> SlowdownSamples:
    """Read what :func:`write_calibration` wrote.

    Raises:
        RecordError: the file can't be read, or is no calibration.
    """
    try:
        return from_json(SlowdownSamples, json.loads(file.read_text(encoding="utf8")))
    except (OSError, ValueError, RecordError) as error:
        raise RecordError(
            f"{file} can't be read ({error}); wanted samples that embedopt calibrate wrote"
        ) from None


def write_calibration(file: Path, calibration: SlowdownSamples) -> None:
    """Write samples, whole or not at all.

    Raises:
        RecordError: the file can't be written.
    """
    write_whole(file, json.dumps(to_json(calibration)))


def slowdowns_of(number: int) -> tuple[float, ...]:
    """Return what a pair is measured with. Not by parity: that says which side is called first."""
    return (0.0, *SLOWDOWNS[number // 2 % 2 :: 2])


def pairs_of(known: SlowdownSamples, cell: Cell) -> int:
    """Return how many pairs of identical sides a cell has."""
    return sum(len(of.pairs) for of in known.samples if of.cell == cell and of.slowdown == 0)


def _first_cells(cells: Sequence[Cell]) -> list[Cell]:
    return list({cell.backend: cell for cell in reversed(cells)}.values())


def _check(known: SlowdownSamples, cells: Sequence[Cell]) -> None:
    before = {of.cell for of in known.samples}
    if before and not before <= set(cells):
        named = ", ".join(sorted(map(str, before)))
        raise RecordError(
            f"the calibration to resume is of {named}: ask for the same cells, or start a new one"
        )


def _with(
    known: SlowdownSamples, found: Mapping[tuple[Cell, float], ProcessPair], seconds: float
) -> SlowdownSamples:
    samples = {(of.cell, of.slowdown): of for of in known.samples}
    for (cell, slowdown), pair in found.items():
        before = samples.get((cell, slowdown), SlowdownSample(cell=cell, slowdown=slowdown, pairs=()))
        samples[cell, slowdown] = replace(before, pairs=(*before.pairs, pair))
    return replace(known, samples=tuple(samples.values()), seconds=known.seconds + seconds)
