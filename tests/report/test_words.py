"""Verdicts and notes in words."""

import dataclasses

import pytest

from embedopt.errors import RecordError
from embedopt.judge.gate.verdict import Verdict
from embedopt.judge.history.series import Roster
from embedopt.records import Latency
from embedopt.report.words import (
    change,
    command_for,
    describe_damaged,
    describe_kept_results,
    describe_roster,
    failing,
    sentence,
    span,
    subject,
    worth_a_row,
)
from tests.report.verdicts import GONE, LESS_ACCURATE, OPEN, SAME, SLOWER


@pytest.mark.parametrize(
    ("backend", "batch_size", "metric", "name"),
    [
        ("onnx-int8", 8, "latency", "onnx-int8 batch 8"),
        ("onnx-int8", 0, "load_s", "onnx-int8 load"),
        ("onnx-int8", 8, "p50_ms", "onnx-int8 batch 8 time"),
        ("test_sort", 0, "p50_ms", "test_sort time"),
        ("onnx-int8", 0, "cosine_mean", "onnx-int8 cosine_mean"),
        ("onnx-int8", 0, "", "onnx-int8"),
        ("", 0, "", "the runs"),
    ],
)
def test_a_verdict_is_named_by_backend_batch_size_and_metric(
    backend: str, batch_size: int, metric: str, name: str
) -> None:
    verdict = Verdict(backend=backend, batch_size=batch_size, metric=metric, outcome="equivalent")
    assert subject(verdict) == name


_WIDE = Verdict(
    backend="a",
    batch_size=1,
    metric="latency",
    outcome="inconclusive",
    effect=0.029,
    interval=(0.01, 0.048),
    smallest_effect=0.04,
    pairs=8,
    why="not confirmed",
)
_HISTORY = Verdict(
    backend="a", batch_size=1, metric="p50_ms", outcome="improved", effect=-0.2, interval=(-0.1, 0.1), pairs=6
)


@pytest.mark.parametrize(
    ("verdict", "line"),
    [
        (SLOWER, "regressed, +5.1% (+4.3% to +5.9%) in 12 process pairs"),
        (LESS_ACCURATE, "regressed, -0.03180, 0.9923 -> 0.9605"),
        (OPEN, "inconclusive, few pairs"),
        (GONE, "not comparable, the base has no [b]"),
        (
            _WIDE,
            "inconclusive, +2.9% (+1.0% to +4.8%) in 8 process pairs, 4.0% would have been detected, "
            "not confirmed",
        ),
        (_HISTORY, "improved, -20.0% (-10.0% to +10.0%) in 6 earlier runs"),
    ],
)
def test_a_verdict_is_one_sentence(verdict: Verdict, line: str) -> None:
    assert sentence(verdict) == line


def test_equivalent_scores_and_sizes_are_not_worth_a_row() -> None:
    assert worth_a_row([SLOWER, SAME, GONE]) == (SLOWER, GONE)


def test_benchmarks_that_came_and_went_are_named_up_to_five() -> None:
    roster = Roster(new=("a", "b", "c", "d", "e", "f"), renamed=(("g", "h"),))
    assert describe_roster(roster) == ("6 new: a, b, c, d, e and 1 more", "1 renamed: g -> h")


def test_damaged_files_are_named() -> None:
    assert describe_damaged([RecordError("x.json is damaged")]) == ("passed over: x.json is damaged",)


def test_code_that_keeps_results_is_named_with_its_smallest_share() -> None:
    rows = [
        Latency(backend=name, batch_size=size, calls=1, repeated_share=share)
        for name, size, share in (("shop", 1, 0.9), ("shop", 32, 0.03), ("other", 1, 0.8), ("ours", 1, None))
    ]
    assert describe_kept_results(rows) == (
        "shop keeps results: a repeated call takes 3% of a new one's time; its times are of new texts",
    )


@pytest.mark.parametrize(
    ("verdicts", "arguments"),
    [
        ([SLOWER, LESS_ACCURATE, SAME], " --embedopt-backends onnx-int8 --embedopt-batch-sizes 8"),
        ([LESS_ACCURATE, OPEN], " --embedopt-backends onnx-int8"),
        ([OPEN, SAME], " --embedopt-backends b --embedopt-batch-sizes 1"),  # nothing is decided
        ([GONE], ""),
    ],
)
def test_the_command_measures_again_what_failed(verdicts: list[Verdict], arguments: str) -> None:
    command = f"pytest benchmarks/ -k test_against --embedopt-against {'a' * 12}{arguments}"
    assert command_for(verdicts, "a" * 40) == command
    assert command_for(verdicts, "") == ""


@pytest.mark.parametrize("metric", ["bulk_per_s", "spearman"])
def test_what_no_gate_run_measures_has_no_command(metric: str) -> None:
    failed = dataclasses.replace(SLOWER, metric=metric, batch_size=0)
    assert command_for([failed, SAME], "a" * 40) == ""


def test_what_passes_needs_no_command() -> None:
    assert command_for([dataclasses.replace(SLOWER, outcome="equivalent"), SAME], "a" * 40) == ""


def test_what_is_switched_off_does_not_fail_a_check_and_what_cant_be_compared_does() -> None:
    off = dataclasses.replace(GONE, fails=False)
    assert failing([OPEN, off, GONE, SLOWER]) == (SLOWER, GONE)


def test_no_change_has_no_minus_sign() -> None:
    assert change(dataclasses.replace(SAME, effect=-0.0)) == "+0.0%"
    assert span((-0.0004, -0.0)) == "+0.0% to +0.0%"
