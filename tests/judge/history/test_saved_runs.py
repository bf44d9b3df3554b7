"""Saved files become runs and histories; a damaged file is an error in one line."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from embedopt.conditions import CorpusInfo, Model
from embedopt.errors import RecordError
from embedopt.judge.history.saved_runs import (
    History,
    SavedRun,
    differences,
    parse_run,
    read_history,
    read_run,
)
from tests.runs import make_file, make_run


def test_a_saved_run_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "0001_run.json"
    file.write_text(json.dumps(make_file(make_run())), encoding="utf8")
    saved = read_run(file)
    assert saved.name == "0001_run.json"
    assert saved.run == make_run()
    assert [(latency.backend, latency.batch_size) for latency in saved.latencies][:3] == [
        ("torch-fp32", 1),
        ("torch-fp32", 8),
        ("torch-fp32", 32),
    ]


@pytest.mark.parametrize("extra", [{}, {"p50_ms": "theirs"}, None, 5])
def test_a_file_of_another_suite_has_no_record(extra: object) -> None:
    saved = parse_run("theirs", {"benchmarks": [{"fullname": "test_sort", "extra_info": extra}]})
    assert (saved.run, saved.latencies) == (None, ())
    assert saved.benchmarks == {"test_sort"}


def _with_size(digits: str) -> str:
    return json.dumps(make_file(make_run())).replace("91600000", digits)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"benchmarks": [', "is damaged: it is not JSON; delete it, or run the suite again"),
        ("", "is damaged: it is not JSON"),
        ("[]", "it has no list of benchmarks; wanted a file that pytest-benchmark saved"),
        ('{"benchmarks": {}}', "it has no list of benchmarks"),
        ('{"benchmarks": [], "embedopt": {"schema": 9}}', "record has schema 9, wanted 1"),
        ('{"benchmarks": [5]}', "one of its benchmarks is no JSON object"),
        (_with_size("NaN"), "Run record: footprint.torch-fp32.disk_bytes: input should be a finite number"),
        (
            _with_size("1" * 400),
            "Run record: footprint.torch-fp32.disk_bytes: input should be a finite number",
        ),
        (
            '{"benchmarks": [{"extra_info": {"backend": "a", "batch_size": 1, "p50_ms": 1}}]}',
            "Latency record: calls: field required",
        ),
    ],
)
def test_a_damaged_file_is_an_error_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "run.json"
    file.write_text(content, encoding="utf8")
    with pytest.raises(RecordError) as caught:
        read_run(file)
    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"), [("nowhere.json", "no such file or directory"), (".", "is a directory")]
)
def test_a_missing_file_is_an_error_in_one_line(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(RecordError, match=f"{message}; wanted a saved run"):
        read_run(tmp_path / name)


def test_runs_of_one_kind_can_be_compared() -> None:
    """Names are what a user called things: the digests decide."""
    assert differences(make_run(), make_run(model=Model(name="the same", digest="a" * 64))) == ()


def test_every_difference_of_two_runs_is_named() -> None:
    machine = dataclasses.replace(make_run().machine, cores=4)
    head = make_run(
        hardware_class=machine.hardware_class,
        machine=machine,
        model=Model(name="other", digest="c" * 64),
        corpus=CorpusInfo(name="corpus", digest="d" * 64, texts=9, mean_tokens=None),
        profile="quick",
    )
    assert differences(make_run(), head) == (
        "its hardware class is Test CPU | avx2+vnni | 2 cores | 2 threads, "
        "this one's is Test CPU | avx2+vnni | 4 cores | 2 threads",
        "its model is tiny (aaaaaaaaaaaa), this one's is other (cccccccccccc)",
        "its corpus is corpus (bbbbbbbbbbbb), this one's is corpus (dddddddddddd)",
        "its profile is full, this one's is quick",
    )


def _save(folder: Path, name: str, run: Any, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(json.dumps(make_file(run) | changes), encoding="utf8")
    return file


def test_a_history_is_ordered_by_time_not_by_name(tmp_path: Path) -> None:
    """Files before pytest-benchmark 5 have no zone; counters start again on another machine."""
    _save(tmp_path / "a", "0002_b.json", make_run(), datetime="2026-03-01T12:00:00+00:00")
    _save(tmp_path / "a", "0003_c.json", make_run(), datetime="2026-03-01T10:00:00.123456")
    _save(tmp_path / "b", "0001_a.json", make_run(), datetime="2026-03-01T13:30:00+02:00")
    _save(tmp_path / "b", "notes.json", make_run(), datetime="2026-03-01T13:30:00+02:00")
    history = read_history(tmp_path)
    assert [run.name for _, run in history.runs] == ["0003_c.json", "0001_a.json", "0002_b.json"]
    assert [run.name for run in history.before(history.runs[2][1])] == ["0003_c.json", "0001_a.json"]
    assert history.damaged == ()


def test_a_history_before_a_run_has_only_runs_of_its_kind(tmp_path: Path) -> None:
    """Another machine or model has a history of its own; both profiles time the same calls."""
    machine = dataclasses.replace(make_run().machine, cores=4)
    others = [
        make_run(profile="quick"),
        make_run(hardware_class=machine.hardware_class, machine=machine),
        make_run(model=Model(name="tiny", digest="c" * 64)),
        None,
    ]
    for number, run in enumerate(others):
        _save(tmp_path, f"000{number}_run.json", run, datetime=f"2026-03-0{number + 1}T12:00:00")
    head = parse_run("this run", make_file(make_run()))
    assert [run.name for run in read_history(tmp_path).before(head)] == ["0000_run.json"]


def test_damaged_files_are_named_and_passed_over(tmp_path: Path) -> None:
    _save(tmp_path, "0001_good.json", make_run(), datetime="2026-03-01T12:00:00")
    _save(tmp_path, "0002_untimed.json", make_run())
    _save(tmp_path, "0003_mistimed.json", make_run(), datetime="yesterday")
    _save(tmp_path, "0003_never.json", make_run(), datetime="9999-12-31T23:59:59-23:59")
    (tmp_path / "0004_half.json").write_text('{"benchm', encoding="utf8")
    history = read_history(tmp_path)
    assert [run.name for _, run in history.runs] == ["0001_good.json"]
    assert [str(error).removeprefix(f"{tmp_path}/") for error in history.damaged] == [
        "0002_untimed.json has no datetime; wanted a file that pytest-benchmark saved",
        "0003_mistimed.json: datetime is 'yesterday'; wanted one like 2026-01-31T12:00:00+00:00",
        "0003_never.json: datetime is '9999-12-31T23:59:59-23:59'; wanted one like 2026-01-31T12:00:00+00:00",
        "0004_half.json is damaged: it is not JSON; delete it, or run the suite again",
    ]


def test_a_run_in_several_files_counts_once(tmp_path: Path) -> None:
    """Two runs of the same time are two."""
    content = make_file(make_run()) | {"datetime": "2026-03-01T12:00:00"}
    for name in ("0001_run", "0002_copy"):
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf8")
    other = make_file(make_run(profile="quick")) | {"datetime": "2026-03-01T13:00:00+01:00"}
    (tmp_path / "0003_other.json").write_text(json.dumps(other), encoding="utf8")
    assert [run.name for _, run in read_history(tmp_path).runs] == ["0001_run.json", "0003_other.json"]


def test_a_folder_that_is_not_there_has_no_history(tmp_path: Path) -> None:
    assert read_history(tmp_path / "nowhere") == History()


def test_a_file_of_pytest_benchmark_4_without_our_record() -> None:
    """Its shape: no zone, the CPU in machine_info, medians in seconds."""
    saved = parse_run(
        "0001_old.json",
        {
            "machine_info": {"cpu": {"brand_raw": "Old CPU", "count": 4}},
            "commit_info": {"id": "abc", "dirty": False},
            "benchmarks": [
                {"fullname": "test_sort", "extra_info": {}, "stats": {"median": 0.5, "data": [0.5]}}
            ],
            "datetime": "2023-01-01T00:00:00.000001",
            "version": "4.0.0",
        },
    )
    assert str(saved.kind) == "Old CPU | 4 cores | model unknown | corpus unknown"
    assert saved.time == datetime(2023, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    assert (saved.commit, saved.medians_s) == ("abc", {"test_sort": 0.5})


@pytest.mark.parametrize("median", ["NaN", "Infinity", "-1.0", "0", '"fast"', "1" * 400])
def test_a_median_that_is_not_a_time_is_left_out(tmp_path: Path, median: str) -> None:
    file = tmp_path / "run.json"
    file.write_text(
        f'{{"benchmarks": [{{"fullname": "a", "stats": {{"median": {median}}}}}]}}', encoding="utf8"
    )
    assert read_run(file).medians_s == {}


@pytest.mark.parametrize("machine", [None, {}, {"cpu": "text"}, {"cpu": {}}])
def test_a_file_that_does_not_say_its_cpu(machine: object) -> None:
    saved = parse_run("run", {"benchmarks": [], "machine_info": machine, "commit_info": None})
    assert saved.kind.hardware_class.startswith("unknown CPU")


def test_a_file_nested_too_deeply_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "0001_run.json"
    file.write_text("[" * 1_000_000, encoding="utf8")
    with pytest.raises(RecordError, match="is damaged: it is not JSON"):
        read_run(file)


def test_a_file_larger_than_any_run_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "0001_run.json"
    with file.open("wb") as opened:
        opened.truncate(300_000_000)
    with pytest.raises(RecordError, match="has more than 200,000,000 bytes; wanted a saved run"):
        read_run(file)


def _at(day: int, **changes: Any) -> SavedRun:
    content = make_file(make_run(**changes)) | {"datetime": f"2026-03-{day:02}T12:00:00+00:00"}
    return parse_run(f"{day}", content)


def _history(*runs: SavedRun) -> History:
    return History(runs=tuple((run.time, run) for run in runs if run.time))


def test_a_run_is_added_to_a_history_once_at_its_time() -> None:
    history = _history(_at(1), _at(3)).including(_at(2))
    assert [run.name for _, run in history.runs] == ["1", "2", "3"]
    assert history.including(_at(2)) == history


def test_runs_of_each_kind_are_a_history_of_their_own() -> None:
    other = {"hardware_class": "another CPU"}
    kinds = _history(_at(1), _at(2, **other), _at(3)).kinds
    assert [[run.name for run in runs] for runs in kinds.values()] == [["1", "3"], ["2"]]
