"""The branch that holds the history: the first run makes it, and a race of two pushes loses none."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from embedopt.ci import history_branch
from embedopt.ci.history_branch import append
from embedopt.errors import GitError, RecordError, UsageError
from embedopt.git import Finished
from embedopt.git import git as run_git
from embedopt.judge.history.saved_runs import read_history
from tests.repositories import git
from tests.runs import make_file, make_run

_BRANCH = "benchmark-history"


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet", "--bare", "remote.git")
    return tmp_path / "remote.git"


def _run(tmp_path: Path, day: int) -> Path:
    content = make_file(make_run()) | {"datetime": f"2026-03-{day:02}T12:00:00+00:00"}
    content["benchmarks"][0]["stats"] = {"median": 0.1, "data": [0.1] * 100}
    file = tmp_path / f"{day:04}_run.json"
    file.write_text(json.dumps(content), encoding="utf8")
    return file


def _log(remote: Path) -> list[str]:
    return git(remote, "log", "--format=%s", _BRANCH).splitlines()


def test_the_first_run_makes_the_branch(remote: Path, tmp_path: Path) -> None:
    file = append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / "into")
    assert file.parent == tmp_path / "into"
    assert _log(remote) == [f"Add {file.name}"]


def test_later_runs_are_added_and_read_back_in_order(remote: Path, tmp_path: Path) -> None:
    for day in (2, 1, 3):
        append(_run(tmp_path, day), str(remote), _BRANCH, tmp_path / f"into{day}")
    runs = read_history(tmp_path / "into3").runs
    assert [time.day for time, _ in runs] == [1, 2, 3]


def test_raw_samples_are_left_out(remote: Path, tmp_path: Path) -> None:
    file = append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / "into")
    assert json.loads(file.read_text(encoding="utf8"))["benchmarks"][0]["stats"] == {"median": 0.1}


def test_the_same_run_is_appended_once(remote: Path, tmp_path: Path) -> None:
    for attempt in ("first", "second"):
        append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / attempt)
    assert len(_log(remote)) == 1


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_race_of_two_pushes_loses_nothing(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: int
) -> None:
    """Another run is pushed between the fetch and the push: on a new branch, and on one that exists."""
    for day in range(1, earlier + 1):
        append(_run(tmp_path, day), str(remote), _BRANCH, tmp_path / f"before{day}")
    raced: list[Path] = []

    def push_late(folder: Path, *arguments: str, settings: Mapping[str, str]) -> Finished:
        if arguments[0] == "push" and not raced:
            raced.append(folder)
            append(_run(tmp_path, 8), str(remote), _BRANCH, tmp_path / "other")
        return run_git(folder, *arguments, settings=settings)

    monkeypatch.setattr(history_branch, "git", push_late)
    append(_run(tmp_path, 9), str(remote), _BRANCH, tmp_path / "into")
    assert [time.day for time, _ in read_history(tmp_path / "into").runs] == [*range(1, earlier + 1), 8, 9]
    assert len(_log(remote)) == earlier + 2


def _hook(remote: Path, command: str) -> Path:
    hook = remote / "hooks" / "pre-receive"
    hook.write_text(f"#!/bin/sh\n{command}\n", encoding="utf8")
    hook.chmod(0o755)
    return hook


def test_a_push_that_is_refused_is_an_error_and_can_be_tried_again(remote: Path, tmp_path: Path) -> None:
    hook = _hook(remote, "exit 1")
    with pytest.raises(GitError, match=r"\.json can't be pushed to benchmark-history: "):
        append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / "into")
    assert not (tmp_path / "into").exists()
    hook.unlink()
    append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / "into")
    assert len(_log(remote)) == 1


def test_a_hook_may_print_in_another_encoding(remote: Path, tmp_path: Path) -> None:
    _hook(remote, r"printf 'caf\351\n' >&2; exit 1")
    with pytest.raises(GitError, match="can't be pushed to benchmark-history: "):
        append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / "into")


def test_a_user_who_signs_commits_needs_no_key_here(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text("[commit]\ngpgsign = true\n[gpg]\nprogram = false\n", encoding="utf8")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / "into")
    assert len(_log(remote)) == 1


def test_an_error_names_the_git_command_that_failed(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user has hooks of his own, one of which refuses each commit."""
    hooks = _hook(remote, "exit 1").parent
    (hooks / "pre-receive").rename(hooks / "pre-commit")
    for name, value in {"COUNT": "1", "KEY_0": "core.hooksPath", "VALUE_0": str(hooks)}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    with pytest.raises(GitError, match="git commit failed: "):
        append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path / "into")


def test_the_variables_of_an_outer_git_process_have_no_effect(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a git hook that appends a run."""
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


def test_variables_that_say_how_a_remote_is_reached_are_passed_on(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script takes the place of ssh: it runs on this machine what ssh would run on the remote."""
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nshift $(($# - 1))\nexec sh -c "$1"\n', encoding="utf8")
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH", str(ssh))
    append(_run(tmp_path, 1), f"somewhere:{remote}", _BRANCH, tmp_path / "into")
    assert len(_log(remote)) == 1


def test_a_remote_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GitError, match="git ls-remote failed: "):
        append(_run(tmp_path, 1), str(tmp_path / "none.git"), _BRANCH, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_a_remote_can_be_named_as_in_the_current_repository(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    git(clone, "init", "-q")
    git(clone, "remote", "add", "upstream", "../remote.git")
    monkeypatch.chdir(clone)
    append(_run(tmp_path, 1), "upstream", _BRANCH, Path("into"))
    assert len(_log(remote)) == 1


def test_a_folder_that_can_t_be_made_is_an_error(remote: Path, tmp_path: Path) -> None:
    file = _run(tmp_path, 1)
    with pytest.raises(UsageError, match="can't be made"):
        append(file, str(remote), _BRANCH, file / "into")


def test_a_folder_that_exists_is_left_alone(remote: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists; wanted a folder that append can make"):
        append(_run(tmp_path, 1), str(remote), _BRANCH, tmp_path)


@pytest.mark.parametrize("content", ["half-writ", "[" * 100_000, '{"benchmarks": []}'])
def test_a_file_that_is_no_run_is_not_appended(remote: Path, tmp_path: Path, content: str) -> None:
    file = tmp_path / "0001_run.json"
    file.write_text(content, encoding="utf8")
    with pytest.raises(RecordError):
        append(file, str(remote), _BRANCH, tmp_path / "into")
    assert not (tmp_path / "into").exists()
