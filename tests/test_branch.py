"""The branch that holds the history: the first run makes it, and two pushes at once lose nothing."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from embedopt import branch
from embedopt.branch import append
from embedopt.errors import MeasureError, RecordError, UsageError
from embedopt.judge.history import read_history
from tests.measure.test_base import git
from tests.runs import make_file, make_run

_BRANCH = "benchmark-history"


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    folder = tmp_path / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(folder)], check=True)
    return folder


def _run(tmp_path: Path, day: int) -> Path:
    content = make_file(make_run()) | {"datetime": f"2026-03-{day:02}T12:00:00+00:00"}
    content["benchmarks"][0]["stats"] = {"median": 0.1, "data": [0.1] * 100}
    file = tmp_path / f"{day:04}_run.json"
    file.write_text(json.dumps(content), encoding="utf8")
    return file


def _log(remote: Path) -> list[str]:
    argv = ["git", "-C", str(remote), "log", "--format=%s", _BRANCH]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()


def test_the_first_run_makes_the_branch(remote: Path, tmp_path: Path) -> None:
    file = append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / "into")
    assert file.parent == tmp_path / "into"
    assert _log(remote) == [f"Add {file.name}"]


def test_later_runs_are_added_and_read_back_in_order(remote: Path, tmp_path: Path) -> None:
    for day in (2, 1, 3):
        append(_run(tmp_path, day), str(remote), _BRANCH, tmp_path / f"into{day}")
    runs = read_history(tmp_path / "into3").runs
    assert [time.day for time, _ in runs] == [1, 2, 3]


def test_raw_samples_stay_behind(remote: Path, tmp_path: Path) -> None:
    file = append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / "into")
    assert json.loads(file.read_text(encoding="utf8"))["benchmarks"][0]["stats"] == {"median": 0.1}


def test_the_same_run_is_appended_once(remote: Path, tmp_path: Path) -> None:
    for attempt in ("first", "second"):
        append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / attempt)
    assert len(_log(remote)) == 1


@pytest.mark.parametrize("there", [0, 1])
def test_a_race_of_two_pushes_loses_nothing(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: int
) -> None:
    """Another run comes first, between the fetch and the push: on a new branch, and on one that is there."""
    for day in range(1, there + 1):
        append(_run(tmp_path, day), str(remote), _BRANCH, tmp_path / f"before{day}")
    raced: list[Path] = []
    real = branch._git

    def git(folder: Path, *argv: str) -> Any:
        if argv[0] == "push" and not raced:
            raced.append(folder)
            append(_run(tmp_path, 8), str(remote), _BRANCH, tmp_path / "other")
        return real(folder, *argv)

    monkeypatch.setattr(branch, "_git", git)
    append(_run(tmp_path, 9), str(remote), _BRANCH, tmp_path / "into")
    assert [time.day for time, _ in read_history(tmp_path / "into").runs] == [*range(1, there + 1), 8, 9]
    assert len(_log(remote)) == there + 2


def test_a_push_that_is_refused_is_told(remote: Path, tmp_path: Path) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n", encoding="utf8")
    hook.chmod(0o755)
    with pytest.raises(MeasureError, match=r"\.json can't be pushed to benchmark-history: "):
        append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / "into")


def test_a_remote_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="git ls-remote failed: "):
        append(_run(tmp_path, 1), str(tmp_path / "none.git"), _BRANCH, tmp_path / "into")


def test_a_remote_is_known_by_the_name_that_it_has_here(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    git(clone, "init", "-q")
    git(clone, "remote", "add", "upstream", "../remote.git")
    monkeypatch.chdir(clone)
    append(_run(tmp_path, 1), "upstream", _BRANCH, Path("into"))
    assert len(_log(remote)) == 1


def test_a_folder_that_can_t_be_made_is_told(remote: Path, tmp_path: Path) -> None:
    file = _run(tmp_path, 1)
    with pytest.raises(UsageError, match="can't be made"):
        append(file, str(remote), _BRANCH, file / "into")


def test_a_folder_that_is_there_is_left_alone(remote: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is there already"):
        append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path)


@pytest.mark.parametrize("content", ["half-writ", "[" * 100_000, '{"benchmarks": []}'])
def test_what_is_no_run_is_not_appended(remote: Path, tmp_path: Path, content: str) -> None:
    file = tmp_path / "0001_run.json"
    file.write_text(content, encoding="utf8")
    with pytest.raises(RecordError):
        append(file, str(remote), _BRANCH, tmp_path / "into")
    assert not (tmp_path / "into").exists()
