"""``--against REF``: measure base and head in process pairs, while pairs are wanted and the budget lasts.

This module does not judge: the caller's function ``plan_pairs`` returns the pairs that are still wanted.
"""

import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import pydantic.dataclasses
from pydantic import ConfigDict, Field

from embedopt.clock import Clock
from embedopt.evidence import Cell, Drift, ExactPair, FigureKind, GateRun, NotComparable, PairedCell
from embedopt.inference.artifacts.store import cache_root
from embedopt.inference.targets import changed_targets, read_targets
from embedopt.measure.pairs import base_commit, environment, project, worktree
from embedopt.measure.pairs.drift import measure_drift
from embedopt.measure.pairs.exact_values import (
    ExactRequest,
    ExactValues,
    best_request,
    measure_exact_values,
)
from embedopt.measure.pairs.last_calls import LastCalls
from embedopt.measure.pairs.origins import not_own
from embedopt.measure.pairs.own_inputs import BaseInputs, own_inputs
from embedopt.measure.pairs.pair_sampler import PairSampler
from embedopt.measure.pairs.process_pair import StartWorker, Work, cells_of
from embedopt.measure.pairs.worker_client import Checkout, ForeignWorkerError, WorkerClient
from embedopt.sampling import BUDGET_S, PlanPairs, sample_pairs
from embedopt.signals import ended_by_signals

