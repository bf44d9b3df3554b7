"""The suite's gate, run by pytest: --against REF, with a fake measurement."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from embedopt import fixtures
from embedopt.errors import MeasureError
from embedopt.evidence import Cell, Drift, ExactPair, GateRun, NotComparable, PairedCell, PairsWanted
from embedopt.judge.history.saved_runs import run_from_json
from embedopt.measure.pairs.gate_run import GatePlan
from embedopt.measure.pairs.process_pair import Work
from embedopt.sampling import PlanPairs
from tests.repositories import git
from tests.suite import saved_files

SAME = Drift(backend="onnx-int8", similarity_mean=1.0, similarity_min=1.0)
REFERENCE = replace(SAME, backend="torch-fp32")


@dataclass
class FakeGateRun:
    """What a gate run measures in place of two real worker processes.

    Attributes:
        log_ratios: log ratio of each cell; 0 where none is set.
        noise: added to the log ratio, one value for each process pair.
        spread: factor of that noise for single cells; 1 where none is set.
        confirmed: number of pairs that were measured again to confirm.
        head_bytes: size of the head's artifact, with 100 in the base.
        scores: accuracy of both sides.
        not_comparable: backends that could not be compared.
        drift: how far the vectors moved.
        removed: backends that the head no longer has.
        error: message of the error that ends the run; None for none.
        rules: rules of the base.
        plan: the plan that the run got.
        wanted: the pairs that are still wanted at the end.
    """

    log_ratios: dict[str, float] = field(default_factory=dict)
    noise: tuple[float, ...] = (-0.002, -0.001, 0.0, 0.0, 0.001, 0.002)
    spread: dict[str, float] = field(default_factory=dict)
    confirmed: int = 6
    head_bytes: int = 100
    scores: tuple[ExactPair, ...] = (
        ExactPair(backend="onnx-int8", metric="cosine_mean", base=0.99, head=0.99),
        ExactPair(backend="torch-fp32", metric="cosine_mean", base=1.0, head=1.0),
    )
    not_comparable: tuple[NotComparable, ...] = ()
    drift: tuple[Drift, ...] = (SAME, REFERENCE)
    removed: tuple[str, ...] = ()
    error: str | None = None
    rules: dict[str, Any] = field(default_factory=dict)
    plan: GatePlan | None = None
    wanted: Sequence[PairsWanted] = ()

    def measure(
        self,
        plan: GatePlan,
        _work: Work,
        plan_pairs_by: Callable[[Mapping[str, Any]], PlanPairs],
        on_step: Callable[[str], None],
    ) -> GateRun:
        self.wanted = plan_pairs_by(self.rules)([self._paired(cell) for cell in plan.cells])
        on_step("pair 1: onnx-int8 in 7 s")
        self.plan = plan
        if self.error:
            raise MeasureError(self.error)
        size = ExactPair(backend="onnx-int8", metric="disk_bytes", base=100, head=self.head_bytes)
        reference = replace(size, backend="torch-fp32", head=100)
        return GateRun(
            base=plan.ref,
            base_commit="0" * 40,
            cells=() if self.not_comparable else tuple(self._paired(cell) for cell in plan.cells),
            exact=() if self.not_comparable else (size, reference, *self.scores),
            not_comparable=self.not_comparable,
            drift=() if self.not_comparable else self.drift,
            removed=self.removed,
            pairs=12,
            seconds=100.0,
            budget_s=plan.budget_s,
            threshold=plan.threshold,
            moved_rules=plan.moved,
        )

    def _paired(self, cell: Cell) -> PairedCell:
        spread, change = self.spread.get(str(cell), 1.0), self.log_ratios.get(str(cell), 0.0)
        log_ratios = tuple(change + spread * value for value in self.noise)
        return PairedCell(cell=cell, log_ratios=log_ratios, fresh=log_ratios[: self.confirmed])


@pytest.fixture
def gate_run(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> FakeGateRun:
    """Make the suite's folder a git repository, and replace the measurement of a gate run."""
    (suite.path / "embedopt" / "measure").mkdir(parents=True)  # a repository of embedopt itself
    (suite.path / "embedopt" / "measure" / "worker.py").touch()
    git(suite.path, "init", "-q")
    _commit(suite)
    fake = FakeGateRun()
    monkeypatch.setattr(fixtures, "measure_gate_run", fake.measure)
    return fake


def _commit(suite: pytest.Pytester) -> None:
    git(suite.path, "add", ".")
    git(suite.path, "commit", "-qm", "a change")


