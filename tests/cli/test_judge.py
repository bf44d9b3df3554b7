"""compare, history and gate: their output and exit codes, without any runtime."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedopt.cli.app import main
from embedopt.cli.judge import gate_settings
from embedopt.evidence import Cell, GateRun, NotComparable, PairedCell
from embedopt.inference.backends import declare
from embedopt.records import Accuracy, Part, Run
from tests.runs import make_file, make_run

Save = Callable[..., Path]
_BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "onnxruntime", "onnx", "transformers", "sentence_transformers", "tokenizers"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
"""
_NOISE = (1.0, 1.02, 0.99, 1.01, 0.98, 1.0, 1.01, 0.99, 1.02, 0.98)


@pytest.fixture
def save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Save:
    """Save a run of a day in the history, onnx-int8 ``factor`` times as slow as in the others."""
    monkeypatch.chdir(tmp_path)

    def save_run(day: int, factor: float = 1.0, run: Run | None = None, **changes: Any) -> Path:
        at = {"datetime": f"2026-03-{day:02}T12:00:00+00:00", "commit_info": {"id": "a" * 40}}
        content = make_file(run or make_run()) | at | changes
        for bench in content["benchmarks"]:
            if "[onnx-int8-" in bench["fullname"]:
                bench["extra_info"]["p50_ms"] *= factor
        folder = tmp_path / ".benchmarks" / "Linux"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{day:04}_run.json"
        file.write_text(json.dumps(content), encoding="utf8")
        return file

    return save_run


def _save_all(save: Save, factors: tuple[float, ...]) -> Path:
    return [save(day + 1, factor) for day, factor in enumerate(factors)][-1]


def _run_with_gate_run(change: float, **changes: Any) -> Run:
    ratios = tuple(change + offset for offset in (-0.004, 0.004, -0.002, 0.002, 0.001, -0.001))
    cell = PairedCell(cell=Cell(backend="onnx-int8", batch_size=32), log_ratios=ratios, fresh=ratios)
    values: dict[str, Any] = {"base": "main", "base_commit": "c" * 40, "cells": (cell,)}
    values |= {"pairs": 12, "seconds": 60.0, "budget_s": 480.0}
    return make_run(against=GateRun(**(values | changes)))


def _with_scores(**scores: Any) -> Run:
    accuracy = dict(make_run().accuracy) | {"onnx-int8": Accuracy(texts=805, **scores)}
    return make_run(accuracy=accuracy)


@pytest.mark.parametrize(
    ("head", "code", "line"),
    [
        ({}, 5, "inconclusive: no time could be decided: 5 inconclusive, "),
        ({"factor": 2.0}, 1, "slower or bigger: 4 regressed, 1 inconclusive, "),
        ({"factor": 1.2}, 5, "inconclusive: no time could be decided: 5 inconclusive, "),
        ({"run": _with_scores(cosine_mean=0.96)}, 3, "less accurate: 1 regressed, "),
        ({"run": make_run(profile="quick")}, 4, "not comparable: 1 not comparable"),
        ({"embedopt": {"schema": 9}}, 2, ""),
    ],
)
def test_two_saved_runs_are_compared(
    save: Save, capsys: pytest.CaptureFixture[str], head: dict[str, Any], code: int, line: str
) -> None:
    base, other = save(1), save(2, **head)
    assert main(["compare", str(base), str(other)]) == code
    assert capsys.readouterr().out.startswith(line)


def test_runs_that_share_nothing_are_inconclusive(save: Save, capsys: pytest.CaptureFixture[str]) -> None:
    empty = save(2, run=make_run(accuracy={}, footprint={}), benchmarks=[])
    assert main(["compare", str(save(1)), str(empty)]) == 5
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "inconclusive: no time could be decided: 4 inconclusive"
    words = " ".join(out)
    assert (
        "torch-fp32 scores and sizes: inconclusive, not in this run: cosine_mean, cosine_min, disk_bytes, "
        in words
    )
    assert "10 vanished: test_latency[onnx-fp32-1], " in words


