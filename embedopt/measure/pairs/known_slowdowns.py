"""Process pairs with known slow-downs: base and head run the same code, and the head is slowed on purpose.

The slow-down is work after each call. Both sides do it; it counts for the head. Where only the head did it,
its calls without any slow-down were 2.7 % (+-0.5) slower than base's, too (``torch-fp32`` with one text).

The first half of the pairs has identical sides only: an error rate depends mostly on how these spread, and
such a pair takes a fifth of the time. Each other pair measures all slow-downs and none in turns, so that
chance affects all alike.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from embedopt.clock import Clock
from embedopt.errors import RecordError
from embedopt.evidence import Cell, ProcessPair, SlowdownSample, SlowdownSamples
from embedopt.measure.pairs.cells import measure_pair
from embedopt.measure.pairs.exact_values import ExactRequest, best_request, measure_exact_values
from embedopt.measure.pairs.process_pair import StartWorker, Work, live_pair
from embedopt.schema import from_json

SLOWDOWNS = (0.01, 0.02, 0.03, 0.05, 0.10)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingPlan:
    """The cells to sample, the number of process pairs of each backend, and the longest duration.

    ``invariance`` is the number of texts and rounds of batch invariance in a gate run's exact values.
    """

    cells: tuple[Cell, ...]
    work: Work
    invariance: Mapping[str, int]
    pairs: int
    budget_s: float

    @property
    def cells_by_backend(self) -> dict[str, list[Cell]]:
        """The cells of each backend."""
        names = dict.fromkeys(cell.backend for cell in self.cells)
        return {name: [cell for cell in self.cells if cell.backend == name] for name in names}

    @property
    def total(self) -> int:
        """Number of process pairs of all backends."""
        return self.pairs * len(self.cells_by_backend)

    def done(self, samples: SlowdownSamples) -> int:
        """Return how many process pairs of this plan were measured."""
        measured = [[pairs_of(samples, cell) for cell in cells] for cells in self.cells_by_backend.values()]
        return sum(min(self.pairs, *counts) for counts in measured)


def collect_samples(
    start: StartWorker,
    plan: SamplingPlan,
    samples: SlowdownSamples,
    on_pair: Callable[[SlowdownSamples], None],
    clock: Clock = time.perf_counter,
) -> SlowdownSamples:
    """Measure process pairs, the backends in turn, until the plan is fulfilled or its budget is spent.

    They are added to ``samples``, those of earlier calls, which may have other cells. ``on_pair`` gets all
    samples so far after each pair.

    Raises:
        MeasureError: a worker died, hung or wrote rubbish.
    """
    if plan.budget_s > 0:
        samples = replace(samples, survey_s=max(samples.survey_s, 2 * _survey_s(start, plan, clock)))
    started_s = clock()
    for number in range(plan.pairs):
        for planned in plan.cells_by_backend.values():
            cells = [cell for cell in planned if pairs_of(samples, cell) <= number]
            if not cells:
                continue
            if clock() - started_s >= plan.budget_s:
                return samples
            pair_started_s = clock()
            measured, slowdowns = {}, slowdowns_of(number, plan.pairs)
            with live_pair(number, start, start) as pair:
                now_s = clock()
                for (cell, slowdown), own in measure_pair(pair, cells, plan.work, slowdowns, clock):
                    before_s, now_s = now_s, clock()
                    if slowdown == 0:  # the calls of all slow-downs of the cell have been made by now
                        share_s = (now_s - before_s) / (1 if cell.figure.threshold else len(slowdowns))
                    measured[cell, slowdown] = replace(own, seconds=round(share_s, 4))
            samples = _with(samples, measured, clock() - pair_started_s)
            on_pair(samples)
    return samples


def _survey_s(start: StartWorker, plan: SamplingPlan, clock: Clock) -> float:
    """Return the seconds that a gate run takes for the exact values of one side.

    The artifacts are built first: a process that builds one takes several times the memory of opening it.
    """
    names = list(plan.cells_by_backend)
    with start() as client:
        for name in names:
            client.ask("load", **plan.work.opening(name, of_base=False))
    started_s = clock()
    with start() as client:
        request = best_request(client.requests)
        asked = ExactRequest(vectors_by=request, invariance=plan.invariance, of_base=False)
        measure_exact_values(client, names, plan.work, asked)
    return clock() - started_s


def read_samples(file: Path) -> tuple[SlowdownSamples, ...]:
    """Read a file that ``embedopt calibrate`` wrote: the samples of each hardware class.

    Raises:
        RecordError: the file can't be read or holds no samples.
    """
    try:
        content = json.loads(file.read_text(encoding="utf8"))
        # from_json refuses an empty list, and what is no list.
        by_class = content if content and isinstance(content, list) else [content]
        return tuple(from_json(SlowdownSamples, values) for values in by_class)
    except (OSError, ValueError, RecordError) as error:
        raise RecordError(
            f"{file} can't be read ({error}); wanted samples that embedopt calibrate writes: "
            "collect them anew, or name another file"
        ) from None


def slowdowns_of(number: int, pairs: int) -> tuple[float, ...]:
    """Return the slow-downs that one of ``pairs`` process pairs measures, by its number."""
    return (0.0, *SLOWDOWNS) if number >= pairs // 2 else (0.0,)


def pairs_of(samples: SlowdownSamples, cell: Cell) -> int:
    """Return how many process pairs of identical code a cell has."""
    return sum(
        len(sample.pairs) for sample in samples.samples if sample.cell == cell and sample.slowdown == 0
    )


def _with(
    samples: SlowdownSamples, measured: Mapping[tuple[Cell, float], ProcessPair], seconds: float
) -> SlowdownSamples:
    by_key = {(sample.cell, sample.slowdown): sample for sample in samples.samples}
    for (cell, slowdown), pair in measured.items():
        empty = SlowdownSample(cell=cell, slowdown=slowdown, pairs=())
        sample = by_key.get((cell, slowdown), empty)
        by_key[cell, slowdown] = replace(sample, pairs=(*sample.pairs, pair))
    return replace(samples, samples=tuple(by_key.values()), seconds=samples.seconds + seconds)