def _run_against(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    cells = ["--against", "HEAD", "--backends", "onnx-int8", "--batch-sizes", "1,8"]
    return suite.runpytest_inprocess(
        "benchmarks/test_against.py", "-p", "no:cacheprovider", "-v", "-rs", *cells, *arguments
    )


def test_against_a_base_each_cell_has_a_verdict_and_the_run_issaved_files(
    suite: pytest.Pytester, gate_run: FakeGateRun
) -> None:
    gate_run.log_ratios["onnx-int8 batch 8"] = 0.1
    result = _run_against(suite, "--against-budget", "60")
    result.assert_outcomes(passed=18, failed=1)
    result.stdout.fnmatch_lines(
        [
            "pair 1: onnx-int8 in 7 s",
            "*test_against[[]onnx-int8-batch 1[]] PASSED*",
            "*test_against[[]onnx-int8-batch 8[]] FAILED*",
            "*test_against[[]onnx-int8-load[]] PASSED*",
            "*test_against[[]onnx-int8-size[]] PASSED*",
            "*test_against[[]onnx-int8-accuracy[]] PASSED*",
            "onnx-int8 batch 8: regressed, +10.5% (* to *) in 12 process pairs",
            "slower or bigger: 1 regressed, 23 equivalent",
        ]
    )
    plan = gate_run.plan
    assert plan is not None
    assert (plan.ref, plan.head, plan.budget_s, plan.threshold) == ("HEAD", suite.path, 60.0, None)
    [file] = saved_files(suite)
    record = run_from_json(json.loads(file.read_text(encoding="utf8"))["embedopt"]).against
    assert record is not None
    assert record.base == "HEAD"


def test_a_gate_run_alone_is_written_to_the_named_json_file(
    suite: pytest.Pytester, gate_run: FakeGateRun
) -> None:
    _run_against(suite, "--benchmark-json", "run.json").assert_outcomes(passed=19)
    assert "against" in json.loads((suite.path / "run.json").read_text(encoding="utf8"))["embedopt"]


def test_a_change_below_the_threshold_passes(suite: pytest.Pytester, gate_run: FakeGateRun) -> None:
    gate_run.log_ratios["onnx-int8 batch 8"] = 0.1
    _run_against(suite, "--gate-threshold", "0.2").assert_outcomes(passed=19)


def test_pairs_are_planned_by_the_threshold_that_judges(
    suite: pytest.Pytester, gate_run: FakeGateRun
) -> None:
    """A cell beyond the base's threshold but within the named one needs no pair to confirm it."""
    gate_run.log_ratios, gate_run.confirmed = {"onnx-int8 batch 8": 0.1}, 0
    _run_against(suite)
    assert [wanted.look for wanted in gate_run.wanted] == ["confirmation"]
    _run_against(suite, "--gate-threshold", "0.2").assert_outcomes(passed=19)
    assert gate_run.wanted == ()


def test_a_bigger_file_fails(suite: pytest.Pytester, gate_run: FakeGateRun) -> None:
    gate_run.head_bytes = 110
    result = _run_against(suite)
    result.assert_outcomes(passed=18, failed=1)
    result.stdout.fnmatch_lines(["onnx-int8 disk_bytes: regressed, +10.0%, 100 -> 110"])


def test_changed_vectors_fail_in_words(suite: pytest.Pytester, gate_run: FakeGateRun) -> None:
    gate_run.drift = (replace(SAME, similarity_min=0.9), REFERENCE)
    result = _run_against(suite)
    result.assert_outcomes(passed=18, failed=1)
    result.stdout.fnmatch_lines(
        [
            "onnx-int8 drift: vectors changed, -0.10000, similarity to the base's vectors *",
            "vectors changed: embeddings stored before this change no longer fit: 1 with changed vectors*",
        ]
    )


def test_the_reference_is_always_compared(suite: pytest.Pytester, gate_run: FakeGateRun) -> None:
    """All ratios are to it: where it got slower, the others only seem faster."""
    gate_run.log_ratios["torch-fp32 batch 8"] = 0.1
    result = _run_against(suite)
    result.assert_outcomes(passed=18, failed=1)
    result.stdout.fnmatch_lines(["torch-fp32 batch 8: regressed, +10.5% *"])


def test_another_default_fails_until_it_is_declared(suite: pytest.Pytester, gate_run: FakeGateRun) -> None:
    gate_run.drift += (Drift(backend="default", why="the backend is torch-fp32, was onnx-int8"),)
    result = _run_against(suite)
    result.assert_outcomes(passed=18, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_against_besides FAILED*",
            "default drift: vectors changed, the backend is torch-fp32, was onnx-int8; embed *",
            "vectors changed: *",
        ]
    )


def test_a_backend_that_is_gone_fails(suite: pytest.Pytester, gate_run: FakeGateRun) -> None:
    gate_run.removed = ("st-onnx-int8",)
    result = _run_against(suite)
    result.assert_outcomes(passed=18, failed=1)
    result.stdout.fnmatch_lines(["st-onnx-int8: not comparable, removed: declare it with accept = *"])