def test_a_comparison_names_what_came_and_went(save: Save, capsys: pytest.CaptureFixture[str]) -> None:
    base, content = save(1), make_file(make_run())
    content["benchmarks"][-1]["fullname"] = "test_another"
    assert main(["compare", str(base), str(save(2, benchmarks=content["benchmarks"]))]) == 5
    assert capsys.readouterr().out.splitlines()[-1] == "1 renamed: test_other -> test_another"


@pytest.mark.parametrize(
    ("run", "code", "line"),
    [
        (_run_with_gate_run(0.0), 0, "pass: 1 equivalent"),
        (_run_with_gate_run(0.1), 1, "slower or bigger: 1 regressed"),
        (_run_with_gate_run(0.1, threshold=0.2), 0, "pass: 1 equivalent"),
        (
            _run_with_gate_run(
                0.0, not_comparable=(NotComparable(backend="onnx-fp32", why="the base has none"),)
            ),
            4,
            "not comparable: 1 not comparable, 1 equivalent",
        ),
    ],
)
def test_the_gate_judges_the_base_that_was_measured_beside_a_run(
    save: Save, capsys: pytest.CaptureFixture[str], run: Run, code: int, line: str
) -> None:
    save(1, run=run)
    assert main(["gate"]) == code
    assert capsys.readouterr().out.splitlines()[0] == line


def test_the_gate_takes_its_settings_from_a_folder_around_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.embedopt.gate]\nthreshold = 0.2\n", encoding="utf8")
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    assert gate_settings().threshold == 0.2


def test_the_rules_of_the_gate_may_name_a_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rules = "[tool.embedopt.gate]\nbackends = { shop = 0.2 }\n"
    target = '[tool.embedopt.targets.shop]\ncall = "shop:embed"\n'
    (tmp_path / "pyproject.toml").write_text(target + rules, encoding="utf8")
    settings = gate_settings()
    declare(())
    assert settings.threshold_of("shop", "latency") == 0.2


def test_the_gate_takes_thresholds_from_pyproject(save: Save, tmp_path: Path) -> None:
    save(1, run=_run_with_gate_run(0.1))
    (tmp_path / "pyproject.toml").write_text("[tool.embedopt.gate]\nthreshold = 0.2\n", encoding="utf8")
    assert main(["gate"]) == 0
    (tmp_path / "pyproject.toml").write_text("[tool.embedopt.gate]\ntreshold = 0.2\n", encoding="utf8")
    assert main(["gate"]) == 2


@pytest.mark.parametrize(("last", "code"), [(1.01, 0), (1.3, 1), (0.7, 0)])
def test_the_gate_judges_a_run_by_its_own_history(save: Save, last: float, code: int) -> None:
    _save_all(save, (*_NOISE, last))
    assert main(["gate"]) == code


def test_a_history_compares_scores_with_the_run_before(save: Save) -> None:
    save(1)
    save(2, run=_with_scores(cosine_mean=0.96))
    assert main(["gate"]) == 3


def test_scores_are_compared_with_the_last_run_that_has_them(
    save: Save, capsys: pytest.CaptureFixture[str]
) -> None:
    save(1)
    save(2, run=make_run(accuracy={}))
    assert main(["gate"]) == 5
    out = " ".join(capsys.readouterr().out.split())
    assert "onnx-int8 scores and sizes: inconclusive, not in this run: batch_invariance_min, " in out
    save(3, run=_with_scores(cosine_mean=0.5))
    assert main(["gate"]) == 3


def _turns_alone(**changes: Any) -> dict[str, Any]:
    """The content of a run of which only the turns were asked for."""
    nothing: dict[str, Any] = {"accuracy": {}, "throughput": {}, "footprint": {}}
    return {"run": make_run(**(nothing | {"part": Part()} | changes)), "benchmarks": []}


