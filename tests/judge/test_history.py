"""Saved files are read in one way, and a bad one is one line."""

import dataclasses
import json
from pathlib import Path

import pytest

from embedopt.errors import RecordError
from embedopt.judge.history import differences, parse_run, read_run
from embedopt.records import CorpusInfo, Model
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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"benchmarks": [', "is damaged: it is not JSON; delete it, or run the suite again"),
        ("", "is damaged: it is not JSON"),
        ("[]", "no list of benchmarks in it; wanted a file that pytest-benchmark saved"),
        ('{"benchmarks": {}}', "no list of benchmarks in it"),
        ('{"benchmarks": [], "embedopt": {"schema": 9}}', "record has schema 9, wanted 1"),
        ('{"benchmarks": [5]}', "a benchmark in it is no object"),
        (
            '{"benchmarks": [{"extra_info": {"backend": "a", "batch_size": 1, "p50_ms": 1}}]}',
            "Latency record: calls: field required",
        ),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "run.json"
    file.write_text(content, encoding="utf8")
    with pytest.raises(RecordError) as caught:
        read_run(file)
    assert str(caught.value).startswith(str(file))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"), [("nowhere.json", "no such file or directory"), (".", "is a directory")]
)
def test_a_missing_file_is_one_line(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(RecordError, match=f"{said}; wanted a saved run"):
        read_run(tmp_path / name)


def test_runs_of_one_kind_can_be_compared() -> None:
    """Names are what a user called things: the digests decide."""
    assert differences(make_run(), make_run(model=Model(name="the same", digest="a" * 64))) == ()


def test_what_differs_is_said() -> None:
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