def test_an_inconclusive_cell_is_skipped_in_words(suite: pytest.Pytester, gate_run: FakeGateRun) -> None:
    gate_run.log_ratios["onnx-int8 batch 8"] = 0.0195
    gate_run.spread["onnx-int8 batch 8"] = 20.0
    result = _run_against(suite)
    result.assert_outcomes(passed=18, skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED * onnx-int8 batch 8: inconclusive, +2.0% (*% to *%) in 12 process*"]
    )


def test_what_was_not_measured_does_not_pass(suite: pytest.Pytester, gate_run: FakeGateRun) -> None:
    gate_run.scores = ()
    result = _run_against(suite)
    result.assert_outcomes(passed=17, skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED * onnx-int8 accuracy: not measured"])


def test_a_budget_too_small_for_any_verdict_never_passes(
    suite: pytest.Pytester, gate_run: FakeGateRun
) -> None:
    """Sizes and scores get a verdict all the same, and pass."""
    gate_run.noise, gate_run.confirmed = (0.0,), 0
    result = _run_against(suite)
    result.assert_outcomes(passed=7, failed=12)
    result.stdout.fnmatch_lines(
        ["onnx-int8 batch 1: inconclusive, *1 process pairs; a verdict needs 6: raise*"]
    )


def test_a_cell_that_looked_slower_when_the_budget_ended_fails(
    suite: pytest.Pytester, gate_run: FakeGateRun
) -> None:
    gate_run.log_ratios["onnx-int8 batch 8"] = 0.1
    gate_run.confirmed = 3
    result = _run_against(suite)
    result.assert_outcomes(passed=18, failed=1)
    result.stdout.fnmatch_lines(["onnx-int8 batch 8: inconclusive, *the budget ended before fresh pairs*"])


def test_a_base_that_cant_be_compared_at_all_never_passes(
    suite: pytest.Pytester, gate_run: FakeGateRun
) -> None:
    gate_run.not_comparable = (NotComparable(backend="onnx-int8", why="the base has no worker"),)
    result = _run_against(suite)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["onnx-int8: not comparable, the base has no worker"])


