"""The driver: what is bought, when it ends, and what can't be compared."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from embedopt.errors import MeasureError
from embedopt.evidence import Cell, ExactPair, NotComparable, PairedCell, PairsWanted
from embedopt.measure.pairs.gate_run import GatePlan, GateRunner, measure_gate_run
from embedopt.measure.pairs.process_pair import Work, cells_of
from embedopt.measure.pairs.worker_client import ForeignWorkerError, RefusedError
from tests.fakes import FakeClock
from tests.measure.pairs.stand_ins import FakeSide, group_is_gone
from tests.measure.pairs.test_worktree import git

CELLS = cells_of(["fake"], [2])
BATCH, LOAD = CELLS
ROOT = Path(__file__).parents[3]


class Stage:
    """Starts fake sides that share a clock and a log."""

    def __init__(self, budget_s: float = 1000.0, cells: tuple[Cell, ...] = CELLS) -> None:
        self.clock = FakeClock()
        self.log: list[str] = []
        self.sides: list[FakeSide] = []
        self.refuses: dict[str, Exception] = {}
        self.backends: dict[str, tuple[str, ...]] = {}
        self.scores: dict[str, float] = {}
        asking = GatePlan(
            ref="main",
            head=Path(),
            head_python="python",
            cells=cells,
            work=Work(texts=("a", "b", "c"), cell_s=4.0),
            budget_s=budget_s,
            invariance_texts=2,
            invariance_rounds=1,
        )
        self.comparing = GateRunner(
            lambda: self._start("base"), lambda: self._start("head"), asking, self.clock, lambda _: None
        )

    def _start(self, name: str) -> FakeSide:
        if name in self.refuses:
            raise self.refuses[name]
        side = FakeSide(self.clock, log=self.log, name=name)
        side.backends = self.backends.get(name, side.backends)
        side.scores = {"cosine_mean": self.scores.get(name, 1.0)}
        self.sides.append(side)
        return side

    def run(self, *answers: Sequence[PairsWanted]) -> list[tuple[PairedCell, ...]]:
        """Answer each question in turn, then want no more; return what was shown with each."""
        left, shown = list(answers), list[tuple[PairedCell, ...]]()

        def plan_pairs(cells: Sequence[PairedCell]) -> Sequence[PairsWanted]:
            shown.append(tuple(cells))
            return left.pop(0) if left else ()

        self.comparing.run(plan_pairs)
        return shown


def _counts(cells: Sequence[PairedCell]) -> list[tuple[int, int]]:
    return [(len(cell.log_ratios), len(cell.fresh)) for cell in cells]


def test_pairs_are_bought_as_asked_and_a_cold_start_comes_with_each() -> None:
    stage = Stage()
    shown = stage.run([PairsWanted(cell=BATCH, pairs=3)], [PairsWanted(cell=BATCH, pairs=2, fresh=True)])
    assert [_counts(cells) for cells in shown] == [[(0, 0), (0, 0)], [(3, 0), (3, 0)], [(3, 2), (5, 0)]]
    assert stage.comparing.pairs == 5
    assert [side.closed for side in stage.sides] == [1] * (2 + 2 * 5)


def test_who_is_started_and_called_first_alternates() -> None:
    stage = Stage()
    stage.run([PairsWanted(cell=BATCH, pairs=2)])
    assert [side.name for side in stage.sides] == ["base", "head", "base", "head", "head", "base"]


def test_what_confirms_a_flagged_cell_is_bought_first() -> None:
    stage = Stage(cells=cells_of(["fake", "torch-fp32"], [2]))
    other = Cell(backend="torch-fp32", batch_size=2)
    shown = stage.run([PairsWanted(cell=other, pairs=9), PairsWanted(cell=BATCH, pairs=1, fresh=True)])
    assert _counts(shown[1]) == [(0, 1), (1, 0), (0, 0), (0, 0)]


def test_a_pair_that_the_budget_does_not_cover_is_not_begun() -> None:
    """The survey takes 2 s a side, a pair 2 s of loading, 0.6 s of warm-up and 4 s of quads."""
    stage = Stage(budget_s=4.0 + 3 * 6.6 + 1.0)
    shown = stage.run(*[[PairsWanted(cell=BATCH, pairs=2)]] * 9)
    assert stage.comparing.pairs == 3
    assert stage.clock.now_s == pytest.approx(4.0 + 3 * 6.6)
    assert len(shown) == 3  # two pairs, then one, then none: nobody is asked again


def test_values_that_do_not_vary_are_taken_once() -> None:
    stage = Stage()
    stage.scores = {"base": 0.99, "head": 0.98}
    stage.run()
    assert stage.comparing.exact == [
        ExactPair(backend="fake", metric="disk_bytes", base=1000, head=1000),
        ExactPair(backend="fake", metric="cosine_mean", base=0.99, head=0.98),
    ]


def test_a_backend_that_the_base_lacks_cant_be_compared_and_the_others_can() -> None:
    stage = Stage(cells=cells_of(["fake", "torch-fp32"], [2]))
    stage.backends["base"] = ("torch-fp32",)
    [cells] = stage.run()
    assert {of.cell.backend for of in cells} == {"torch-fp32"}
    assert stage.comparing.not_comparable == [
        NotComparable(backend="fake", why="the base has no backend fake: it is new here")
    ]


def test_a_base_of_another_protocol_cant_be_compared_and_nothing_is_asked() -> None:
    stage = Stage()
    stage.refuses["base"] = ForeignWorkerError("base speaks protocol 0, wanted 1")
    assert stage.run() == []
    assert stage.comparing.cells == ()
    assert stage.comparing.not_comparable == [
        NotComparable(backend="fake", why="base speaks protocol 0, wanted 1")
    ]


def test_a_base_that_cant_load_a_backend_is_not_comparable_but_a_head_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusing = ["base"]
    real = FakeSide.receive

    def receive(self: FakeSide) -> dict[str, object]:
        if self.name in refusing and self.log[-1].endswith("accuracy"):
            raise RefusedError(f"{self.name}: can't")
        return real(self)

    monkeypatch.setattr(FakeSide, "receive", receive)
    stage = Stage()
    stage.run()
    assert stage.comparing.not_comparable == [NotComparable(backend="fake", why="base: can't")]
    refusing[:] = ["head"]
    with pytest.raises(MeasureError, match=r"^head: can't$"):
        Stage().run()


# A side's whole code, as short as it gets: a call takes no time, and an answer may be something else.
_EMBEDOPT = """
import json, os, pathlib, sys
root = str(pathlib.Path(__file__).resolve().parents[2])
pathlib.Path(os.environ["PIDS"], str(os.getpid())).touch()
print(json.dumps({"protocol": 1, "root": root, "backends": ["torch-fp32"]}), flush=True)
for line in sys.stdin:
    do = json.loads(line)["do"]
    if do == os.environ.get("HANG_AT"):
        print("hanging", file=open(os.environ["TOLD"], "w"), flush=True)
        sys.stdin.read()
    if do == os.environ.get("DIE_AT"):
        sys.exit("killed by the test")
    loaded, timed, scored = {"load_s": 1.0, "disk_bytes": 7}, {"seconds": 0.5}, {"cosine_mean": 1.0}
    print(json.dumps({"ok": {"load": loaded, "time": timed, "accuracy": scored}[do]}), flush=True)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose embedopt is the script above."""
    folder = tmp_path / "project"
    (folder / "embedopt" / "measure").mkdir(parents=True)
    (folder / "embedopt" / "__init__.py").touch()
    (folder / "embedopt" / "measure" / "__init__.py").touch()
    (folder / "embedopt" / "measure" / "worker.py").write_text(_EMBEDOPT, encoding="utf8")
    (folder / "pyproject.toml").write_text("[project]\n", encoding="utf8")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    (tmp_path / "pids").mkdir()
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    return folder


def _asking(project: Path) -> GatePlan:
    return GatePlan(
        ref="HEAD",
        head=project,
        head_python=sys.executable,
        cells=cells_of(["torch-fp32"], [1]),
        work=Work(texts=("a",), cache_dir=str(project.parent / "cache"), cell_s=0.0),
        budget_s=600.0,
        invariance_texts=1,
        invariance_rounds=1,
        threshold=0.05,
    )


def _nothing_is_left(project: Path) -> bool:
    pids = [int(file.name) for file in (project.parent / "pids").iterdir()]
    worktrees = git(project, "worktree", "list").splitlines()
    return (
        len(pids) > 0
        and all(map(group_is_gone, pids))
        and len(worktrees) == 1
        and list((project.parent / "cache" / "worktrees").iterdir()) == []
    )


def test_two_real_sides_make_a_record(project: Path) -> None:
    (project / "dirty.txt").touch()
    answers = [[PairsWanted(cell=Cell(backend="torch-fp32", batch_size=1), pairs=2)], []]
    found = measure_gate_run(_asking(project), lambda _: answers.pop(0), lambda _: None)
    commit = git(project, "rev-parse", "HEAD")
    assert (found.base, found.base_commit, found.head) == ("HEAD", commit, f"{commit} + changes")
    assert [cell.log_ratios for cell in found.cells] == [(0.0, 0.0), (0.0, 0.0)]
    assert [(of.metric, of.base, of.head) for of in found.exact] == [
        ("disk_bytes", 7, 7),
        ("cosine_mean", 1.0, 1.0),
    ]
    assert (found.pairs, found.threshold, found.not_comparable) == (2, 0.05, ())
    assert _nothing_is_left(project)


def test_a_side_that_dies_in_the_middle_leaves_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIE_AT", "time")
    wanted = [PairsWanted(cell=Cell(backend="torch-fp32", batch_size=1), pairs=1)]
    with pytest.raises(MeasureError, match="the worker of base ended with 1: killed by the test"):
        measure_gate_run(_asking(project), lambda _: wanted, lambda _: None)
    assert _nothing_is_left(project)


def test_other_pins_are_not_comparable_in_words(project: Path) -> None:
    (project / "pyproject.toml").write_text('[project]\ndependencies = ["x==1"]\n', encoding="utf8")
    found = measure_gate_run(_asking(project), lambda _: [], lambda _: None)
    assert [of.why.split(":")[0] for of in found.not_comparable] == [
        "the base has other dependencies, x unpinned (here 1)"
    ]
    assert found.cells == ()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_the_middle_leaves_nothing(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """The driver is a process of its own; it is interrupted while a worker does not answer."""
    os.mkfifo(tmp_path / "told")
    monkeypatch.setenv("HANG_AT", "time")
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    code = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background ignores it
        "from tests.measure.pairs.test_gate_run import _asking; from pathlib import Path\n"
        "from embedopt.evidence import Cell, PairsWanted\n"
        "from embedopt.measure.pairs.gate_run import measure_gate_run\n"
        "wanted = [PairsWanted(cell=Cell(backend='torch-fp32', batch_size=1), pairs=1)]\n"
        f"measure_gate_run(_asking(Path({str(project)!r})), lambda _: wanted, lambda _: None)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert (tmp_path / "told").read_text(encoding="utf8") == "hanging\n"  # waits for it
    driver.send_signal(number)
    _, errors = driver.communicate(timeout=60)
    assert errors.strip().endswith("KeyboardInterrupt")
    assert _nothing_is_left(project)