def test_what_a_part_of_a_run_left_out_is_judged_by_the_newest_run_that_answers_it(
    save: Save, capsys: pytest.CaptureFixture[str]
) -> None:
    _save_all(save, (*_NOISE, 1.01))
    save(12, **_turns_alone())
    assert main(["gate"]) == 0
    out = capsys.readouterr().out
    assert "vanished" not in out
    assert "onnx-int8 batch 32 time" in out
    assert "older, from 0011_run.json: accuracy of onnx-int8, torch-fp32; footprint of" in out
    save(11, 1.3)
    assert main(["gate"]) == 1


def test_older_answers_do_not_show_that_another_commit_passes(save: Save) -> None:
    _save_all(save, (*_NOISE, 1.01))
    save(12, **_turns_alone(), commit_info={"id": "b" * 40})
    assert main(["gate"]) == 5
    save(11, 1.3)
    assert main(["gate"]) == 1  # but what was worse still is


@pytest.mark.parametrize(
    "commit_info",
    [{"id": "a" * 40, "dirty": True}, {"id": "unversioned"}, {"id": "unknown"}, {"id": ""}, None],
)
def test_older_answers_do_not_show_that_unknown_code_passes(
    save: Save, commit_info: dict[str, Any] | None
) -> None:
    """Files may have changed since the commit, and without git nothing says which code was measured."""
    _save_all(save, (*_NOISE, 1.01))
    save(11, commit_info=commit_info)
    save(12, **_turns_alone(), commit_info=commit_info)
    assert main(["gate"]) == 5


def test_a_named_part_of_a_run_is_judged_alone(save: Save, capsys: pytest.CaptureFixture[str]) -> None:
    save(1)
    part = save(2, **_turns_alone())
    assert main(["gate", str(part)]) == 5
    assert "vanished" not in capsys.readouterr().out


def test_what_failed_in_a_part_of_a_run_is_missing(save: Save, capsys: pytest.CaptureFixture[str]) -> None:
    save(1)
    save(2)
    failed = Part(failed={"accuracy": ("onnx-int8",)})
    save(3, **_turns_alone(part=failed))
    assert main(["gate"]) == 5
    assert "onnx-int8 scores and sizes: inconclusive, not in this run: batch_invariance_min, " in " ".join(
        capsys.readouterr().out.split()
    )


def test_scores_are_not_compared_across_profiles(save: Save) -> None:
    """Profiles measure batch invariance on different texts."""
    save(1)
    save(2, run=_with_scores(batch_invariance_min=0.98))
    assert main(["gate"]) == 3
    quick = dataclasses.replace(_with_scores(batch_invariance_min=0.98), profile="quick")
    save(2, run=quick)
    assert main(["gate"]) == 5


