"""Shards become one run in which each backend keeps its own reference; shards that do not fit are refused."""

import dataclasses
from typing import Any

import pytest

from embedopt.errors import RecordError
from embedopt.evidence import Cell, Drift, ExactPair, GateRun, NotComparable, PairedCell
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.verdict import Verdict, exit_code
from embedopt.judge.gate.whole_runs import judge_gate_run
from embedopt.judge.history.saved_runs import SavedRun, parse_run
from embedopt.judge.history.series import series_of
from embedopt.judge.merge import Shard, merge
from embedopt.judge.recommend import candidates, with_pareto_front
from embedopt.judge.summary import speed_up_factors, summary_rows
from embedopt.records import Run
from embedopt.schema import to_json
from tests.judge.gate.gate_runs import paired_cell
from tests.runs import make_file, make_run
from tests.shards import make_shard

_REFERENCE = "torch-fp32"


def _merged(*shards: Shard) -> SavedRun:
    return parse_run("merged.json", merge(shards))


@pytest.fixture
def pair() -> tuple[Shard, Shard]:
    return make_shard("a.json", "onnx-fp32"), make_shard("b.json", "onnx-int8", slower=2.0)


def test_all_backends_are_in_the_merged_run(pair: tuple[Shard, Shard]) -> None:
    merged = _merged(*pair)
    assert merged.run is not None
    assert set(merged.run.backends) == {"torch-fp32", "onnx-fp32", "onnx-int8"}
    assert set(merged.run.throughput) == set(merged.run.backends)
    assert {latency.backend for latency in merged.latencies} == set(merged.run.backends)
    assert [latency.batch_size for latency in merged.latencies if latency.backend == _REFERENCE] == [
        1,
        8,
        32,
        64,
    ]


def test_ratios_are_those_of_a_run_on_one_machine(pair: tuple[Shard, Shard]) -> None:
    """The second shard's machine is half as fast."""
    whole = parse_run("whole.json", make_file(make_run()))
    merged = _merged(*pair)
    for metric in ("p50_ms", "texts_per_s", "throughput"):
        by_name = {series.name: series.values for series in series_of([merged], metric)}
        assert by_name == {series.name: series.values for series in series_of([whole], metric)}
    assert {row.backend: row.speed_up for row in summary_rows(merged, 0.05)} == pytest.approx(
        {row.backend: row.speed_up for row in summary_rows(whole, 0.05)}
    )
    ours, theirs = speed_up_factors(merged)["onnx-int8"], speed_up_factors(whole)["onnx-int8"]
    assert dataclasses.astuple(ours) == pytest.approx(dataclasses.astuple(theirs))


def test_the_cheapest_backend_is_the_same_as_on_one_machine(pair: tuple[Shard, Shard]) -> None:
    whole = parse_run("whole.json", make_file(make_run()))
    merged_rates, whole_rates = (
        {candidate.backend: candidate.texts_per_s for candidate in candidates(run)}
        for run in (_merged(*pair), whole)
    )
    assert merged_rates == pytest.approx(whole_rates)
    merged = _merged(*pair).run
    assert merged is not None
    assert set(merged.pareto_front) == set(with_pareto_front(make_run()).pareto_front)


def test_one_shard_stays_as_it_is(pair: tuple[Shard, Shard]) -> None:
    assert _merged(pair[0]).latencies == pair[0][0].latencies


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"hardware_class": "another CPU"}, "its hardware class is another CPU"),
        ({"profile": "quick"}, "its profile is quick, this one's is full"),
        ({"commit": "d" * 40}, "its commit is d"),
        (
            {"machine": dataclasses.replace(make_run().machine, libraries={"torch": "2.14"})},
            "its torch is 2.14",
        ),
        ({"reference": "st-onnx"}, "has no st-onnx: measure the reference in each shard"),
    ],
)
def test_a_shard_that_does_not_fit_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(RecordError, match=rf"^b\.json .*{why}"):
        merge([make_shard("a.json", "onnx-fp32"), make_shard("b.json", "onnx-int8", **change)])


