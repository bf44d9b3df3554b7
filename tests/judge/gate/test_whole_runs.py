"""Verdicts on a whole run: against its base, by its history, against another run."""

import dataclasses
from typing import Any

import pytest

from embedopt.evidence import Cell, NotComparable
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.verdict import exit_code, headline
from embedopt.judge.gate.whole_runs import compare_runs, judge_gate_run, judge_history
from embedopt.judge.history.saved_runs import SavedRun, parse_run
from embedopt.records import Part, Throughput
from embedopt.report.words import subject
from tests.judge.gate.gate_runs import SAME_COSINE, gate_run, paired_cell
from tests.runs import make_file, make_run

SETTINGS = GateSettings()


def test_a_backend_that_cant_be_compared_has_a_verdict_with_the_reason() -> None:
    [verdict] = judge_gate_run(gate_run(missing="the base has no onnx-fp32"), SETTINGS)
    assert (verdict.backend, verdict.outcome) == ("onnx-fp32", "not comparable")
    assert verdict.why == "the base has no onnx-fp32"


def test_the_verdicts_of_a_gate_run_come_in_its_order() -> None:
    verdicts = judge_gate_run(gate_run(paired_cell(0.0), exact=(SAME_COSINE,), missing="gone"), SETTINGS)
    assert [(verdict.backend, verdict.metric) for verdict in verdicts] == [
        ("onnx-int8", "latency"),
        ("onnx-int8", "cosine_mean"),
        ("onnx-fp32", ""),
    ]


def test_backends_that_only_one_of_both_has_have_a_verdict() -> None:
    """What is new is neutral; what is gone fails until the change declares it."""
    run = dataclasses.replace(gate_run(paired_cell(0.0)), added=("new",), removed=("old", "older"))
    declared = dataclasses.replace(run, accepted=("removed older",))
    outcomes = [
        [(verdict.backend, verdict.outcome) for verdict in judge_gate_run(judged, SETTINGS)[1:]]
        for judged in (run, declared)
    ]
    assert outcomes == [
        [("old", "not comparable"), ("older", "not comparable"), ("new", "measured alone")],
        [("old", "not comparable"), ("older", "declared"), ("new", "measured alone")],
    ]


def test_a_change_that_adopts_embedopt_passes() -> None:
    verdicts = judge_gate_run(dataclasses.replace(gate_run(), added=("onnx-int8",)), SETTINGS)
    assert (exit_code(verdicts), headline(verdicts)) == (0, "pass: 1 measured alone")


def test_a_cell_that_cant_be_compared_fails_alone() -> None:
    cell = Cell(backend="onnx-int8", batch_size=0, metric="served_p50_ms")
    lying = NotComparable(backend="onnx-int8", cell=cell, why="two clocks")
    run = dataclasses.replace(gate_run(paired_cell(0.0)), not_comparable=(lying,))
    verdicts = judge_gate_run(run, SETTINGS)
    assert (exit_code(verdicts), headline(verdicts)) == (4, "not comparable: 1 not comparable, 1 equivalent")
    assert (subject(verdicts[1]), verdicts[1].why) == ("onnx-int8 batcher p50", "two clocks")


def test_a_metric_that_is_switched_off_is_shown_and_never_fails() -> None:
    settings = GateSettings(metrics={"latency onnx-int8": None})
    [verdict] = judge_gate_run(gate_run(paired_cell(0.05, 0.05)), settings)
    why = "[tool.embedopt.gate] metrics switches it off"
    assert (verdict.outcome, verdict.fails_check, verdict.why) == ("regressed", False, why)
    assert exit_code([verdict, dataclasses.replace(verdict, outcome="equivalent", fails=True)]) == 0
    assert exit_code([dataclasses.replace(verdict, outcome="inconclusive")]) == 0


def test_where_calls_are_switched_off_another_figure_has_to_be_decided() -> None:
    settings = GateSettings(metrics={"latency": None})
    many_texts = dataclasses.replace(
        paired_cell(None), cell=Cell(backend="onnx-int8", batch_size=0, metric="texts_per_s")
    )
    codes = [
        exit_code(judge_gate_run(gate_run(paired_cell(0.0), *cells, exact=(SAME_COSINE,)), settings))
        for cells in ([many_texts], [])
    ]
    assert codes == [5, 0]


def test_scores_alone_decide_nothing_where_only_a_size_is_switched_off() -> None:
    size = dataclasses.replace(SAME_COSINE, metric="disk_bytes")
    verdicts = judge_gate_run(gate_run(exact=(SAME_COSINE, size)), GateSettings(metrics={"disk_bytes": None}))
    assert exit_code(verdicts) == 5


