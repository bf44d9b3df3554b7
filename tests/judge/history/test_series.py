"""What can be followed over time: numbers that travel, and names that come and go."""

from typing import Any

import pytest

from embedopt.errors import UsageError
from embedopt.judge.history.saved_runs import SavedRun, parse_run
from embedopt.judge.history.series import Roster, roster, series_of
from tests.runs import make_file, make_run


def _run(**changes: Any) -> SavedRun:
    return parse_run("run", make_file(make_run()) | changes)


def test_a_time_is_over_the_references_of_the_same_run_and_batch_size() -> None:
    file = make_file(make_run())
    for bench in file["benchmarks"][:4]:  # torch-fp32, twice as slow
        bench["extra_info"]["p50_ms"] *= 2
    found = series_of([_run(), parse_run("slow", file)])
    assert [(of.name, of.values) for of in found] == [
        ("onnx-fp32 batch 1", (1.0, 0.5)),
        ("onnx-int8 batch 1", (1.0, 0.5)),
        ("onnx-int8 batch 8", (1.0, 0.5)),
        ("onnx-int8 batch 32", (1.0, 0.5)),
        ("onnx-int8 batch 64", (1.0, 0.5)),
    ]
    assert [run.name for run in found[0].runs] == ["run", "slow"]
    assert {(of.better, of.is_log) for of in found} == {("lower", True)}


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("cosine_mean", [("torch-fp32", (1.0,)), ("onnx-int8", (0.99337,))]),
        ("throughput", [("onnx-fp32", (1.6,)), ("onnx-int8", (5.0,))]),
        ("disk_bytes", [("torch-fp32", (91_600_000,)), ("onnx-int8", (23_400_000,))]),
        ("load_s", [("onnx-int8", (0.25 / 4.5,))]),
        ("spearman", []),
    ],
)
def test_other_metrics(metric: str, expected: list[tuple[str, tuple[float, ...]]]) -> None:
    assert [(of.name, of.values) for of in series_of([_run()], metric)] == expected


def test_without_a_reference_there_is_nothing_to_hold_a_time_against() -> None:
    file = make_file(make_run())
    file["benchmarks"] = file["benchmarks"][4:]
    assert series_of([parse_run("run", file)]) == ()


def test_a_benchmark_of_another_suite_is_followed_by_its_median() -> None:
    theirs = parse_run("theirs", {"benchmarks": [{"fullname": "test_sort", "stats": {"median": 0.25}}]})
    assert [(of.name, of.values) for of in series_of([theirs])] == [("test_sort", (0.25,))]


def test_an_unknown_metric_is_one_line() -> None:
    with pytest.raises(
        UsageError, match="unknown metric 'p50'; known are: p50_ms, p95_ms, p99_ms, texts_per_s"
    ):
        series_of([], "p50")


def _named(*names: str) -> SavedRun:
    return parse_run("run", {"benchmarks": [{"fullname": name} for name in names]})


def test_new_renamed_and_vanished_benchmarks_are_named() -> None:
    before = _named(
        "b.py::test_latency[a-1]", "b.py::test_latency[a-8]", "b.py::test_sort", "b.py::test_same"
    )
    head = _named("b.py::test_latencies[a-1]", "b.py::test_latency[a-32]", "b.py::test_same")
    assert roster(before, head) == Roster(
        new=("b.py::test_latency[a-32]",),
        renamed=(("b.py::test_latency[a-1]", "b.py::test_latencies[a-1]"),),
        vanished=("b.py::test_latency[a-8]", "b.py::test_sort"),
    )
    assert roster(before, before) == Roster()