def test_a_short_history_says_how_many_runs_are_missing(
    save: Save, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though scores and sizes are equivalent: they say nothing of a time three times as long."""
    _save_all(save, (1.0, 1.0, 3.0))
    assert main(["gate"]) == 5
    out = capsys.readouterr().out
    assert out.startswith("inconclusive: no time could be decided: 5 inconclusive, ")
    assert "onnx-int8 batch 64 time: inconclusive, 3 of 5 earlier runs are missing" in " ".join(out.split())


_LOST = "inconclusive: figures are missing that the runs before have: "


def test_a_benchmark_that_vanished_is_named_and_does_not_pass(
    save: Save, capsys: pytest.CaptureFixture[str]
) -> None:
    _save_all(save, _NOISE)
    kept = [bench for bench in make_file(make_run())["benchmarks"] if "[onnx-int8-32]" not in str(bench)]
    save(11, benchmarks=kept)
    assert main(["gate"]) == 5
    out = capsys.readouterr().out
    assert out.startswith(_LOST)
    assert "onnx-int8 time: inconclusive, not in this run, or not above 0: batch 32" in out
    codes = []
    for day in range(12, 17):
        save(day, benchmarks=kept)
        codes.append(main(["gate"]))
    assert codes == [5, 5, 5, 5, 0]  # running again is no answer, until the last five runs lack it too


@pytest.mark.parametrize("time_ms", [0.0, -2.0])
@pytest.mark.parametrize("name", ["onnx-int8", "torch-fp32"])
def test_a_time_that_is_none_does_not_pass(
    save: Save, capsys: pytest.CaptureFixture[str], name: str, time_ms: float
) -> None:
    """Nor a time over such a time of the reference."""
    _save_all(save, _NOISE)
    benchmarks = make_file(make_run())["benchmarks"]
    [bench] = [bench for bench in benchmarks if bench["fullname"] == f"test_latency[{name}-8]"]
    bench["extra_info"]["p50_ms"] = time_ms
    save(11, benchmarks=benchmarks)
    assert main(["gate"]) == 5
    out = capsys.readouterr().out
    assert out.startswith(_LOST)
    assert "onnx-int8 time: inconclusive, not in this run, or not above 0: batch 8" in out


def test_a_first_run_is_inconclusive(save: Save) -> None:
    save(1)
    assert main(["gate"]) == 5


def test_a_damaged_file_is_named_and_the_exit_code_says_so(
    save: Save, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = save(1)
    _save_all(save, (1.0, *_NOISE))
    damaged.write_text("half-writ", encoding="utf8")
    for command in (["gate"], ["history"]):
        assert main(command) == 4
        assert "0001_run.json is damaged: it is not JSON" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["gate", "history"])
def test_a_history_of_damaged_files_alone_names_them(
    save: Save, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    save(1).write_text("half-writ", encoding="utf8")
    assert main([command]) == 4
    assert capsys.readouterr().out.startswith("passed over: .benchmarks/Linux/0001_run.json is damaged")


def test_a_regression_outweighs_a_damaged_file(save: Save) -> None:
    damaged = save(1)
    _save_all(save, (1.0, *_NOISE, 1.3))
    damaged.write_text("half-writ", encoding="utf8")
    assert main(["gate"]) == 1


def test_a_history_shows_lasting_changes(save: Save, capsys: pytest.CaptureFixture[str]) -> None:
    _save_all(save, (*_NOISE, *(1.5 * factor for factor in _NOISE)))
    assert main(["history"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("onnx-int8 batch 32")]
    assert line.split() == ["onnx-int8", "batch", "32", "20", "1", "1.47", "+50.0%", "at", "0011_run.json"]


def test_a_history_of_another_metric(save: Save, capsys: pytest.CaptureFixture[str]) -> None:
    _save_all(save, _NOISE)
    assert main(["history", "--metric", "cosine_mean"]) == 0
    assert "cosine_mean (higher is better)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["history"], 5, ".benchmarks has no run with p50_ms that can be read"),
        (["history", "--metric", "p50"], 2, "unknown metric 'p50'"),
        (["gate"], 5, ".benchmarks has no run that can be read: run pytest benchmarks/ first"),
        (["report"], 2, ".benchmarks has no saved run that can be read: run pytest benchmarks/ first"),
        (["compare", "a.json", "b.json"], 2, "a.json: no such file or directory"),
    ],
)
def test_without_a_run_the_message_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == code
    printed = "".join(capsys.readouterr())
    assert message in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize("command", ["compare", "history", "gate"])
def test_the_help_lists_the_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert (
        "Exit codes: 0 pass, 1 slower or bigger, 2 usage, 3 less accurate, 4 not comparable, "
        "5 inconclusive: no time could be decided" in words
    )


@pytest.mark.parametrize("command", ["compare", "history", "gate"])
def test_a_verdict_can_be_had_without_a_runtime(save: Save, tmp_path: Path, command: str) -> None:
    _save_all(save, (*_NOISE, 1.01))
    files = [str(save(day)) for day in (1, 2)] if command == "compare" else []
    code = f"{_BLOCKER}\nfrom embedopt.cli.app import main\nsys.exit(main({[command, *files]!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (5 if command == "compare" else 0, "")
