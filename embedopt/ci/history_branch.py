"""A branch that holds the history: saved runs are appended to it, and none is lost when two do so at once."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedopt.errors import MeasureError, RecordError, UsageError
from embedopt.files import write_whole
from embedopt.judge.history.saved_runs import read_file

# As often as another push may come first.
_ATTEMPTS = 10
# Commits are nobody's own, so nobody's key signs them.
_IDENTITY = (
    "-c", "user.name=embedopt", "-c", "user.email=embedopt@users.noreply.github.com",
    "-c", "commit.gpgsign=false",
)  # fmt: skip
# Of git's variables, only how a remote is reached: programs, certificates, proxies, and where the user's
# configuration is, which has the credentials. The rest belongs to the repository, the command or the commit
# that this runs in (a hook's, for one), and none of it may reach in here.
_KEPT = re.compile(r"GIT_(SSH|SSL|HTTP|PROXY|ASKPASS|ALLOW_PROTOCOL|CONFIG_(?!PARAMETERS))")


def append(run: Path, remote: str, branch: str, into: Path) -> Path:
    """Append a saved run to a branch of a remote, and leave the files of that branch in a folder.

    The branch is made where there is none. Where another push came first, the run is committed anew on top of
    it. Raw samples stay with the file: of what is judged and shown later, nothing needs them.

    Args:
        run: the saved run.
        remote: path or URL of a repository, or a name that the repository here has for it.
        branch: its name.
        into: folder that does not exist yet; where this fails, it does not afterwards, either.

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
    try:
        _push(name, content, _address(remote), branch, into)
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise
    return into / name


def _push(name: str, content: str, remote: str, branch: str, into: Path) -> None:
    """Add a file to a branch of a remote, in an empty folder; as often as another push comes first."""
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
            return  # it is there from an earlier try
        _run(into, "commit", "--quiet", "--message", f"Add {name}")
        pushed = _git(into, "push", "--quiet", remote, f"HEAD:refs/heads/{branch}")
        if not pushed.returncode:
            return
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
    own = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_") or _KEPT.match(name)
    }
    return subprocess.run(
        ["git", *_IDENTITY, "-C", str(folder), *argv],
        capture_output=True,
        encoding="utf8",
        errors="replace",  # a hook of the remote says what it likes
        env=own | {"GIT_TERMINAL_PROMPT": "0"},  # nobody is there to be asked
    )


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