_BudgetS = Annotated[float, Field(title="--against-budget", description="seconds, above 0", gt=0)]


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=ConfigDict(allow_inf_nan=False))
class GatePlan:
    """What is compared with which base, and for how long.

    Attributes:
        ref: commit, branch or tag of the base.
        head: folder of the code that is compared with the base, a git worktree.
        head_python: interpreter of the head's own environment; None for the one that runs us.
        base_python: likewise of the base; None for the head's.
        backends: backends that are timed in process pairs, at each of the batch sizes.
        base_inputs: model and texts of the base, where they are not head's.
        moved: changes of head to the base's configuration, such as ``--min-cosine 0.95 -> 0.5``.
        invariance: number of texts and rounds of batch invariance, as the request ``accuracy`` has them.
        threshold: smallest change that counts, a share, for the record only; None for the default.
    """

    ref: str
    head: Path
    head_python: str | None = None
    base_python: str | None = None
    backends: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    base_inputs: BaseInputs = BaseInputs()
    moved: tuple[str, ...] = ()
    budget_s: _BudgetS = BUDGET_S
    invariance: Mapping[str, int]
    threshold: float | None = None

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells that are timed in process pairs."""
        return cells_of(self.backends, self.batch_sizes)

    @property
    def questions(self) -> tuple[tuple[int, FigureKind], ...]:
        """The questions about each backend: a batch size (0 for none) and a kind of figure."""
        kinds = [kind for kind in get_args(FigureKind) if kind != "time"]
        return (*((size, "time") for size in self.batch_sizes), *((0, kind) for kind in kinds))


def measure_gate_run(
    plan: GatePlan,
    work: Work,
    plan_pairs_by: Callable[[Mapping[str, Any]], PlanPairs],
    on_step: Callable[[str], None],
    clock: Clock = time.perf_counter,
) -> GateRun:
    """Check the base out, measure base and head, and leave no process and no worktree behind.

    ``plan_pairs_by`` takes the base's rules and returns the function that plans the pairs by them.

    Raises:
        UsageError: the base does not exist.
        GitError: git can't check the base out.
        MeasureError: a worker died, hung or wrote rubbish.
    """
    installed = not project.holds_embedopt(plan.head)
    commit, head_commit = worktree.resolve(plan.head, plan.ref), worktree.describe_head(plan.head)
    cache_dir = cache_root(Path(work.cache_dir) if work.cache_dir else None)
    suite = base_commit.suite_folder(plan.head, commit)
    with ended_by_signals(), worktree.checked_out(plan.head, commit, cache_dir, suite) as folder:
        python = plan.head_python or sys.executable
        base = Checkout(name="base", root=folder, python=plan.base_python or python, installed=installed)
        head = Checkout(name="head", root=plan.head, python=python, installed=installed)
        if project.has_suite(folder, installed=installed):
            environment.install(folder, project.install_command(plan.head, folder), on_step)
        started_s = clock()
        starts = (lambda: WorkerClient(base), lambda: WorkerClient(head))
        runner = GateRunner(starts, plan, work, on_step, clock)
        runner.compare(folder, commit, head_commit, plan_pairs_by)
    return GateRun(
        base=plan.ref,
        base_commit=commit,
        head=head_commit,
        cells=runner.cells,
        exact=tuple(runner.exact),
        not_comparable=runner.not_comparable,
        pairs=runner.sampler.pairs,
        seconds=clock() - started_s,
        budget_s=plan.budget_s,
        threshold=plan.threshold,
        drift=tuple(runner.drift),
        added=runner.added,
        removed=runner.removed,
        accepted=runner.accepted,
        rules=runner.rules,
        moved_rules=runner.moved,
        notes=tuple(runner.notes),
    )


class GateRunner:
    """Measures base and head, and holds the evidence so far.

    ``starts`` holds a function that starts a worker of the base, and one for the head. The budget begins now.
    """

    def __init__(
        self,
        starts: tuple[StartWorker, StartWorker],
        plan: GatePlan,
        work: Work,
        on_step: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self._start_base, self._start_head = starts
        self._plan, self.work = plan, work
        self._on_step = on_step
        self._last_calls = LastCalls()
        self.sampler = PairSampler(starts, plan.budget_s, on_step, self._last_calls, clock)
        self.cells = tuple(PairedCell(cell=cell) for cell in plan.cells)
        self.exact: list[ExactPair] = []
        self.drift: list[Drift] = []
        self._reasons: dict[str, str] = {}
        self._cell_reasons: dict[Cell, str] = {}
        self._projects = (Path(), plan.head)
        self.added: tuple[str, ...] = ()
        self.removed: tuple[str, ...] = ()
        self.notes: list[str] = []
        self.moved = plan.moved
        self.rules: Mapping[str, Any] | None = None  # the base's, once it is measured
        self.accepted: tuple[str, ...] = ()
        self._lost: tuple[str, ...] = ()  # what the change removes besides backends
        self._vectors_by: str | None = None

    def compare(
        self, base: Path, commit: str, head: str, plan_pairs_by: Callable[[Mapping[str, Any]], PlanPairs]
    ) -> None:
        """Measure what can be compared with the checkout of the base's commit."""
        plan, installed = self._plan, not project.holds_embedopt(self._plan.head)
        if not project.has_suite(base, installed=installed):
            self._on_step(f"{plan.ref} has no embedopt: there is nothing to compare with")
            self.add(plan.backends)
            return
        targets = read_targets(plan.head)
        ours = [name for name in plan.backends if name not in targets]
        # Without an environment of its own, the head runs in that of this code.
        is_head_at_home = plan.head_python is not None or installed or project.holds_this_code(plan.head)
        own_python = plan.base_python is not None and is_head_at_home
        if ours and (
            why := project.why_not_comparable(plan.head, base, own_python=own_python, installed=installed)
        ):
            self._leave_out(dict.fromkeys(ours if installed else plan.backends, why))
            if not self.cells:
                return
        self._on_step(f"measuring {head[:12]}{head[40:]} against {plan.ref} ({commit[:12]})")
        own_rules, self.rules = project.rules(plan.head), project.rules(base)
        self.accepted = project.newly_accepted(own_rules, self.rules)
        self._projects = (base, plan.head)
        self.notes += changed_targets(read_targets(base), targets)
        self._take_inputs_of(base)
        self.moved += project.moved_rules(own_rules, self.rules)
        self.moved += project.moved_judges(plan.head, commit)
        if self.work.texts:
            self.run(plan_pairs_by(self.rules))
        else:
            why = "base and head have no text in common: keep some of the base's corpus"
            self._leave_out(dict.fromkeys(plan.backends, why))

    def _take_inputs_of(self, base: Path) -> None:
        own = own_inputs(self._plan.base_inputs, base, self.work)
        self.work = own.work
        if own.lost:
            self._lost, self.moved = ("texts",), (*self.moved, f"the corpus loses {own.lost}")
        if own.added:
            self.notes.append(f"only the head has {own.added}: nothing to compare them with")

    def add(self, backends: Sequence[str]) -> None:
        """Record that the base does not have these backends: there is nothing to compare them with."""
        self.added = tuple(backends)
        self._forget(backends)

    def _leave_out(self, reasons: Mapping[str, str]) -> None:
        self._reasons |= reasons
        self._forget(reasons)

    @property
    def not_comparable(self) -> tuple[NotComparable, ...]:
        """The backends and cells that can't be compared, and why."""
        backends = [NotComparable(backend=name, why=why) for name, why in self._reasons.items()]
        cells = [
            NotComparable(backend=cell.backend, cell=cell, why=why)
            for cell, why in self._cell_reasons.items()
        ]
        return (*backends, *cells)

    def _forget(self, backends: Collection[str]) -> None:
        self.cells = tuple(known for known in self.cells if known.cell.backend not in backends)

    def run(self, plan_pairs: PlanPairs) -> None:
        """Measure the exact values, then process pairs as long as they are wanted and the budget lasts."""
        self._measure_exact_values()
        if self.cells:
            sampler = self.sampler
            sampled = sample_pairs(
                self.cells, plan_pairs, lambda cells: sampler.measure(cells, self.work), sampler.budget
            )
            disagreeing = self.sampler.disagreeing()
            self._cell_reasons |= disagreeing
            self.cells = tuple(known for known in sampled if known.cell not in disagreeing)
        self.drift = self._last_calls.with_drift(self.drift)
        self.notes += [*self.sampler.notes, *self._last_calls.notes]

    def _measure_exact_values(self) -> None:
        try:
            base = self._exact_values(self._start_base, of_base=True)
        except ForeignWorkerError as error:
            self._leave_out(dict.fromkeys(self._plan.backends, str(error)))
            return
        head = self._exact_values(self._start_head, of_base=False)
        self.add([name for name in self._plan.backends if name not in base.backends])
        self._leave_out(base.refused | head.refused)
        self._leave_out(not_own(self._projects, base.files, head.files))
        gone = (name for name in base.backends if name not in head.backends)
        self.removed = (*self._lost, *gone)
        self._leave_out_cells(base.requests, head.requests)
        self.exact = [
            ExactPair(backend=name, metric=metric, base=value, head=head.scores[name].get(metric))
            for name, scores in base.scores.items()
            for metric, value in scores.items()
            if name not in self._reasons and name in head.scores
        ]
        self.drift = [
            measure_drift(name, self.work.texts, vectors, head.vectors[name])
            if name in head.vectors
            else Drift(backend=name, why="vectors that the head's worker does not give")
            for name, vectors in base.vectors.items()
            if name not in self._reasons
        ]
        self.drift += [
            Drift(backend=name, why=f"the backend is {head.defaults.get(name)}, was {backend}")
            for name, backend in base.defaults.items()
            if head.defaults.get(name) != backend
        ]

    def _exact_values(self, start: StartWorker, *, of_base: bool) -> ExactValues:
        plan = self._plan
        with start() as client:
            if of_base and (request := best_request(client.requests)) is None:
                self.notes.append(
                    "drift is not compared: the base's worker gives no vectors; a newer base does"
                )
            elif of_base:
                self._vectors_by = request
            asked = ExactRequest(vectors_by=self._vectors_by, invariance=plan.invariance, of_base=of_base)
            left = [name for name in plan.backends if name not in self._reasons]
            return measure_exact_values(client, left, self.work, asked)

    def _leave_out_cells(self, base: Collection[str], head: Collection[str]) -> None:
        """Leave out the cells whose request the worker of base, or of head, does not answer."""
        lacking = [known.cell for known in self.cells if known.cell.figure.request not in {*base} & {*head}]
        self._cell_reasons |= {
            cell: "head's worker can't measure it any more" for cell in lacking if cell.figure.request in base
        }
        kinds = dict.fromkeys(cell.figure.kind for cell in lacking if cell.figure.request not in base)
        self.notes += [
            f"{kind} is not compared: the base's worker can't measure it; a newer base can" for kind in kinds
        ]
        self.cells = tuple(known for known in self.cells if known.cell not in lacking)
