"""The branch that holds the history: the first run makes it, and two pushes at once lose nothing."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from embedopt.ci import history_branch as branch
from embedopt.ci.history_branch import append
from embedopt.errors import MeasureError, RecordError, UsageError
from embedopt.judge.history.saved_runs import read_history
from tests.measure.pairs.test_worktree import git
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


def _hook(remote: Path, command: str) -> Path:
    hook = remote / "hooks" / "pre-receive"
    hook.write_text(f"#!/bin/sh\n{command}\n", encoding="utf8")
    hook.chmod(0o755)
    return hook


def test_a_push_that_is_refused_is_told_and_can_be_tried_again(remote: Path, tmp_path: Path) -> None:
    hook = _hook(remote, "exit 1")
    with pytest.raises(MeasureError, match=r"\.json can't be pushed to benchmark-history: "):
        append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / "into")
    assert not (tmp_path / "into").exists()
    hook.unlink()
    append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / "into")
    assert len(_log(remote)) == 1


def test_what_a_hook_says_in_another_encoding_is_no_error(remote: Path, tmp_path: Path) -> None:
    _hook(remote, r"printf 'caf\351\n' >&2; exit 1")
    with pytest.raises(MeasureError, match="can't be pushed to benchmark-history: "):
        append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / "into")


def test_a_user_who_signs_commits_needs_no_key_here(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text("[commit]\ngpgsign = true\n[gpg]\nprogram = false\n", encoding="utf8")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / "into")
    assert len(_log(remote)) == 1


def test_an_error_names_the_command_of_git(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hooks of the user's own: here, one that refuses each commit."""
    hooks = _hook(remote, "exit 1").parent
    (hooks / "pre-receive").rename(hooks / "pre-commit")
    for name, value in {"COUNT": "1", "KEY_0": "core.hooksPath", "VALUE_0": str(hooks)}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    with pytest.raises(MeasureError, match="git commit failed: "):
        append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / "into")


def test_nothing_of_an_outer_repository_reaches_in(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a hook of one."""
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "-q")
    for name, value in {
        "GIT_DIR": outer / ".git",
        "GIT_WORK_TREE": outer,
        "GIT_INDEX_FILE": outer / "index",
        "GIT_COMMON_DIR": outer / ".git",
        "GIT_OBJECT_DIRECTORY": outer / ".git" / "objects",
        "GIT_QUARANTINE_PATH": outer,
        "GIT_NAMESPACE": "outer",
        "GIT_PREFIX": "outer/",
        "GIT_CONFIG_PARAMETERS": "'user.name'='outer' 'core.bare'='true'",
        "GIT_AUTHOR_NAME": "outer",
        "GIT_COMMITTER_NAME": "outer",
    }.items():
        monkeypatch.setenv(name, str(value))
    append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / "into")
    monkeypatch.undo()
    assert git(remote, "log", "--format=%an %cn", _BRANCH) == "embedopt embedopt"
    assert sorted(file.name for file in outer.iterdir()) == [".git"]


def test_how_a_remote_is_reached_is_kept(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program in place of ssh, which runs what ssh would have run there."""
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nshift $(($# - 1))\nexec sh -c "$1"\n', encoding="utf8")
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH", str(ssh))
    append(_run(tmp_path, 1), f"somewhere:{remote}", _BRANCH, tmp_path / "into")
    assert len(_log(remote)) == 1


def test_a_remote_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="git ls-remote failed: "):
        append(_run(tmp_path, 1), str(tmp_path / "none.git"), _BRANCH, tmp_path / "into")
    assert not (tmp_path / "into").exists()


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
