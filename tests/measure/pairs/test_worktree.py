"""Worktrees of a small repository: made, described, and removed at the end."""

import os
import signal
from pathlib import Path

import pytest
from filelock import FileLock

from embedopt.errors import GitError, UsageError
from embedopt.measure.pairs.worktree import checked_out, describe_head, resolve
from embedopt.signals import ended_by_signals
from tests.repositories import git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "file.txt").write_text("one", encoding="utf8")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    git(folder, "branch", "old")
    (folder / "file.txt").write_text("two", encoding="utf8")
    git(folder, "commit", "-qam", "two")
    return folder


def _left(repository: Path, cache: Path) -> tuple[int, list[Path]]:
    """Return how many worktrees git lists beside the first, and what is left in the cache."""
    return git(repository, "worktree", "list").count("\n"), list((cache / "worktrees").iterdir())


def test_a_branch_is_its_commit(repository: Path) -> None:
    assert resolve(repository, "old") == git(repository, "rev-parse", "main~1")
    assert resolve(repository, "main~1") == resolve(repository, "old")


@pytest.mark.parametrize("ref", ["nowhere", "--help", "", "main:file.txt"])
def test_a_base_that_does_not_exist_is_an_error_of_one_line(repository: Path, ref: str) -> None:
    with pytest.raises(UsageError, match=r"has no such commit, branch or tag; wanted one that git log shows"):
        resolve(repository, ref)


def test_a_folder_without_a_repository_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError,
        match=r"can't use .* \(fatal: not a git repository .*\); wanted a clone of the project: run",
    ):
        resolve(tmp_path, "main")


def test_a_folder_inside_a_repository_is_checked_out_at_its_own_place(
    repository: Path, tmp_path: Path
) -> None:
    inside = repository / "libs" / "suite"
    inside.mkdir(parents=True)
    (inside / "file.txt").write_text("inside", encoding="utf8")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "three")
    with checked_out(inside, resolve(inside, "main"), tmp_path / "cache") as folder:
        assert (folder / "file.txt").read_text(encoding="utf8") == "inside"
    with checked_out(inside, resolve(inside, "old"), tmp_path / "cache") as folder:
        assert not folder.exists()
    assert _left(repository, tmp_path / "cache") == (0, [])


def test_no_hook_of_the_repository_runs(repository: Path, tmp_path: Path) -> None:
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n", encoding="utf8")
    hook.chmod(0o755)
    with checked_out(repository, resolve(repository, "main"), tmp_path / "cache"):
        pass
    assert not (tmp_path / "ran").exists()


def test_the_description_of_a_dirty_head_says_so(repository: Path) -> None:
    commit = resolve(repository, "main")
    assert describe_head(repository) == commit
    (repository / "new.py").touch()
    assert describe_head(repository) == f"{commit} + changes"


def test_each_run_gets_a_worktree_of_its_own_and_a_dirty_head_is_left_alone(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "file.txt").write_text("three", encoding="utf8")
    commit = resolve(repository, "old")
    with (
        checked_out(repository, commit, tmp_path / "cache") as one,
        checked_out(repository, commit, tmp_path / "cache") as other,
    ):
        assert one != other
        assert (one / "file.txt").read_text(encoding="utf8") == "one"
        assert (other / "file.txt").read_text(encoding="utf8") == "one"
    assert _left(repository, tmp_path / "cache") == (0, [])
    assert (repository / "file.txt").read_text(encoding="utf8") == "three"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_base_is_checked_out_leaves_no_worktree(
    repository: Path, tmp_path: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    with (
        pytest.raises(KeyboardInterrupt),
        ended_by_signals(),
        checked_out(repository, resolve(repository, "old"), tmp_path / "cache"),
    ):
        os.kill(os.getpid(), number)
    assert _left(repository, tmp_path / "cache") == (0, [])
    assert signal.getsignal(number) is before


def test_a_worktree_that_a_killed_run_left_is_removed_by_the_next_run(
    repository: Path, tmp_path: Path
) -> None:
    stale, used = tmp_path / "cache" / "worktrees" / "stale", tmp_path / "cache" / "worktrees" / "used"
    commit = resolve(repository, "old")
    for folder in (stale, used):
        git(repository, "worktree", "add", "-q", "--detach", str(folder), commit)
        folder.with_suffix(".lock").touch()
    with (
        FileLock(used.with_suffix(".lock")),
        checked_out(repository, commit, tmp_path / "cache"),
    ):
        assert not stale.exists()
        assert used.exists()


def test_a_commit_that_git_cant_check_out_is_an_error_of_one_line(repository: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(GitError, match=r"git can't check 000000000000 out into .*: fatal: "),
        checked_out(repository, "0" * 40, tmp_path / "cache"),
    ):
        pass
    assert _left(repository, tmp_path / "cache") == (0, [])