def test_a_backend_of_two_shards_is_refused() -> None:
    with pytest.raises(RecordError, match=r"b\.json has onnx-int8, which an earlier shard has"):
        merge([make_shard("a.json", "onnx-int8"), make_shard("b.json", "onnx-int8")])


def test_a_file_of_another_suite_is_refused(pair: tuple[Shard, Shard]) -> None:
    foreign: dict[str, Any] = {"benchmarks": []}
    with pytest.raises(RecordError, match=r"b\.json has no embedopt record"):
        merge([pair[0], (parse_run("b.json", foreign), foreign)])


def _gate_run(backend: str, **changes: Any) -> GateRun:
    cells = tuple(
        PairedCell(cell=Cell(backend=name, batch_size=1), log_ratios=(0.0,)) for name in (_REFERENCE, backend)
    )
    values: dict[str, Any] = {
        "base": "main",
        "base_commit": "c" * 40,
        "cells": cells,
        "pairs": 6,
        "seconds": 30.0,
        "budget_s": 100.0,
    }
    return GateRun(**(values | changes))


def test_the_drift_of_every_shard_counts() -> None:
    same, moved = (Drift(backend=name, similarity_min=1.0) for name in ("onnx-fp32", "onnx-int8"))
    run: Run | None = _merged(
        make_shard("a.json", "onnx-fp32", against=_gate_run("onnx-fp32", drift=(same,))),
        make_shard("b.json", "onnx-int8", against=_gate_run("onnx-int8", drift=(moved,), added=("new",))),
    ).run
    assert run is not None
    assert run.against is not None
    assert (run.against.drift, run.against.added) == ((same, moved), ("new",))


def test_gate_runs_are_joined() -> None:
    gone = NotComparable(backend="onnx-int8", why="new")
    run: Run | None = _merged(
        make_shard("a.json", "onnx-fp32", against=_gate_run("onnx-fp32")),
        make_shard("b.json", "onnx-int8", against=_gate_run("onnx-int8", not_comparable=(gone,))),
    ).run
    assert run is not None
    assert run.against is not None
    assert [str(cell.cell) for cell in run.against.cells] == [
        "torch-fp32 batch 1",
        "onnx-fp32 batch 1",
        "onnx-int8 batch 1",
    ]
    assert (run.against.pairs, run.against.seconds, run.against.not_comparable) == (12, 60.0, (gone,))


def _judged(*gate_runs: GateRun) -> tuple[Verdict, ...]:
    """The verdicts on the merged shards of ``onnx-fp32`` and ``onnx-int8``."""
    names = ("onnx-fp32", "onnx-int8")
    run = _merged(
        *(make_shard(f"{name}.json", name, against=own) for name, own in zip(names, gate_runs, strict=True))
    ).run
    assert run is not None
    assert run.against is not None
    return judge_gate_run(run.against, GateSettings())


def _of_reference(change: float, fresh: float | None = None) -> PairedCell:
    cell = Cell(backend=_REFERENCE, batch_size=32)
    return dataclasses.replace(paired_cell(change, fresh), cell=cell)


@pytest.mark.parametrize("slower_first", [False, True])
@pytest.mark.parametrize(("fresh", "code"), [(0.2, 1), (None, 5)])
def test_a_slower_reference_fails_whichever_shard_saw_it(
    slower_first: bool, fresh: float | None, code: int
) -> None:
    """Confirmed by fresh pairs, or looking slower when the budget ended."""
    cells = [_of_reference(0.0), _of_reference(0.2, fresh)]
    runs = [_gate_run("onnx-fp32", cells=(cell,)) for cell in (cells[::-1] if slower_first else cells)]
    [verdict] = _judged(*runs)
    assert exit_code([verdict]) == code
    assert verdict.effect == pytest.approx(0.2, abs=0.005)
    assert _judged(runs[slower_first], runs[slower_first])[0].outcome == "equivalent"


