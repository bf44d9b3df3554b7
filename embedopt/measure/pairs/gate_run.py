"""``--against REF``: two sides measured as long as their comparison is open and the budget lasts.

Nothing here says what an effect is worth: ``plan_pairs`` is asked which pairs are missing.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from embedopt.errors import MeasureError
from embedopt.evidence import Cell, ExactPair, GateRun, NotComparable, PairedCell
from embedopt.inference.artifacts.store import default_cache_dir
from embedopt.inference.backends import REFERENCE
from embedopt.measure.pairs import worktree
from embedopt.measure.pairs.process_pair import Client, Clock, Pair, Work, measure_pair
from embedopt.measure.pairs.worker_client import Checkout, ForeignWorkerError, RefusedError, WorkerClient
from embedopt.sampling import PlanPairs, sample_pairs


class OpenedClient(Client, Protocol):
    """A started worker that knows its backends."""

    @property
    def backends(self) -> tuple[str, ...]:
        """Names of the backends that it can load."""
        ...


Start = Callable[[], AbstractContextManager[OpenedClient]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePlan:
    """What is to be compared with which base, and for how long.

    Attributes:
        ref: commit, branch or tag of the base.
        head: folder of the code that is compared with it, a git worktree.
        head_python: the interpreter that runs it.
        base_python: the interpreter of the base's own environment; None for the head's.
        cells: what is timed in pairs.
        work: texts, model and cache.
        budget_s: seconds for all of it.
        invariance_texts: of how many texts batch invariance is measured.
        invariance_rounds: in how many batches each.
        threshold: kept in the record.
    """

    ref: str
    head: Path
    head_python: str
    base_python: str | None = None
    cells: tuple[Cell, ...]
    work: Work
    budget_s: float
    invariance_texts: int
    invariance_rounds: int
    threshold: float | None = None

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends of the cells, each once."""
        return tuple(dict.fromkeys(cell.backend for cell in self.cells))


def measure_gate_run(
    asking: GatePlan, plan_pairs: PlanPairs, on_step: Callable[[str], None], clock: Clock = time.perf_counter
) -> GateRun:
    """Check the base out, measure both sides, and leave no process and no worktree behind.

    Raises:
        UsageError: there is no such base.
        MeasureError: a worker died, hung or wrote rubbish, or the head can't load a backend.
    """
    started_s = clock()
    commit, head = worktree.resolve(asking.head, asking.ref), worktree.describe_head(asking.head)
    cache_dir = Path(asking.work.cache_dir) if asking.work.cache_dir else default_cache_dir()
    with worktree.ended_by_signals(), worktree.checked_out(asking.head, commit, cache_dir) as folder:
        why = worktree.why_not_comparable(asking.head, folder, own_python=asking.base_python is not None)
        python = asking.base_python or asking.head_python
        comparing = GateRunner(
            lambda: WorkerClient(Checkout(name="base", root=folder, python=python)),
            lambda: WorkerClient(Checkout(name="head", root=asking.head, python=asking.head_python)),
            asking,
            clock,
            on_step,
        )
        if why:
            comparing.give_up(why)
        else:
            on_step(f"measuring {head[:12]}{head[40:]} against {asking.ref} ({commit[:12]})")
            comparing.run(plan_pairs)
    return GateRun(
        base=asking.ref,
        base_commit=commit,
        head=head,
        cells=comparing.cells,
        exact=tuple(comparing.exact),
        not_comparable=tuple(comparing.not_comparable),
        pairs=comparing.pairs,
        seconds=clock() - started_s,
        budget_s=asking.budget_s,
        threshold=asking.threshold,
    )


