"""A part of a run is completed by the runs before it, and nothing that failed is."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from embedopt.errors import RecordError
from embedopt.judge.history.saved_runs import SavedRun, parse_run, read_history
from embedopt.judge.newest import Answer, choose, newest_answers
from embedopt.judge.summary import speed_up_factors, summary_rows
from embedopt.records import Accuracy, Part, Throughput
from tests.runs import make_file, make_load, make_run

_NOTHING: dict[str, Any] = {"accuracy": {}, "throughput": {}, "footprint": {}}


def _saved(day: int, *, timed: tuple[str, ...] | None = None, **changes: Any) -> SavedRun:
    """A run of a day in March, with the latencies of some backends only."""
    run = parse_run(f"{day}.json", make_file(make_run(**changes)))
    kept = tuple(latency for latency in run.latencies if timed is None or latency.backend in timed)
    return dataclasses.replace(run, latencies=kept, time=datetime(2026, 3, day, tzinfo=UTC))


def _part(day: int, *, timed: tuple[str, ...] = (), part: Part | None = None, **changes: Any) -> SavedRun:
    return _saved(day, timed=timed, part=part or Part(), **(_NOTHING | changes))


def test_a_whole_run_stands_alone() -> None:
    head = _saved(2, throughput={})
    newest = newest_answers(head, [_saved(1)])
    assert newest.run is head
    assert newest.older == ()


def test_a_part_is_completed_by_the_newest_runs_that_answer() -> None:
    whole = _saved(1, load=make_load())
    scores = _part(2, accuracy={"onnx-int8": Accuracy(cosine_mean=0.5)})
    head = _part(3, timed=("torch-fp32", "onnx-int8"))
    newest = newest_answers(head, [whole, scores])
    assert newest.run.run is not None
    assert whole.run is not None
    assert newest.run.run.accuracy["onnx-int8"] == dataclasses.replace(
        whole.run.accuracy["onnx-int8"], cosine_mean=0.5
    )
    assert newest.run.run.throughput == whole.run.throughput
    assert newest.run.run.load == whole.run.load
    assert [latency.backend for latency in newest.run.latencies] == [
        *["torch-fp32"] * 4,
        *["onnx-int8"] * 4,
        "onnx-fp32",
    ]
    assert [run.name for run, _ in newest.older] == ["2.json", "1.json"]
    assert newest.older[0][1] == {Answer("accuracy", "onnx-int8", figure="cosine_mean")}


def test_no_run_before_the_last_whole_one_answers() -> None:
    newest = newest_answers(_part(3), [_saved(1), _saved(2, throughput={})])
    assert newest.run.run is not None
    assert newest.run.run.throughput == {}
    assert [run.name for run, _ in newest.older] == ["2.json"]


@pytest.mark.parametrize("failed_in", ["head", "before"])
def test_what_failed_is_not_answered_by_an_older_run(failed_in: str) -> None:
    part = Part(failed={"throughput": ("onnx-int8",)})
    runs = [_saved(1), _part(2, part=part if failed_in == "before" else Part())]
    newest = newest_answers(_part(3, part=part if failed_in == "head" else Part()), runs)
    assert newest.run.run is not None
    assert sorted(newest.run.run.throughput) == ["onnx-fp32", "torch-fp32"]
    assert sorted(newest.run.run.footprint) == ["onnx-int8", "torch-fp32"]


def test_a_run_of_another_profile_answers_nothing() -> None:
    assert newest_answers(_part(2), [_saved(1, profile="quick")]).older == ()


def test_a_run_of_fewer_backends_has_the_others_from_before() -> None:
    fewer: dict[str, Any] = {
        kind: {name: value for name, value in getattr(make_run(), kind).items() if name != "onnx-fp32"}
        for kind in ("backends", "throughput")
    }
    newest = newest_answers(_part(2, timed=("torch-fp32", "onnx-int8"), **fewer), [_saved(1)])
    assert newest.run.run is not None
    assert set(newest.run.run.backends) == set(make_run().backends)
    assert {row.backend: row.speed_up for row in summary_rows(newest.run, 0.05)} == {
        "torch-fp32": 2.5,
        "onnx-fp32": 2.0,
        "onnx-int8": 12.5,
    }
    answers = {Answer("latency", "onnx-fp32", "1")} | {
        answer for _, names in newest.older for answer in names if answer.question != "latency"
    }
    assert newest.older == ((_saved(1), frozenset(answers)),)
    assert {answer.backend for answer in answers if answer.question == "throughput"} == {"onnx-fp32"}


def test_a_ratio_between_figures_of_two_runs_is_a_dash() -> None:
    """Throughput of one run over calls of another would mix two states of the machine."""
    head = _part(2, throughput={"torch-fp32": Throughput(texts_per_s=500.0)})
    newest = newest_answers(head, [_saved(1)])
    speed_ups = {row.backend: row.speed_up for row in summary_rows(newest.run, 0.05)}
    assert speed_ups["onnx-int8"] == 12.5
    assert speed_ups["torch-fp32"] is None
    assert "torch-fp32" not in speed_up_factors(newest.run)


def _save(folder: Path, day: int) -> Path:
    file = folder / f"000{day}_run.json"
    content = make_file(make_run()) | {"datetime": f"2026-03-0{day}T12:00:00"}
    file.write_text(json.dumps(content), encoding="utf8")
    return file


def test_the_newest_run_is_chosen_unless_a_file_is_named(tmp_path: Path) -> None:
    first, _ = _save(tmp_path, 1), _save(tmp_path, 2)
    history = read_history(tmp_path)
    assert choose(history, None, tmp_path).head.name == "0002_run.json"
    assert choose(history, first, tmp_path).head.name == "0001_run.json"


def test_a_history_without_a_readable_run_has_none_to_choose(tmp_path: Path) -> None:
    (tmp_path / "0001_half.json").write_text('{"benchm', encoding="utf8")
    with pytest.raises(
        RecordError, match=r"has no saved run that can be read \(.* is damaged: .*\): run pytest"
    ):
        choose(read_history(tmp_path), None, tmp_path)
