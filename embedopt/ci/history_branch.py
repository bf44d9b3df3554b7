"""The git branch that holds the history: runs are appended, and none is lost when two pushes race."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedopt.errors import GitError, RecordError, UsageError, last_line, reason_of
from embedopt.files import write_whole
from embedopt.git import Finished, git
from embedopt.judge.history.saved_runs import read_file

# Tries before an append gives up: another push can come first at each.
_ATTEMPTS = 10
# The commits have no personal author, and no person's key signs them.
_SETTINGS = {
    "user.name": "embedopt",
    "user.email": "embedopt@users.noreply.github.com",
    "commit.gpgsign": "false",
}


def append(run: Path, remote: str, branch: str, into: Path) -> Path:
    """Append a saved run to a branch of a remote, and leave the files of that branch in a folder.

    A missing branch is created. Where another push comes first, the run is committed again on top of it. Raw
    samples are left out: nothing that is judged or shown later needs them.

    Args:
        run: the saved run.
        remote: path or URL of a repository, or the name of a remote of the repository in the current folder.
        branch: the branch's name.
        into: folder that must not exist yet; it is removed again if appending fails.

    Returns:
        The appended file, in ``into``.

    Raises:
        RecordError: the run can't be read.
        UsageError: ``into`` exists or can't be created.
        GitError: git can't reach or change the remote; the message quotes it.
    """
    name, content = _name_and_content(run)
    if into.exists():
        raise UsageError(f"{into} exists; wanted a folder that append can make: name another with --into")
    try:
        into.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"{into} can't be made ({reason_of(error)}): name another with --into") from error
    try:
        _push(into / name, content, _address(remote), branch)
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise
    return into / name


def _push(file: Path, content: str, remote: str, branch: str) -> None:
    """Add a file to a branch of a remote, in the file's empty folder; retry where another push came first."""
    folder = file.parent
    _run(folder, "init", "--quiet", "--initial-branch", branch)
    for _ in range(_ATTEMPTS):
        before = _fetch_tip(folder, remote, branch)
        write_whole(file, content)
        _run(folder, "add", "--", file.name)
        if not _git(folder, "diff", "--cached", "--quiet").returncode:
            return  # an earlier call has pushed this run
        _run(folder, "commit", "--quiet", "--message", f"Add {file.name}")
        pushed = _git(folder, "push", "--quiet", remote, f"HEAD:refs/heads/{branch}")
        if not pushed.returncode:
            return
        if _tip(folder, remote, branch) == before:
            raise GitError(f"{file.name} can't be pushed to {branch}: {last_line(pushed.stderr)}")
    raise GitError(f"{file.name} can't be pushed to {branch}: {_ATTEMPTS} other pushes came first; try again")


def _name_and_content(run: Path) -> tuple[str, str]:
    """Return the file name that a run has on the branch, and its content without raw samples."""
    saved, values = read_file(run)
    if saved.time is None:
        raise RecordError(f"{run} has no datetime; wanted a run that the suite saved")
    benchmarks = [_without_samples(benchmark) for benchmark in values["benchmarks"]]
    content = json.dumps(values | {"benchmarks": benchmarks}, sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    # The reader of a history wants names that start with the time; the digest keeps two runs' names apart.
    return f"{saved.time:%Y%m%dT%H%M%S}_{digest}.json", content


def _without_samples(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    stats = benchmark.get("stats")
    if not isinstance(stats, Mapping):
        return dict(benchmark)
    return {**benchmark, "stats": {key: value for key, value in stats.items() if key != "data"}}


def _address(remote: str) -> str:
    """Return the path or URL of a remote, valid in any folder that git runs in."""
    named = _git(Path(), "remote", "get-url", remote)
    address = remote if named.returncode else named.stdout.strip()
    return str(Path(address).absolute()) if Path(address).exists() else address


def _fetch_tip(folder: Path, remote: str, branch: str) -> str:
    """Fetch a branch and check out its last commit; return that commit, or "" if there is no such branch."""
    if not _tip(folder, remote, branch):
        return ""
    _run(folder, "fetch", "--quiet", "--depth", "1", remote, f"refs/heads/{branch}")
    commit = _run(folder, "rev-parse", "FETCH_HEAD").strip()
    _run(folder, "reset", "--quiet", "--hard", commit)
    return commit


def _tip(folder: Path, remote: str, branch: str) -> str:
    """Return the last commit of a branch of the remote, or "" if there is no such branch."""
    return _run(folder, "ls-remote", remote, f"refs/heads/{branch}").partition("\t")[0]


def _run(folder: Path, *arguments: str) -> str:
    """Run git and return its standard output."""
    finished = _git(folder, *arguments)
    if finished.returncode:
        raise GitError(f"git {arguments[0]} failed: {last_line(finished.stderr)}")
    return finished.stdout


def _git(folder: Path, *arguments: str) -> Finished:
    return git(folder, *arguments, settings=_SETTINGS)