def test_a_score_of_the_reference_that_fell_in_the_second_shard_fails() -> None:
    same = ExactPair(backend=_REFERENCE, metric="recall_at_10", base=0.5, head=0.5)
    runs = [
        _gate_run("onnx-fp32", cells=(_of_reference(0.0),), exact=(pair,))
        for pair in (same, dataclasses.replace(same, head=0.4))
    ]
    assert [verdict.outcome for verdict in _judged(*runs)] == ["equivalent", "regressed"]
    assert exit_code(_judged(*runs)) == 3


def test_a_cell_of_the_reference_that_the_second_shard_cant_compare_fails() -> None:
    gone = NotComparable(backend=_REFERENCE, cell=_of_reference(0.0).cell, why="two clocks")
    runs = [
        _gate_run("onnx-fp32", cells=(_of_reference(0.0),)),
        _gate_run("onnx-int8", cells=(), not_comparable=(gone,)),
    ]
    assert [verdict.outcome for verdict in _judged(*runs)] == ["not comparable"]


def _gate_run_alone(name: str, backend: str, head: str = "c" * 40, **changes: Any) -> Shard:
    """What a checkout of the base saves: no figures, and a commit and an environment of its own."""
    _, content = make_shard(name, backend, commit="b" * 40, **changes)
    against = to_json(_gate_run(backend, head=head))
    record = content["embedopt"] | {"accuracy": {}, "throughput": {}, "footprint": {}, "against": against}
    content = {**content, "embedopt": record, "benchmarks": []}
    return parse_run(name, content), content


def test_a_gate_run_that_the_base_measured_is_joined_to_the_figures_of_the_head() -> None:
    machine = dataclasses.replace(make_run().machine, libraries={"torch": "2.14"})
    shards = [
        make_shard("0/0001_head.json", "onnx-fp32"),
        _gate_run_alone("0/0002_base.json", "onnx-fp32", machine=machine),
        make_shard("1/0001_head.json", "onnx-int8"),
        _gate_run_alone("1/0002_base.json", "onnx-int8", machine=machine),
    ]
    merged = _merged(*shards)
    assert merged.commit == "c" * 40
    assert merged.run is not None
    assert set(merged.run.throughput) == {"torch-fp32", "onnx-fp32", "onnx-int8"}
    assert merged.run.machine == make_run().machine
    assert merged.run.against is not None
    assert len(merged.run.against.cells) == 3
    alone = _merged(*shards[1::2]).run
    assert alone is not None
    assert alone.against == merged.run.against


@pytest.mark.parametrize(
    ("gate_run", "figures", "why"),
    [
        ({"head": "d" * 40}, {}, "its head is d"),
        ({"profile": "quick"}, {}, "its profile is quick"),
        ({}, {"against": _gate_run("onnx-int8")}, "this one has a gate run, too, against c"),
    ],
)
def test_a_gate_run_of_another_head_is_refused(
    gate_run: dict[str, Any], figures: dict[str, Any], why: str
) -> None:
    shards = [
        make_shard("a.json", "onnx-int8", **figures),
        _gate_run_alone("b.json", "onnx-int8", **gate_run),
    ]
    with pytest.raises(RecordError, match=rf"^b\.json can't be joined to a\.json: {why}"):
        merge(shards)


def test_a_lax_shard_does_not_judge_the_others() -> None:
    with pytest.raises(RecordError, match="its gate threshold is that of the settings, this one's is"):
        merge(
            [
                make_shard("a.json", "onnx-fp32", against=_gate_run("onnx-fp32", threshold=0.9)),
                make_shard("b.json", "onnx-int8", against=_gate_run("onnx-int8")),
            ]
        )


def test_shards_of_two_bases_are_refused() -> None:
    with pytest.raises(RecordError, match="its base is d"):
        merge(
            [
                make_shard("a.json", "onnx-fp32", against=_gate_run("onnx-fp32")),
                make_shard("b.json", "onnx-int8", against=_gate_run("onnx-int8", base_commit="d" * 40)),
            ]
        )