def test_a_time_that_vanished_fails_until_five_whole_runs_lack_it() -> None:
    whole, content = parse_run("whole", make_file(make_run())), make_file(make_run())
    content["benchmarks"] = [b for b in content["benchmarks"] if "[onnx-int8-32]" not in b["fullname"]]
    lacking = parse_run("lacking", content)
    missing = [
        [
            verdict.why
            for verdict in judge_history(lacking, [whole, *[lacking] * again], SETTINGS)
            if verdict.unanswered
        ]
        for again in (0, 1, 4, 5)
    ]
    why = ["not in this run, or not above 0: batch 32"]
    assert missing == [why, why, why, []]


@pytest.mark.parametrize(
    ("accept", "outcomes"),
    [
        ("removed onnx-int8 batch 32", {("", "declared")}),
        ("removed batch 32", {("", "declared")}),
        ("removed onnx-int8", {("p50_ms", "inconclusive")}),
        ("removed onnx-int8 batch 8", {("p50_ms", "inconclusive")}),
    ],
)
def test_a_time_that_is_removed_on_purpose_is_declared(accept: str, outcomes: set[tuple[str, str]]) -> None:
    """And makes up for none that is not decided."""
    whole = parse_run("whole", make_file(make_run()))
    verdicts = judge_history(_without("[onnx-int8-32]"), [whole] * 6, GateSettings(accept=(accept,)))
    [gone] = [verdict for verdict in verdicts if verdict.unanswered or verdict.outcome == "declared"]
    assert {(gone.metric, gone.outcome)} == outcomes
    assert exit_code(verdicts) == (0 if gone.outcome == "declared" else 5)
    few = judge_history(_without("[onnx-int8-32]"), [whole], GateSettings(accept=(accept,)))
    assert exit_code(few) == 5


def test_a_time_of_zero_is_not_excused_as_removed() -> None:
    whole = parse_run("whole", make_file(make_run()))
    verdicts = judge_history(
        _without("none", factor=0.0), [whole] * 6, GateSettings(accept=("removed batch 32",))
    )
    assert [(verdict.outcome, verdict.why) for verdict in verdicts if verdict.unanswered] == [
        ("inconclusive", "not in this run, or not above 0: batch 1, 8, 32, 64")
    ]


@pytest.mark.parametrize(
    ("part", "accept", "code", "gone"),
    [
        (None, (), 5, {"inconclusive"}),
        (None, ("removed onnx-int8 batch 8",), 5, {"inconclusive"}),
        (None, ("removed onnx-int8",), 0, {"declared"}),
        (Part(), (), 0, set()),
    ],
    ids=["lost", "one time declared", "declared", "left out"],
)
def test_a_backend_that_a_whole_run_lost_is_missing_until_it_is_declared(
    part: Part | None, accept: tuple[str, ...], code: int, gone: set[str]
) -> None:
    """Such as one whose shard saved nothing."""
    whole = make_run()
    kept: dict[str, Any] = {
        field: {name: value for name, value in getattr(whole, field).items() if name != "onnx-int8"}
        for field in ("backends", "accuracy", "throughput", "footprint")
    }
    head = _without("[onnx-int8-", part=part, **kept)
    earlier = [parse_run("base", make_file(whole))] * 6
    verdicts = judge_history(head, earlier, GateSettings(accept=accept))
    assert exit_code(verdicts) == code
    assert {verdict.outcome for verdict in verdicts if verdict.backend == "onnx-int8"} >= gone
    assert any(verdict.unanswered for verdict in verdicts) == (code == 5)


def test_the_threshold_of_a_gate_run_replaces_that_of_the_settings() -> None:
    [verdict] = judge_gate_run(gate_run(paired_cell(0.05, 0.05), threshold=0.2), SETTINGS)
    assert verdict.outcome == "equivalent"


def _timed(factor: float) -> SavedRun:
    """A run without a record, of another suite: one benchmark, a second times ``factor``."""
    content = {"benchmarks": [{"fullname": "test_sort batch 8", "stats": {"median": factor}}]}
    return parse_run("run", content)


def test_a_time_of_another_suite_is_judged_under_its_full_name() -> None:
    earlier = [_timed(factor) for factor in (1.0, 1.01, 0.99, 1.0, 1.02, 0.98)]
    [verdict] = judge_history(_timed(1.5), earlier, SETTINGS)
    assert (verdict.backend, verdict.batch_size) == ("test_sort batch 8", 0)
    assert (verdict.outcome, verdict.pairs) == ("regressed", 6)


def test_two_separate_runs_detect_a_time_that_moved_by_half() -> None:
    outcomes = [compare_runs(_timed(1.0), _timed(factor), SETTINGS)[0].outcome for factor in (1.4, 1.6, 0.6)]
    assert outcomes == ["inconclusive", "regressed", "improved"]


def _two(*names: str) -> SavedRun:
    return parse_run(
        "run", {"benchmarks": [{"fullname": name, "stats": {"median": len(name)}} for name in names]}
    )


