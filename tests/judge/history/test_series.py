"""Series of saved runs, and benchmarks that come and go."""

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
    series = series_of([_run(), parse_run("slow", file)])
    assert [(one.backend, one.batch_size, one.values) for one in series] == [
        ("onnx-fp32", 1, (1.0, 0.5)),
        ("onnx-int8", 1, (1.0, 0.5)),
        ("onnx-int8", 8, (1.0, 0.5)),
        ("onnx-int8", 32, (1.0, 0.5)),
        ("onnx-int8", 64, (1.0, 0.5)),
    ]
    assert series[2].name == "onnx-int8 batch 8"
    assert [run.name for run in series[0].runs] == ["run", "slow"]
    assert {(one.better, one.is_log) for one in series} == {("lower", True)}


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("cosine_mean", [("torch-fp32", (1.0,)), ("onnx-int8", (0.99337,))]),
        ("throughput", [("onnx-fp32", (1.6,)), ("onnx-int8", (5.0,))]),
        ("bulk_per_s", []),
        ("disk_bytes", [("torch-fp32", (91_600_000,)), ("onnx-int8", (23_400_000,))]),
        ("load_s", [("onnx-int8", (0.25 / 4.5,))]),
        ("spearman", []),
    ],
)
def test_accuracy_throughput_and_footprint_have_series_without_a_batch_size(
    metric: str, expected: list[tuple[str, tuple[float, ...]]]
) -> None:
    assert [(one.name, one.values) for one in series_of([_run()], metric)] == expected


def test_without_a_reference_no_time_has_a_series() -> None:
    file = make_file(make_run())
    file["benchmarks"] = file["benchmarks"][4:]
    assert series_of([parse_run("run", file)]) == ()


def test_the_series_of_another_suites_benchmark_is_its_median() -> None:
    content = {"benchmarks": [{"fullname": "test_sort batch 8", "stats": {"median": 0.25}}]}
    [series] = series_of([parse_run("another suite", content)])
    assert (series.backend, series.batch_size, series.values) == ("test_sort batch 8", 0, (0.25,))


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
