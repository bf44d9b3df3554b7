"""The other side of ``--against REF``: a commit of this repository, checked out while it is measured."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import tomllib
import uuid
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from embedopt.errors import MeasureError, UsageError

_WORKER_FILE = Path("embedopt", "measure", "worker.py")


def resolve(repository: Path, ref: str) -> str:
    """Return the full hash of the commit that a commit, branch or tag names.

    Raises:
        UsageError: there is no such thing, or no repository; the message says which.
    """
    if _git(repository, "rev-parse", "--git-dir").returncode:
        raise UsageError(f"--against {ref}: {repository} is no git repository; wanted a clone of the project")
    found = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if found.returncode:
        raise UsageError(
            f"--against {ref}: {repository} has no such commit, branch or tag; wanted one that "
            "git log shows: fetch it first, a shallow clone holds its last commit only"
        )
    return found.stdout.strip()


def describe_head(repository: Path) -> str:
    """Return the commit of a worktree, followed by ``+ changes`` where files differ from it."""
    changed = _git(repository, "status", "--porcelain").stdout.strip()
    return resolve(repository, "HEAD") + (" + changes" if changed else "")


@contextlib.contextmanager
def checked_out(repository: Path, commit: str, cache_dir: Path) -> Iterator[Path]:
    """Yield a worktree of ``commit`` under ``cache_dir``, gone at the end, whatever happens.

    Each run has one of its own. What a killed run left behind is removed by the next.

    Raises:
        MeasureError: git can't make it; the message has its words.
    """
    parent = cache_dir.expanduser().absolute() / "worktrees"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(repository, parent)
    except OSError as error:
        raise MeasureError(
            f"{parent} can't be written ({(error.strerror or str(error)).lower()}): "
            "give another cache with --cache-dir or EMBEDOPT_CACHE"
        ) from error
    folder = parent / f"{commit[:12]}-{uuid.uuid4().hex[:8]}"
    with FileLock(_lock_of(folder)):
        try:
            added = _git(repository, "worktree", "add", "--detach", "--force", str(folder), commit)
            if added.returncode:
                said = (added.stderr.strip().splitlines() or ["no message"])[-1]
                raise MeasureError(f"git can't check {commit[:12]} out into {folder}: {said}")
            yield folder
        finally:
            _remove(repository, folder)
            _lock_of(folder).unlink(missing_ok=True)


def why_not_comparable(head: Path, base: Path, *, own_python: bool) -> str | None:
    """Say why the code in two folders can't be compared; None where it can.

    Args:
        head: folder of one.
        base: folder of the other.
        own_python: whether the base runs in an environment of its own.
    """
    if not (base / _WORKER_FILE).is_file():
        return f"the base has no {_WORKER_FILE}: choose a newer commit"
    if own_python:
        return None
    ours, theirs = pins(head), pins(base)
    differing = [
        f"{name} {theirs.get(name, 'unpinned')} (here {ours.get(name, 'unpinned')})"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    if not differing:
        return None
    return (
        f"the base has other dependencies, {', '.join(differing)}: "
        "name the interpreter of its own environment with --against-python"
    )


def pins(root: Path) -> dict[str, str]:
    """Return the exactly pinned dependencies of the project in a folder, those of its extras too, by name."""
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise MeasureError(
            f"{root / 'pyproject.toml'} can't be read ({error}); wanted the project's pins"
        ) from None
    named = project.get("project", {})
    extras = named.get("optional-dependencies", {}).values()
    requirements = chain(named.get("dependencies", []), *extras)
    exact = (requirement.split("==") for requirement in requirements if "==" in requirement)
    return {name.strip().lower(): version.strip() for name, version in exact}


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, so that what it started is cleaned up."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _remove_stale(repository: Path, parent: Path) -> None:
    for lock_file in parent.glob("*.lock"):
        lock = FileLock(lock_file)
        with contextlib.suppress(Timeout), lock.acquire(blocking=False):  # Timeout: it is in use
            _remove(repository, lock_file.with_suffix(""))
            lock_file.unlink(missing_ok=True)


def _remove(repository: Path, folder: Path) -> None:
    _git(repository, "worktree", "remove", "--force", "--force", str(folder))
    shutil.rmtree(folder, ignore_errors=True)
    _git(repository, "worktree", "prune")


def _lock_of(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _git(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(repository), *arguments]
    # A git hook that runs the suite names its own repository in the environment.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        # In a session of its own: Ctrl-C must not end it halfway through a removal.
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, start_new_session=True
        )
    except FileNotFoundError:
        raise MeasureError("--against needs git, which is not on the PATH: install it") from None