def test_two_runs_of_another_suite_say_what_only_the_base_timed() -> None:
    """One time that improved does not make up for another that vanished; a new one is not missing."""
    base, head = _two("sort fast", "sort"), _two("sort fast", "hash")
    assert [
        (verdict.backend, verdict.outcome, verdict.why, verdict.unanswered)
        for verdict in compare_runs(base, head, SETTINGS)
    ] == [
        ("sort fast", "inconclusive", "", False),
        ("sort", "inconclusive", "not in this run, or not above 0", True),
    ]


def _without(name: str, factor: float = 1.0, **changes: Any) -> SavedRun:
    """A run without one time, the others of ``onnx-int8`` times a factor."""
    content = make_file(make_run(**changes))
    content["benchmarks"] = [bench for bench in content["benchmarks"] if name not in bench["fullname"]]
    for bench in content["benchmarks"]:
        if "[onnx-int8-" in bench["fullname"]:
            bench["extra_info"]["p50_ms"] *= factor
    return parse_run("head", content)


@pytest.mark.parametrize(
    ("part", "code"),
    [(None, 5), (Part(), 0), (Part(failed={"latency": ("onnx-int8",)}), 5)],
    ids=["whole", "left out", "failed"],
)
def test_a_time_that_only_the_base_of_two_runs_has_is_missing_unless_it_was_left_out(
    part: Part | None, code: int
) -> None:
    base = parse_run("base", make_file(make_run()))
    head = _without("[onnx-int8-32]", factor=0.4, part=part)
    verdicts = compare_runs(base, head, SETTINGS)
    assert exit_code(verdicts) == code
    why = ["not in this run, or not above 0: batch 32"] if code else []
    assert [verdict.why for verdict in verdicts if verdict.unanswered] == why


def test_runs_of_different_suites_are_not_comparable() -> None:
    [verdict] = compare_runs(_timed(1.0), parse_run("ours", make_file(make_run())), SETTINGS)
    assert (verdict.backend, verdict.outcome) == ("", "not comparable")
    assert verdict.why.startswith("its machine or suite is unknown CPU")


def _bulk_run(per_s: float, peak_mb: float, resume_s: float = 0.5, texts: int = 200_000) -> SavedRun:
    bulk = Throughput(
        bulk_texts=texts, bulk_per_s=per_s, bulk_peak_bytes=int(peak_mb * 1e6), bulk_resume_s=resume_s
    )
    return parse_run("run", make_file(make_run(throughput={"onnx-int8": bulk}, accuracy={}, footprint={})))


def _bulk_verdicts(head: SavedRun, earlier: list[SavedRun]) -> dict[str, tuple[str, str]]:
    verdicts = judge_history(head, earlier, SETTINGS)
    return {
        subject(verdict): (verdict.outcome, verdict.why)
        for verdict in verdicts
        if verdict.metric.startswith("bulk_")
    }


def test_the_figures_of_the_bulk_benchmark_are_judged_by_the_runs_with_as_many_texts() -> None:
    noise = (1.0, 1.01, 0.99, 1.0, 1.02, 0.98)
    earlier = [_bulk_run(800 * factor, 400 * factor) for factor in noise]
    assert _bulk_verdicts(_bulk_run(600, 300), [*earlier, _bulk_run(1, 1, texts=9)]) == {
        "onnx-int8 bulk texts/s": ("regressed", ""),
        "onnx-int8 bulk memory": ("improved", ""),
        "onnx-int8 bulk resume": ("equivalent", ""),
    }
    missing = ("inconclusive", "5 of 5 earlier runs are missing")
    assert set(_bulk_verdicts(_bulk_run(600, 300, texts=9), earlier).values()) == {missing}


def test_figures_of_the_bulk_benchmark_that_vanished_are_missing() -> None:
    head = parse_run("head", make_file(make_run(throughput={}, accuracy={}, footprint={})))
    verdicts = judge_history(head, [_bulk_run(800, 400)] * 6, SETTINGS)
    assert [(verdict.backend, verdict.why) for verdict in verdicts if verdict.unanswered] == [
        ("onnx-int8", "not in this run: bulk_peak_bytes, bulk_per_s, bulk_resume_s")
    ]
    assert exit_code(verdicts) == 5


def test_two_separate_runs_detect_bulk_figures_that_moved_by_half() -> None:
    outcomes = {
        subject(verdict): verdict.outcome
        for verdict in compare_runs(_bulk_run(800, 400), _bulk_run(390, 700, 0.3), SETTINGS)
        if verdict.metric.startswith("bulk_")
    }
    assert outcomes == {
        "onnx-int8 bulk texts/s": "regressed",
        "onnx-int8 bulk memory": "regressed",
        "onnx-int8 bulk resume": "improved",
    }