class GateRunner:
    """Two sides being compared, and what was found so far.

    Args:
        start_base: starts a fresh worker of the base.
        start_head: likewise.
        asking: what is to be measured.
        clock: seconds, for the budget, which begins now.
        on_step: told in words what was measured.
    """

    def __init__(
        self,
        start_base: Start,
        start_head: Start,
        asking: GatePlan,
        clock: Clock,
        on_step: Callable[[str], None],
    ) -> None:
        self._starts = (start_base, start_head)
        self._asking = asking
        self._clock = clock
        self._on_step = on_step
        self._started_s = clock()
        self.cells = tuple(PairedCell(cell=cell) for cell in asking.cells)
        self._pair_s: dict[str, float] = {}
        self.exact: list[ExactPair] = []
        self.not_comparable: list[NotComparable] = []
        self.pairs = 0

    def give_up(self, why: str) -> None:
        """Note that nothing can be compared."""
        self._leave_out(dict.fromkeys(self._asking.backends, why))

    def _leave_out(self, reasons: Mapping[str, str]) -> None:
        self.not_comparable = [NotComparable(backend=name, why=why) for name, why in reasons.items()]
        self.cells = tuple(cell for cell in self.cells if cell.cell.backend not in reasons)

    def run(self, plan_pairs: PlanPairs) -> None:
        """Take the exact values, then pairs for as long as they are wanted and the budget lasts."""
        self._survey()
        self.cells = sample_pairs(self.cells, plan_pairs, self._take_pair) if self.cells else ()

    def _survey(self) -> None:
        try:
            base_found = self._values(self._starts[0])
        except ForeignWorkerError as error:
            self.give_up(str(error))
            return
        self._leave_out({name: found for name, found in base_found.items() if isinstance(found, str)})
        for name, head in self._values(self._starts[1]).items():
            found = base_found[name]
            if isinstance(head, str):
                raise MeasureError(head)
            if isinstance(found, dict):
                self.exact += [
                    ExactPair(backend=name, metric=metric, base=found[metric], head=value)
                    for metric, value in head.items()
                    if metric in found
                ]

    def _values(self, start: Start) -> dict[str, dict[str, float] | str]:
        """Return what a side says of each backend that varies from no run to the next, or why it can't."""
        with start() as side:
            load = {"model": self._asking.work.model, "cache_dir": self._asking.work.cache_dir}
            loaded = {REFERENCE: side.ask("load", backend=REFERENCE, **load)}
            return {name: self._values_of(side, name, loaded, load) for name in self._asking.backends}

    def _values_of(
        self, side: OpenedClient, name: str, loaded: dict[str, dict[str, Any]], load: dict[str, str | None]
    ) -> dict[str, float] | str:
        if name not in side.backends:
            return f"the base has no backend {name}: it is new here"
        try:
            found = loaded.get(name) or side.ask("load", backend=name, **load)
            scores = side.ask(
                "accuracy",
                backend=name,
                texts=self._asking.work.texts,
                invariance_texts=self._asking.invariance_texts,
                invariance_rounds=self._asking.invariance_rounds,
            )
        except RefusedError as error:
            return str(error)
        return {"disk_bytes": found["disk_bytes"], **scores}

    def _left_s(self) -> float:
        return self._asking.budget_s - (self._clock() - self._started_s)

    def _take_pair(self, cells: Sequence[Cell]) -> Mapping[Cell, float] | None:
        backend, started_s = cells[0].backend, self._clock()
        if self._left_s() <= self._pair_s.get(backend, 0.0):
            return None
        with self._starts[self.pairs % 2]() as first, self._starts[1 - self.pairs % 2]() as second:
            sides = (first, second) if self.pairs % 2 == 0 else (second, first)
            found = measure_pair(Pair(self.pairs, *sides), cells, self._asking.work, clock=self._clock)
        self.pairs += 1
        self._pair_s[backend] = self._clock() - started_s
        self._on_step(
            f"pair {self.pairs}: {backend} in {self._pair_s[backend]:.0f} s; "
            f"{max(0.0, self._left_s()):.0f} of {self._asking.budget_s:.0f} s left"
        )
        return {cell: sample.log_ratio for (cell, _), sample in found.items()}
