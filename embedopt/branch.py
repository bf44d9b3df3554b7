"""A branch that holds the history: saved runs are appended to it, and none is lost when two do so at once."""

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedopt.errors import MeasureError, RecordError, UsageError
from embedopt.files import write_whole
from embedopt.judge.history import read_file

# As often as another push may come first.
_ATTEMPTS = 10
_IDENTITY = ("-c", "user.name=embedopt", "-c", "user.email=embedopt@users.noreply.github.com")


def append(run: Path, remote: str, branch: str, into: Path) -> Path:
    """Append a saved run to a branch of a remote, and leave the files of that branch in a folder.

    The branch is made where there is none. Where another push came first, the run is committed anew on top of
    it. Raw samples stay with the file: of what is judged and shown later, nothing needs them.

    Args:
        run: the saved run.
        remote: path or URL of a repository, or a name that the repository here has for it.
        branch: its name.
        into: folder that does not exist yet.

    Returns:
        The file, in ``into``.

    Raises:
        RecordError: the run can't be read.
        UsageError: ``into`` is there already, or can't be made.
        MeasureError: git can't reach or change the remote; the message has its words.
    """
    name, content = _entry(run)
    if into.exists():
        raise UsageError(f"{into} is there already: name a folder that append can make")
    try:
        into.mkdir(parents=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{into} can't be made ({reason}): name another folder with --into") from error
    remote = _address(remote)
    _run(into, "init", "--quiet", "--initial-branch", branch)
    for _ in range(_ATTEMPTS):
        before = _tip(into, remote, branch)
        if before:
            _run(into, "fetch", "--quiet", "--depth", "1", remote, f"refs/heads/{branch}")
            before = _run(into, "rev-parse", "FETCH_HEAD").strip()
            _run(into, "reset", "--quiet", "--hard", before)
        write_whole(into / name, content)
        _run(into, "add", "--", name)
        if not _git(into, "diff", "--cached", "--quiet").returncode:
            return into / name  # it is there from an earlier try
        _run(into, *_IDENTITY, "commit", "--quiet", "--message", f"Add {name}")
        pushed = _git(into, "push", "--quiet", remote, f"HEAD:refs/heads/{branch}")
        if not pushed.returncode:
            return into / name
        if _tip(into, remote, branch) == before:
            raise MeasureError(f"{name} can't be pushed to {branch}: {_said(pushed)}")
    raise MeasureError(f"{name} can't be pushed to {branch}: {_ATTEMPTS} other pushes came first; try again")


def _entry(run: Path) -> tuple[str, str]:
    """Return the name that a run has on the branch, and its content without raw samples."""
    found, values = read_file(run)
    if found.time is None:
        raise RecordError(f"{run} has no datetime; wanted a run that the suite saved")
    benchmarks = [_without_samples(bench) for bench in values["benchmarks"]]
    content = json.dumps(values | {"benchmarks": benchmarks}, sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    # By time, then by content: as the reader of a history wants it, and no two runs of one name.
    return f"{found.time:%Y%m%dT%H%M%S}_{digest}.json", content


def _without_samples(bench: Mapping[str, Any]) -> dict[str, Any]:
    stats = bench.get("stats")
    if not isinstance(stats, Mapping):
        return dict(bench)
    return {**bench, "stats": {key: value for key, value in stats.items() if key != "data"}}


def _address(remote: str) -> str:
    """Return where a remote is, whatever folder git runs in."""
    named = _git(Path(), "remote", "get-url", remote)
    found = remote if named.returncode else named.stdout.strip()
    return str(Path(found).absolute()) if Path(found).exists() else found


def _tip(folder: Path, remote: str, branch: str) -> str:
    """Return the commit that a branch of the remote is at; nothing where there is no such branch."""
    return _run(folder, "ls-remote", remote, f"refs/heads/{branch}").partition("\t")[0]


def _run(folder: Path, *argv: str) -> str:
    done = _git(folder, *argv)
    if done.returncode:
        raise MeasureError(f"git {argv[0]} failed: {_said(done)}")
    return done.stdout


def _git(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    # Of an outer repository (a hook's, for one), nothing may reach in here; and nobody is there to be asked.
    own = {
        key: value
        for key, value in os.environ.items()
        if key not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    }
    return subprocess.run(
        ["git", "-C", str(folder), *argv],
        capture_output=True,
        text=True,
        env=own | {"GIT_TERMINAL_PROMPT": "0"},
    )


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
