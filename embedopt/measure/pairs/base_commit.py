"""What git shows of the base before it is checked out: the folder of its suite, and its pytest options.

Those of the head are read from its files in the same way.
"""

import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import cast

from embedopt.errors import GitError, UsageError, first_line, last_line
from embedopt.git import git

# In the order in which pytest looks for its configuration.
_CONFIGURATION = (
    *("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg"),
)
# A suite is a folder with benchmarks/ that one of these files adopts by naming embedopt.
_ADOPTING = (":(top)*conftest.py", ":(top)*pyproject.toml", ":(top)*pytest.ini")
_GIVEN_ADDOPTS = re.compile(r"(?:-o|--override-ini=)?addopts=(.*)", re.DOTALL)


def suite_folder(head: Path, commit: str) -> PurePosixPath | None:
    """Return the folder of the base's suite below the top of its worktree; None where it has none.

    It is head's own folder. Where the base has no suite there, the change has moved the suite: it is the one
    suite of the base that head no longer has.

    Raises:
        UsageError: the change removes several suites, and nothing says which one head's was.
        GitError: git can't read the commit.
    """
    own = _below_top(head)
    suites = _suites(head, commit)
    if own in suites:
        return own
    top = _top(head)
    gone = sorted(suite for suite in suites if not (top / suite / "benchmarks").is_dir())
    if len(gone) > 1:
        raise UsageError(
            f"--against {commit[:12]}: the base has suites in {', '.join(map(str, gone))}, which are gone, "
            f"and none in {own}; wanted one that moved: move each in a change of its own"
        )
    return gone[0] if gone else None


def addopts(head: Path, commit: str | None = None, suite: PurePosixPath | None = None) -> list[str]:
    """Return ``addopts`` of the configuration that pytest reads at a commit to run a suite.

    Without a commit, they are those of the files in the folder ``head`` and of the suite in it.

    Raises:
        UsageError: pytest can't read it.
        GitError: git can't read the commit.
    """
    read = _reader(head, commit)
    suite = _below_top(head) if suite is None else suite
    for place in (suite / "benchmarks", suite, *suite.parents):
        for name in _CONFIGURATION:
            content = read(place / name)
            words = None if content is None else _addopts_in(name, content)
            if words is not None:
                return words
    return []


def _reader(head: Path, commit: str | None) -> Callable[[PurePosixPath], str | None]:
    """Return a function that reads a file by its path below the top of the worktree; None for no file."""
    if commit is None:
        top = _top(head)
        return lambda path: (top / path).read_text(encoding="utf8") if (top / path).is_file() else None
    files = _listed(head, commit, "-r")
    return lambda path: _git(head, "show", f"{commit}:{path}") if str(path) in files else None


def given_addopts(words: Sequence[str]) -> list[str] | None:
    """Return what ``-o addopts=...`` puts in place of the configuration; None without it."""
    values = [match[1] for word in words if (match := _GIVEN_ADDOPTS.fullmatch(word))]
    return shlex.split(values[-1]) if values else None


def _addopts_in(name: str, content: str) -> list[str] | None:
    """Return ``addopts`` of a file; None where it holds no configuration of pytest."""
    import pytest
    from _pytest.config.findpaths import load_config_dict_from_file  # no public way reads a file of a commit

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, name)
        file.write_text(content, encoding="utf8")
        try:
            values = load_config_dict_from_file(file)
        except pytest.UsageError as error:
            raise UsageError(
                f"the base's {name} can't be read by pytest ({first_line(error)}): choose another base"
            ) from None
    if values is None:
        return None
    value = values["addopts"].value if "addopts" in values else ()
    return shlex.split(value) if isinstance(value, str) else [*map(str, cast("Sequence[object]", value))]


def _suites(head: Path, commit: str) -> set[PurePosixPath]:
    folders = _listed(head, commit, "-rd")
    return {folder for folder in _adopting(head, commit) if str(folder / "benchmarks") in folders}


def _adopting(head: Path, commit: str) -> Iterator[PurePosixPath]:
    """Yield the folder of each file that names embedopt; of one in ``benchmarks``, the folder above."""
    named = git(head, "grep", "-lzF", "--full-name", "embedopt", commit, "--", *_ADOPTING)
    if named.returncode > 1:  # 1: no file does
        raise GitError(f"git can't search {commit[:12]}: {last_line(named.stderr)}")
    for name in filter(None, named.stdout.split("\0")):
        folder = PurePosixPath(name.removeprefix(f"{commit}:")).parent
        yield folder.parent if folder.name == "benchmarks" else folder


def _listed(head: Path, commit: str, option: str) -> set[str]:
    # With -z, git does not quote a path that is not ASCII.
    return {*_git(head, "ls-tree", option, "-z", "--full-tree", "--name-only", commit).split("\0")}


def _top(head: Path) -> Path:
    return Path(_git(head, "rev-parse", "--show-toplevel").rstrip("\n"))


def _below_top(head: Path) -> PurePosixPath:
    return PurePosixPath(_git(head, "rev-parse", "--show-prefix").rstrip("\n"))


def _git(head: Path, *arguments: str) -> str:
    result = git(head, *arguments)
    if result.returncode:
        raise GitError(f"git can't run {' '.join(arguments[:2])} in {head}: {last_line(result.stderr)}")
    return result.stdout