def test_a_failing_worker_is_an_error_in_one_line(suite: pytest.Pytester, gate_run: FakeGateRun) -> None:
    gate_run.error = "the worker of base ended with 1: out of luck"
    result = _run_against(suite)
    result.assert_outcomes(errors=19)
    result.stdout.fnmatch_lines(["the worker of base ended with 1: out of luck"])
    assert saved_files(suite) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "nowhere"], "ERROR: --against nowhere: * has no such commit, branch or tag; *"),
        (["--against-budget", "0"], "ERROR: --against-budget is 0.0; wanted seconds, above 0"),
        (["--gate-threshold", "3"], "ERROR: --gate-threshold is 3.0; wanted a share, 0.03 for 3 %"),
        (["--against-python", "./no"], "ERROR: --against-python ./no can't be run; wanted a Python *"),
    ],
)
def test_a_wrong_base_is_a_usage_error(
    suite: pytest.Pytester, gate_run: FakeGateRun, arguments: list[str], message: str
) -> None:
    result = _run_against(suite, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


_GIVEN = ("benchmarks/test_against.py", "-p", "no:cacheprovider", "--against", "HEAD")
_BASE = "--backends onnx-int8 --batch-sizes 1,8 --gate-threshold 0.04 --against-budget 100 --min-cosine 0.97"
_PYTEST_INI = "[pytest]\naddopts = {}\n"
_NATIVE = "[tool.pytest]\naddopts = {!r}\n"


@pytest.mark.parametrize(
    ("files", "head"),
    [
        ({"pytest.ini": _PYTEST_INI.format("--gate-threshold 0.5")}, "--gate-threshold 0.04 -> 0.5"),
        ({"tox.ini": _PYTEST_INI.format("--min-cosine 0.1")}, ""),  # pyproject.toml comes first
        ({"pytest.ini": _PYTEST_INI.format("--backends torch-fp32")}, "--backends onnx-int8 -> torch-fp32"),
        ({"pytest.ini": _PYTEST_INI.format("--batch-sizes 1")}, "--batch-sizes 1,8 -> 1"),
        ({"pytest.toml": "[pytest]\naddopts = ['--against-budget', '1']\n"}, "--against-budget 100.0 -> 1.0"),
        ({"pyproject.toml": _NATIVE.format(["--profile", "quick"])}, "--profile full -> quick"),
        (
            {".pytest.ini": _PYTEST_INI.format("--corpus texts.txt --min-cosine 0.1")},
            "--corpus default -> texts.txt, --min-cosine 0.97 -> 0.1",
        ),
    ],
)
def test_what_configuration_changes_is_a_moved_goal_post_and_the_base_s_options_judge(
    suite: pytest.Pytester, gate_run: FakeGateRun, files: dict[str, str], head: str
) -> None:
    suite.makepyprojecttoml(f"[tool.pytest.ini_options]\naddopts = {_BASE!r}\n")
    _commit(suite)
    (suite.path / "texts.txt").write_text("text 1\ntext 2\n", encoding="utf8")
    for name, content in files.items():
        (suite.path / name).write_text(content, encoding="utf8")
    result = suite.runpytest_inprocess(*_GIVEN)
    plan = gate_run.plan
    assert plan is not None
    assert (plan.backends, plan.batch_sizes) == (("torch-fp32", "onnx-int8"), (1, 8))
    assert (plan.threshold, plan.budget_s, plan.invariance["invariance_texts"]) == (0.04, 100.0, 96)
    assert head in ", ".join(plan.moved)
    assert bool(plan.moved) == bool(head)
    assert ("this change also moves its own goal posts: " in " ".join(result.outlines)) == bool(head)


def test_what_is_typed_is_the_user_s(
    suite: pytest.Pytester, gate_run: FakeGateRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.makepyprojecttoml(f"[tool.pytest.ini_options]\naddopts = {_BASE!r}\n")
    _commit(suite)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--batch-sizes 32")
    suite.runpytest_inprocess(*_GIVEN, "--gate-threshold", "0.2", "--backends=torch-fp32")
    plan = gate_run.plan
    assert plan is not None
    assert (plan.backends, plan.batch_sizes, plan.threshold) == (("torch-fp32",), (32,), 0.2)
    assert plan.moved == ()


def test_a_change_that_adopts_the_suite_is_run_by_its_own_options(
    suite: pytest.Pytester, gate_run: FakeGateRun
) -> None:
    """A base without the suite has no rules."""
    git(suite.path, "rm", "-rq", "--cached", ".")
    git(suite.path, "commit", "-qm", "before the suite")
    suite.makepyprojecttoml(f"[tool.pytest.ini_options]\naddopts = {_BASE!r}\n")
    suite.runpytest_inprocess(*_GIVEN)
    plan = gate_run.plan
    assert plan is not None
    assert (plan.threshold, plan.moved) == (0.04, ())


def test_another_folder_may_be_the_head_and_nothing_else_of_this_checkout_is_measured(
    suite: pytest.Pytester, gate_run: FakeGateRun
) -> None:
    """The head has its own model and texts, and only what it moves of the base's configuration is named."""
    suite.makepyprojecttoml(f"[tool.pytest.ini_options]\naddopts = {_BASE!r}\n")
    _commit(suite)
    head = suite.path.parent / "head"
    git(suite.path, "worktree", "add", "-q", str(head))
    (head / "texts.txt").write_text("text 1\ntext 2\n", encoding="utf8")
    options = f"{_BASE} --corpus texts.txt --against-budget 1"
    (head / "pyproject.toml").write_text(f"[tool.pytest.ini_options]\naddopts = {options!r}\n", "utf8")
    others = (
        "-p",
        "no:cacheprovider",
        "--against",
        "HEAD",
        "--head-python",
        "python",
        "--benchmark-json",
        "run.json",
    )
    result = suite.runpytest_inprocess("benchmarks", "--head", str(head), *others)
    result.assert_outcomes(passed=19)
    plan = gate_run.plan
    assert plan is not None
    assert (plan.head, plan.budget_s) == (head, 100.0)
    assert plan.head_python is not None
    assert plan.moved == ("--corpus default -> texts.txt", "--against-budget 100.0 -> 1.0")
    saved = json.loads((suite.path / "run.json").read_text(encoding="utf8"))
    assert saved["embedopt"]["corpus"]["texts"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--head", "."), "*--head . has no base; wanted --against REF with it"),
        (
            ("--head", "none", "--against", "HEAD"),
            "*--head none is no folder; wanted one of the project in a clone of it",
        ),
        (
            ("--against", "HEAD", "--head-python", "none"),
            "*--head-python none can't be run; wanted a Python interpreter",
        ),
    ],
)
def test_a_head_that_cant_be_measured_is_refused(
    suite: pytest.Pytester, gate_run: FakeGateRun, arguments: tuple[str, ...], message: str
) -> None:
    result = suite.runpytest_inprocess("benchmarks", "-p", "no:cacheprovider", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_a_gate_run_in_several_processes_at_once_is_refused(
    suite: pytest.Pytester, gate_run: FakeGateRun
) -> None:
    result = _run_against(suite, "--numprocesses", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --against with -n would measure in several processes at once: *"])
