"""Calls of git. That an outer git process has no effect on them is tested with the history branch."""

from pathlib import Path

import pytest

from embedopt.errors import GitError, last_line
from embedopt.git import git


def test_settings_apply_to_one_call(tmp_path: Path) -> None:
    git(tmp_path, "init")
    configured = git(tmp_path, "config", "user.name", settings={"user.name": "somebody"})
    assert configured.stdout == "somebody\n"


def test_a_command_that_fails_has_a_last_error_line(tmp_path: Path) -> None:
    failed = git(tmp_path, "rev-parse", "HEAD")
    assert failed.returncode == 128
    assert last_line(failed.stderr).startswith("fatal: not a git repository")


def test_a_machine_without_git_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match=r"^git is not on the PATH; wanted it .*: install it$"):
        git(tmp_path, "status")


def test_a_git_that_cant_be_run_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_text("no program", encoding="utf8")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match=r"^git can't be run \(exec format error\); wanted the git program"):
        git(tmp_path, "status")


def test_the_reason_of_git_stands_before_its_advice() -> None:
    printed = "warning: slow\nfatal: no such repository\n\nPlease check the address\nand that it exists.\n"
    assert last_line(printed) == "fatal: no such repository"
    assert last_line("hook: no\n! [rejected]\n") == "! [rejected]"
