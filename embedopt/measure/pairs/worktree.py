"""The base of ``--against REF``: a commit of this repository, checked out while it is measured."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from embedopt.errors import GitError, UsageError, last_line
from embedopt.files import explaining_failure
from embedopt.git import Finished, git


def resolve(repository: Path, ref: str) -> str:
    """Return the full hash of the commit that a commit, branch or tag names.

    Raises:
        UsageError: the ref or the repository does not exist.
        GitError: git is not installed.
    """
    asked = _git(repository, "rev-parse", "--git-dir")
    if asked.returncode:
        raise UsageError(
            f"--against {ref}: git can't use {repository} ({last_line(asked.stderr)}); "
            "wanted a clone of the project: run the suite in one"
        )
    parsed = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if parsed.returncode:
        raise UsageError(
            f"--against {ref}: {repository} has no such commit, branch or tag; wanted one that "
            "git log shows: fetch it first, as a shallow clone holds its last commit only"
        )
    return parsed.stdout.strip()


def describe_head(repository: Path) -> str:
    """Return the commit of a worktree, followed by ``+ changes`` where files differ from it."""
    changed = _git(repository, "status", "--porcelain").stdout.strip()
    return resolve(repository, "HEAD") + (" + changes" if changed else "")


@contextlib.contextmanager
def checked_out(
    repository: Path, commit: str, cache_dir: Path, below: PurePosixPath | None = None
) -> Iterator[Path]:
    """Check ``commit`` out under ``cache_dir``, and remove it at the end, whatever happens.

    Yields the folder ``below`` in the new worktree; by default, the folder at the place that ``repository``
    has in its own worktree. It does not exist where the commit lacks it.
    Worktrees that a killed process left behind are removed first; those of other live runs stay.

    Raises:
        OutputError: the cache can't be written.
        GitError: git can't make the worktree; the message quotes it.
    """
    parent = cache_dir / "worktrees"
    with explaining_failure(parent, "give another cache with --cache-dir or EMBEDOPT_CACHE"):
        parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(repository, parent)
    folder = parent / f"{commit[:12]}-{uuid.uuid4().hex[:8]}"
    with FileLock(_lock_of(folder)):
        try:
            added = _git(repository, "worktree", "add", "--detach", "--force", str(folder), commit)
            if added.returncode:
                raise GitError(f"git can't check {commit[:12]} out into {folder}: {last_line(added.stderr)}")
            yield folder / (below or _git(repository, "rev-parse", "--show-prefix").stdout.strip())
        finally:
            _remove(repository, folder)
            _lock_of(folder).unlink(missing_ok=True)


def _remove_stale(repository: Path, parent: Path) -> None:
    for lock_file in parent.glob("*.lock"):
        lock = FileLock(lock_file)
        with contextlib.suppress(Timeout), lock.acquire(blocking=False):  # Timeout: a live run holds it
            _remove(repository, lock_file.with_suffix(""))
            lock_file.unlink(missing_ok=True)


def _remove(repository: Path, folder: Path) -> None:
    _git(repository, "worktree", "remove", "--force", "--force", str(folder))
    shutil.rmtree(folder, ignore_errors=True)
    _git(repository, "worktree", "prune")


def _lock_of(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _git(repository: Path, *arguments: str) -> Finished:
    # In a new session, so that Ctrl-C can't end git halfway through the removal of a worktree; without hooks,
    # which may change the checkout that is measured.
    return git(repository, *arguments, settings={"core.hooksPath": os.devnull}, new_session=True)
