"""A gate run: which pairs it samples, when it stops, and what it can't compare."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedopt.errors import MeasureError
from embedopt.evidence import Cell, Drift, ExactPair, NotComparable, PairedCell, PairsWanted
from embedopt.inference.encoder import FloatArray
from embedopt.measure.pairs.gate_run import GatePlan, GateRunner, measure_gate_run
from embedopt.measure.pairs.process_pair import Work
from embedopt.measure.pairs.worker_client import ForeignWorkerError
from embedopt.measure.worker import REQUESTS
from embedopt.sampling import PlanPairs
from tests.fakes import FakeClock
from tests.measure.pairs.stand_ins import FakeClient, has_group_ended
from tests.repositories import git

BATCH = Cell(backend="fake", batch_size=2)
ROOT = Path(__file__).parents[3]


class Stage:
    """Runs a gate run with fake clients that share a clock and a log.

    Attributes:
        cant_start: the error of starting a worker of base or head, by name.
        refuses: the request that clients of base or head refuse, by name.
        backends: the backends that clients of base or head have, by name.
        scores: the mean cosine that clients of base or head answer, by name.
        all_scores: in place of that, all scores that clients of base or head answer, by name.
        requests: the requests that clients of base or head answer, by name.
        idle_s: what the clients of base or head wait for beyond a call, by name.
        others_share: share of a core that others take while clients of base or head are called, by name.
        vectors: the vectors that clients of base or head answer, by name.
        defaults: the default backends of clients of base or head, by name.
        timed: the vectors of the last timed call that clients of base or head answer, by name.
        keeps_results: the names of the clients that answer repeated texts from a cache.
    """

    def __init__(self, budget_s: float = 1000.0, backends: tuple[str, ...] = ("fake",)) -> None:
        self.clock = FakeClock()
        self.log: list[str] = []
        self.clients: list[FakeClient] = []
        self.cant_start: dict[str, Exception] = {}
        self.refuses: dict[str, str] = {}
        self.backends: dict[str, tuple[str, ...]] = {}
        self.scores: dict[str, float] = {}
        self.all_scores: dict[str, dict[str, float]] = {}
        self.requests: dict[str, tuple[str, ...]] = {}
        self.vectors: dict[str, FloatArray] = {}
        self.idle_s: dict[str, float] = {}
        self.others_share: dict[str, float] = {}
        self.defaults: dict[str, dict[str, str]] = {}
        self.timed: dict[str, FloatArray] = {}
        self.keeps_results: set[str] = set()
        plan = GatePlan(
            ref="main",
            head=Path(),
            backends=backends,
            batch_sizes=(2,),
            budget_s=budget_s,
            invariance={"invariance_texts": 2, "invariance_rounds": 1},
        )
        starts = (lambda: self._start("base"), lambda: self._start("head"))
        work = Work(texts=("a", "b", "c"), cell_s=4.0)
        self.runner = GateRunner(starts, plan, work, lambda _: None, self.clock)

    def _start(self, name: str) -> FakeClient:
        if name in self.cant_start:
            raise self.cant_start[name]
        client = FakeClient(self.clock, log=self.log, name=name)
        client.backends = self.backends.get(name, client.backends)
        client.scores = self.all_scores.get(name, {"cosine_mean": self.scores.get(name, 1.0)})
        client.refuses = self.refuses.get(name)
        client.requests = self.requests.get(name, client.requests)
        client.defaults = self.defaults.get(name, client.defaults)
        client.idle_s = self.idle_s.get(name, 0.0)
        client.others_share = self.others_share.get(name, 0.0)
        client.vectors = self.vectors.get(name, client.vectors)
        client.timed = self.timed.get(name, client.timed)
        client.keeps_results = name in self.keeps_results
        self.clients.append(client)
        return client

    def run(self, *answers: Sequence[PairsWanted]) -> list[tuple[PairedCell, ...]]:
        """Want these pairs one after the other, then no more; return the evidence before each answer.

        First pairs are planned anew after each, and wanted until they are measured or the budget is spent.
        """
        left, shown = list(answers), list[tuple[PairedCell, ...]]()
        goals, before = dict[PairsWanted, int](), tuple[PairedCell, ...]()

        def plan_pairs(cells: Sequence[PairedCell]) -> Sequence[PairsWanted]:
            nonlocal before
            is_progress, before = tuple(cells) != before, tuple(cells)
            counts = {known.cell: len(known.log_ratios) for known in cells}
            unmet = {one: goal - counts[one.cell] for one, goal in goals.items() if goal > counts[one.cell]}
            if unmet and is_progress:
                return [dataclasses.replace(one, pairs=pairs) for one, pairs in unmet.items()]
            shown.append(tuple(cells))
            answer = left.pop(0) if left else ()
            goals.clear()
            goals.update({one: counts[one.cell] + one.pairs for one in answer if one.look == "first"})
            return answer

        self.runner.run(plan_pairs)
        return shown


def _counts(cells: Sequence[PairedCell]) -> list[tuple[int, int]]:
    """Pairs and fresh pairs of calls and cold starts."""
    timed = [known for known in cells if known.cell.metric in ("latency", "load_s")]
    return [(len(known.log_ratios), len(known.fresh)) for known in timed]


def test_wanted_pairs_are_sampled_and_each_also_measures_a_cold_start() -> None:
    stage = Stage()
    shown = stage.run(
        [PairsWanted(cell=BATCH, pairs=3)], [PairsWanted(cell=BATCH, pairs=2, look="confirmation")]
    )
    assert [_counts(cells) for cells in shown] == [[(0, 0), (0, 0)], [(3, 0), (3, 0)], [(3, 2), (5, 0)]]
    assert stage.runner.sampler.pairs == 5
    assert [client.closed for client in stage.clients] == [1] * (2 + 2 * 5)


def test_base_and_head_alternate_in_being_started_first() -> None:
    stage = Stage()
    stage.run([PairsWanted(cell=BATCH, pairs=2)])
    assert [client.name for client in stage.clients] == ["base", "head", "base", "head", "head", "base"]


def test_a_pair_that_the_budget_does_not_cover_is_not_started() -> None:
    """Exact values take 2 s each; a pair takes 2 s to load, 0.4 s to warm up and 4 s of quads."""
    stage = Stage(budget_s=4.0 + 3 * 6.4 + 1.0)
    shown = stage.run(*[[PairsWanted(cell=BATCH, pairs=2, must_fit=False)]] * 9)
    assert stage.runner.sampler.pairs == 3
    assert stage.clock.now_s == pytest.approx(4.0 + 3 * 6.4)
    assert len(shown) == 2  # of the second answer, one pair: the end


def test_a_pair_of_fewer_cells_fits_into_less_of_the_budget() -> None:
    """The first pair takes 2 s to load, 4.4 s for the batch and 4.2 s for many texts; the next, the batch."""
    many = Cell(backend="fake", batch_size=0, metric="texts_per_s")
    stage = Stage(budget_s=4.0 + 10.6 + 6.4 + 1.0)
    both = [PairsWanted(cell=BATCH, pairs=1), PairsWanted(cell=many, pairs=1)]
    stage.run(both, *[[PairsWanted(cell=BATCH, pairs=1, look="confirmation")]] * 2)
    assert stage.runner.sampler.pairs == 2
    assert stage.clock.now_s == pytest.approx(4.0 + 10.6 + 6.4)


def test_the_opening_of_a_model_counts_where_no_cold_start_is_measured() -> None:
    """A confirmed cold start gets no further pairs, but the next pair opens the model too, in 2 s."""
    load = Cell(backend="fake", batch_size=0, metric="load_s")
    stage = Stage(budget_s=4.0 + 6.4 + 2.0 + 5.0)
    stage.run(
        [PairsWanted(cell=BATCH, pairs=1)],
        [PairsWanted(cell=load, pairs=1, look="confirmation")],
        [PairsWanted(cell=BATCH, pairs=1)],
    )
    assert stage.runner.sampler.pairs == 2
    assert stage.clock.now_s == pytest.approx(4.0 + 6.4 + 2.0)


def test_exact_values_are_measured_once() -> None:
    stage = Stage()
    stage.scores = {"base": 0.99, "head": 0.98}
    stage.run()
    assert stage.runner.exact == [
        ExactPair(backend="fake", metric="disk_bytes", base=1000, head=1000),
        ExactPair(backend="fake", metric="cosine_mean", base=0.99, head=0.98),
    ]


def test_a_score_that_the_head_gives_no_more_is_not_dropped_and_a_new_one_is_not_compared() -> None:
    stage = Stage()
    scores = {
        "base": {"cosine_mean": 1.0, "cosine_min": 0.9},
        "head": {"cosine_mean": 1.0, "ndcg_at_10": 0.8},
    }
    stage.all_scores = scores
    stage.run()
    assert stage.runner.exact == [
        ExactPair(backend="fake", metric="disk_bytes", base=1000, head=1000),
        ExactPair(backend="fake", metric="cosine_mean", base=1.0, head=1.0),
        ExactPair(backend="fake", metric="cosine_min", base=0.9, head=None),
    ]


def test_a_backend_that_the_base_lacks_is_new_and_the_others_are_compared() -> None:
    stage = Stage(backends=("fake", "torch-fp32"))
    stage.backends["base"] = ("torch-fp32", "old")
    [cells] = stage.run()
    assert {known.cell.backend for known in cells} == {"torch-fp32"}
    assert (stage.runner.added, stage.runner.removed) == (("fake",), ("old",))
    assert stage.runner.not_comparable == ()


def test_the_vectors_of_the_reference_are_compared_even_where_it_is_not_measured() -> None:
    stage = Stage()
    stage.vectors["head"] = -np.eye(3, dtype=np.float32)
    stage.run()
    assert [drift.backend for drift in stage.runner.drift] == ["torch-fp32", "fake"]
    assert [drift.similarity_min for drift in stage.runner.drift] == [-1.0, -1.0]


def test_a_base_whose_worker_gives_no_vectors_has_no_drift() -> None:
    stage = Stage()
    stage.requests["base"] = ("load", "time", "accuracy", "load_test")
    stage.run()
    assert stage.runner.drift == []
    assert stage.runner.notes == [
        "drift is not compared: the base's worker gives no vectors; a newer base does"
    ]


def test_what_the_base_cant_measure_is_a_note_and_what_only_the_head_cant_is_not_comparable() -> None:
    answered, all_but_one = FakeClient.requests, FakeClient.requests[:-1]
    for base, head in ((all_but_one, answered), (answered, all_but_one)):
        stage = Stage()
        stage.requests = {"base": base, "head": head}
        [cells] = stage.run()
        assert not any(known.cell.figure.kind == "batcher" for known in cells)
        notes = ["batcher is not compared: the base's worker can't measure it; a newer base can"]
        assert stage.runner.notes == (notes if base == all_but_one else [])
        whys = {reason.why for reason in stage.runner.not_comparable}
        assert whys == ({"head's worker can't measure it any more"} if head == all_but_one else set())


def test_a_cell_whose_times_disagree_in_most_pairs_is_not_comparable() -> None:
    stage = Stage()
    stage.idle_s["head"] = 1.0
    stage.run([PairsWanted(cell=BATCH, pairs=2)])
    assert [reason.cell for reason in stage.runner.not_comparable] == [BATCH]
    assert BATCH not in [known.cell for known in stage.runner.cells]


def test_turns_in_which_other_processes_took_the_cpu_are_a_note() -> None:
    stage = Stage()
    stage.others_share["base"] = 0.5
    stage.run([PairsWanted(cell=BATCH, pairs=1)])
    [note] = stage.runner.sampler.notes
    assert note in stage.runner.notes
    assert note == (
        "other processes took the CPU in 10 of 10 turns, 0 of which are left out: "
        "measure on a quieter machine"
    )


def test_a_figure_whose_pairs_would_not_all_fit_is_measured_once_and_leaves_the_time_to_others() -> None:
    """Its first pair tells that it takes 4.3 s besides the 2 s of the start: 12 would not fit into 60 s."""
    stage = Stage(budget_s=60.0)
    served = Cell(backend="fake", batch_size=0, metric="served_p50_ms")
    stage.run([PairsWanted(cell=BATCH, pairs=2), PairsWanted(cell=served, pairs=12)])
    counts = {known.cell: len(known.log_ratios) for known in stage.runner.cells}
    assert (counts[served], counts[BATCH]) == (1, 2)


def test_a_head_whose_worker_gives_no_vectors_any_more_has_drifted() -> None:
    stage = Stage()
    stage.requests["head"] = ("load", "time", "accuracy", "load_test")
    stage.run()
    why = "vectors that the head's worker does not give"
    assert stage.runner.drift == [Drift(backend=name, why=why) for name in ("torch-fp32", "fake")]


def test_vectors_are_asked_for_in_batches_that_no_plan_cuts() -> None:
    stage = Stage()
    stage.run()
    asked = [line for line in stage.log if "vectors" in line or "one_batch" in line]
    assert asked == ["base one_batch"] * 2 + ["head one_batch"] * 2


def test_a_base_from_before_fixed_batches_is_asked_for_planned_vectors_as_the_head_is() -> None:
    stage = Stage()
    stage.requests["base"] = ("load", "time", "accuracy", "vectors")
    stage.run()
    assert [line for line in stage.log if "vectors" in line] == ["base vectors"] * 2 + ["head vectors"] * 2
    assert [drift.similarity_min for drift in stage.runner.drift] == [1.0, 1.0]


def test_another_default_backend_is_named_with_both() -> None:
    stage = Stage()
    stage.defaults["head"] = {"default": "torch-fp32"}
    stage.run()
    assert stage.runner.drift[-1] == Drift(backend="default", why="the backend is torch-fp32, was fake")


def test_a_base_of_another_protocol_cant_be_compared_and_no_pair_is_sampled() -> None:
    stage = Stage()
    stage.cant_start["base"] = ForeignWorkerError("base speaks protocol 0, wanted 1")
    assert stage.run() == []
    assert stage.runner.cells == ()
    assert stage.runner.not_comparable == (
        NotComparable(backend="fake", why="base speaks protocol 0, wanted 1"),
    )


def test_a_backend_that_the_base_refuses_is_not_comparable() -> None:
    stage = Stage()
    stage.refuses["base"] = "accuracy"
    stage.run()
    assert stage.runner.not_comparable == (NotComparable(backend="fake", why="base: can't"),)


def test_a_backend_that_the_head_refuses_is_not_comparable_and_the_others_are_compared() -> None:
    stage = Stage(backends=("fake", "torch-fp32"))
    stage.refuses["head"] = "one_batch fake"
    [cells] = stage.run()
    assert stage.runner.not_comparable == (NotComparable(backend="fake", why="head: can't"),)
    assert {known.cell.backend for known in cells} == {"torch-fp32"}
    assert {drift.backend for drift in stage.runner.drift} == {"torch-fp32"}
    assert {exact.backend for exact in stage.runner.exact} == {"torch-fp32"}


def test_what_timed_calls_gave_counts_as_drift_and_a_cache_is_a_note() -> None:
    stage = Stage()
    stage.requests = dict.fromkeys(("base", "head"), REQUESTS)
    stage.timed = {"head": -np.eye(2, 3, dtype=np.float32)}
    stage.keeps_results = {"head"}
    stage.run([PairsWanted(cell=BATCH, pairs=2)])
    [_, drift] = stage.runner.drift
    assert (drift.backend, drift.similarity_min) == ("fake", -1.0)
    assert stage.runner.notes == [
        "fake keeps results: a repeated text takes 100% of a new one's time in base and 10% in head; "
        "the times here are of new texts"
    ]


# The worker of a minimal embedopt: its calls take no time, and it hangs or dies on demand.
_WORKER = """
import json, os, pathlib, sys
root = str(pathlib.Path(__file__).resolve().parents[2])
pathlib.Path(os.environ["PIDS"], str(os.getpid())).touch()
print(json.dumps({"protocol": 1, "root": root, "backends": ["torch-fp32"]}), flush=True)
for line in sys.stdin:
    do = json.loads(line)["do"]
    if do == os.environ.get("HANG_AT"):
        print("hanging", file=open(os.environ["FIFO"], "w"), flush=True)
        sys.stdin.read()
    if do == os.environ.get("DIE_AT"):
        sys.exit("killed by the test")
    loaded, timed, scored = {"load_s": 1.0, "disk_bytes": 7}, {"seconds": 0.5}, {"cosine_mean": 1.0}
    print(json.dumps({"ok": {"load": loaded, "time": timed, "accuracy": scored}[do]}), flush=True)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose embedopt is the worker above."""
    folder = tmp_path / "project"
    (folder / "embedopt" / "measure").mkdir(parents=True)
    (folder / "embedopt" / "__init__.py").touch()
    (folder / "embedopt" / "measure" / "__init__.py").touch()
    (folder / "embedopt" / "measure" / "worker.py").write_text(_WORKER, encoding="utf8")
    (folder / "pyproject.toml").write_text("[project]\n", encoding="utf8")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    (tmp_path / "pids").mkdir()
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    return folder


def _plan(project: Path) -> GatePlan:
    return GatePlan(
        ref="HEAD",
        head=project,
        backends=("torch-fp32",),
        batch_sizes=(1,),
        budget_s=600.0,
        invariance={"invariance_texts": 1, "invariance_rounds": 1},
        threshold=0.05,
    )


def _work(project: Path) -> Work:
    return Work(texts=("a",), cache_dir=str(project.parent / "cache"), cell_s=0.0)


def _nothing_is_left(project: Path) -> bool:
    """Say whether all workers have ended and no worktree is left."""
    pids = [int(file.name) for file in (project.parent / "pids").iterdir()]
    worktrees = git(project, "worktree", "list").splitlines()
    return (
        len(pids) > 0
        and all(map(has_group_ended, pids))
        and len(worktrees) == 1
        and list((project.parent / "cache" / "worktrees").iterdir()) == []
    )


def test_real_workers_of_base_and_head_make_a_record(project: Path) -> None:
    (project / "dirty.txt").touch()
    single = Cell(backend="torch-fp32", batch_size=1)
    wanted = [[PairsWanted(cell=single, pairs=2)], [PairsWanted(cell=single, pairs=1)], []]
    gate_run = measure_gate_run(
        _plan(project), _work(project), lambda _: lambda _: wanted.pop(0), lambda _: None
    )
    commit = git(project, "rev-parse", "HEAD")
    assert (gate_run.base, gate_run.base_commit, gate_run.head) == ("HEAD", commit, f"{commit} + changes")
    ratios = {known.cell.metric: known.log_ratios for known in gate_run.cells}
    assert [(metric, len(pairs)) for metric, pairs in ratios.items() if pairs] == [
        ("latency", 2),
        ("load_s", 2),
        ("peak_rss_bytes", 2),
    ]
    assert (ratios["latency"], ratios["load_s"]) == ((0.0, 0.0), (0.0, 0.0))
    assert gate_run.exact == (
        ExactPair(backend="torch-fp32", metric="disk_bytes", base=7, head=7),
        ExactPair(backend="torch-fp32", metric="cosine_mean", base=1.0, head=1.0),
    )
    assert (gate_run.pairs, gate_run.threshold, gate_run.not_comparable) == (2, 0.05, ())
    assert _nothing_is_left(project)


def test_a_worker_that_dies_leaves_no_process_and_no_worktree(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIE_AT", "time")
    wanted = [PairsWanted(cell=Cell(backend="torch-fp32", batch_size=1), pairs=1)]
    with pytest.raises(MeasureError, match="the worker of base ended with 1: killed by the test"):
        measure_gate_run(_plan(project), _work(project), lambda _: lambda _: wanted, lambda _: None)
    assert _nothing_is_left(project)


def test_a_base_with_other_pins_is_not_comparable(project: Path) -> None:
    (project / "pyproject.toml").write_text('[project]\ndependencies = ["x==1"]\n', encoding="utf8")
    gate_run = measure_gate_run(_plan(project), _work(project), lambda _: lambda _: [], lambda _: None)
    assert [backend.why.split(":")[0] for backend in gate_run.not_comparable] == [
        "the base has other dependencies, x unpinned (here 1)"
    ]
    assert gate_run.cells == ()


@pytest.mark.parametrize("head_python", [None, sys.executable])
def test_a_head_in_the_environment_of_other_pins_is_not_comparable(
    project: Path, head_python: str | None
) -> None:
    """The interpreter of the base is named, and the head is no checkout of the code that runs."""
    (project / "pyproject.toml").write_text('[project]\ndependencies = ["x==1"]\n', encoding="utf8")
    plan = dataclasses.replace(_plan(project), base_python=sys.executable, head_python=head_python)
    gate_run = measure_gate_run(plan, _work(project), lambda _: lambda _: [], lambda _: None)
    whys = [backend.why.partition("; ")[2] for backend in gate_run.not_comparable]
    wanted = ["with --head, that of the head with --head-python, too"]
    assert whys == ([] if head_python else wanted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_call_leaves_no_process_and_no_worktree(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """The gate run is a process of its own, which is interrupted while a worker hangs."""
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setenv("HANG_AT", "time")
    monkeypatch.setenv("FIFO", str(tmp_path / "fifo"))
    code = (
        "from tests.measure.pairs.test_gate_run import _plan, _work; from pathlib import Path\n"
        "from embedopt.evidence import Cell, PairsWanted\n"
        "from embedopt.measure.pairs.gate_run import measure_gate_run\n"
        "wanted = [PairsWanted(cell=Cell(backend='torch-fp32', batch_size=1), pairs=1)]\n"
        f"project = Path({str(project)!r})\n"
        "measure_gate_run(_plan(project), _work(project), lambda _: lambda _: wanted, lambda _: None)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert (tmp_path / "fifo").read_text(encoding="utf8") == "hanging\n"  # waits until a worker hangs
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert errors.strip().endswith("KeyboardInterrupt")
    assert _nothing_is_left(project)


def test_a_change_that_adopts_embedopt_has_nothing_to_compare_with(project: Path) -> None:
    git(project, "checkout", "-q", "--orphan", "before")
    git(project, "rm", "-rqf", ".")
    git(project, "commit", "-q", "--allow-empty", "-m", "before")
    git(project, "checkout", "-qf", "main")
    gate_run = measure_gate_run(
        dataclasses.replace(_plan(project), ref="before"),
        _work(project),
        lambda _: lambda _: [],
        lambda _: None,
    )
    assert (gate_run.added, gate_run.cells, gate_run.not_comparable) == (("torch-fp32",), (), ())


def test_what_the_base_declared_already_holds_no_more(project: Path) -> None:
    table = "[project]\n[tool.embedopt.gate]\naccept = [{}]\n"
    (project / "pyproject.toml").write_text(table.format('"drift a"'), encoding="utf8")
    git(project, "commit", "-qam", "two")
    (project / "pyproject.toml").write_text(table.format('"drift a", "removed b"'), encoding="utf8")
    gate_run = measure_gate_run(_plan(project), _work(project), lambda _: lambda _: [], lambda _: None)
    assert gate_run.accepted == ("removed b",)


def test_the_rules_of_the_base_hold_and_what_the_change_moves_is_named(project: Path) -> None:
    table = "[project]\n[tool.embedopt.gate]\n"
    (project / "pyproject.toml").write_text(table + "level = 0.01\n", encoding="utf8")
    git(project, "commit", "-qam", "two")
    (project / "pyproject.toml").write_text(table + "level = 0.01\nthreshold = 0.99\n", encoding="utf8")
    asked = []

    def plan_pairs_by(rules: Mapping[str, Any]) -> PlanPairs:
        asked.append(rules)
        return lambda _: []

    gate_run = measure_gate_run(_plan(project), _work(project), plan_pairs_by, lambda _: None)
    assert asked == [{"level": 0.01}] == [gate_run.rules]
    assert gate_run.moved_rules == ("threshold default -> 0.99",)
