"""The record says what a run left out, and which benchmarks failed in it."""

from pathlib import Path

import pytest

from embedopt.judge.history.saved_runs import read_history
from embedopt.records import Part
from tests.suite import run_suite


def _part(suite: pytest.Pytester) -> Part | None:
    run = read_history(suite.path / ".benchmarks").runs[-1][1].run
    assert run is not None
    return run.part


@pytest.mark.parametrize("arguments", [[], ["--backends", "all"], ["-k", "test"]])
def test_a_run_of_all_that_the_profile_has_is_no_part(suite: pytest.Pytester, arguments: list[str]) -> None:
    run_suite(suite, *arguments)
    assert _part(suite) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["-k", "side_by_side or latency"],
        ["-m", "not needs"],
        ["--backends", "onnx-int8"],
        ["--batch-sizes", "1"],
        ["--deselect", "benchmarks/test_footprint.py"],
        ["--ignore", "benchmarks/test_footprint.py"],
        ["--benchmark-only"],
    ],
)
def test_a_run_of_less_is_a_part(suite: pytest.Pytester, arguments: list[str]) -> None:
    run_suite(suite, *arguments)
    assert _part(suite) is not None


def test_a_file_of_the_suite_is_a_part(suite: pytest.Pytester) -> None:
    suite.runpytest_inprocess("benchmarks/test_latency.py", "--profile", "quick", "-p", "no:cacheprovider")
    assert _part(suite) == Part()


def test_what_failed_is_named_and_what_was_not_reached_is_left_out(suite: pytest.Pytester) -> None:
    """Here, per-tensor is a fake encoder whose embeddings depend on the batch."""
    run_suite(suite, "-k", "accuracy or latency")
    failed = Part(failed={"accuracy": ("onnx-int8-per-tensor",)})
    assert _part(suite) == failed
    run_suite(suite)
    assert _part(suite) is None  # a whole run hides no failure behind older answers
    run_suite(suite, "-x")
    assert _part(suite) == failed


def test_after_a_part_of_a_run_the_comparison_is_with_the_newest_run_that_has_each_benchmark(
    suite: pytest.Pytester, tmp_path: Path
) -> None:
    run_suite(suite, "--backends", "onnx-int8")
    run_suite(suite, "--backends", "onnx-int8", "-k", "test_latency and onnx")
    result = run_suite(suite, "--backends", "onnx-int8", "--benchmark-compare")
    same = "compared with the run of *: same hardware class, model, corpus and profile;"
    result.stdout.fnmatch_lines([f"{same} 2 of 8 *", f"{same} 6 of 8 *"])
