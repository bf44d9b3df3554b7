"""What the ``pyproject.toml`` of a checkout declares: its pins and the rules of its gate."""

import tomllib
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from embedopt.errors import GitError, MeasureError, first_line, last_line
from embedopt.git import git
from embedopt.measure.pairs import environment

_WORKER_FILE = Path("embedopt", "measure", "worker.py")
_THIS_FILE = Path("embedopt", "measure", "pairs", "project.py")
_ADOPTING = ("pyproject.toml", "conftest.py", "benchmarks/conftest.py", "benchmarks/pytest.ini")
# The code that measures and judges, for changes of embedopt itself; the rest is measured or only shows.
_JUDGES = (
    *("embedopt", "conftest.py", "benchmarks/test_against.py"),
    *(f":(exclude)embedopt/{part}" for part in ("bulk", "ci", "inference", "report", "serving")),
)
# The versions that decide a measurement.
_CONSTRAINTS_FILE = Path(".ci", "constraints.txt")


def holds_embedopt(root: Path) -> bool:
    """Return whether a checkout is one of embedopt; any other is measured by the installed embedopt."""
    return (root / _WORKER_FILE).is_file()


def has_suite(base: Path, *, installed: bool = False) -> bool:
    """Return whether a checkout uses embedopt; one from before its adoption does not.

    Where the ``installed`` embedopt measures it, one of the files that can adopt the suite has to name it.
    """
    if installed:
        files = [base / name for name in _ADOPTING]
        return any(b"embedopt" in file.read_bytes() for file in files if file.is_file())
    return (base / _WORKER_FILE.parts[0]).is_dir()


def why_not_comparable(head: Path, base: Path, *, own_python: bool, installed: bool = False) -> str | None:
    """Return the reason why our backends can't be compared in head and base; None where they can.

    A base without an environment of its own (``own_python``) must pin the same versions as head. Where the
    ``installed`` embedopt measures both, only versions of its own requirements count, locked ones too.

    Raises:
        MeasureError: a ``pyproject.toml`` or a lock file can't be read.
    """
    if not installed and not holds_embedopt(base):
        return f"the base has no {_WORKER_FILE}: choose a newer commit"
    if own_python:
        return None
    ours, theirs = pins(head), pins(base)
    if installed:
        ours, theirs = environment.of_embedopt(head, ours), environment.of_embedopt(base, theirs)
    differing = [
        f"{name} {theirs.get(name, 'unpinned')} (here {ours.get(name, 'unpinned')})"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    if not differing:
        return None
    return (
        f"the base has other dependencies, {', '.join(differing)}: "
        "name the interpreter of its own environment with --against-python; with --head, that of the head "
        "with --head-python, too"
    )


def install_command(head: Path, base: Path) -> str | None:
    """Return ``install`` of ``[tool.embedopt]``, the base's where it has one; None for none.

    Raises:
        MeasureError: a ``pyproject.toml`` can't be read.
    """
    tables = [_pyproject(root).get("tool", {}).get("embedopt", {}) for root in (base, head)]
    return next((table["install"] for table in tables if "install" in table), None)


def rules(root: Path) -> dict[str, Any]:
    """Return ``[tool.embedopt.gate]`` of a checkout; empty where it has none.

    Raises:
        MeasureError: the project's ``pyproject.toml`` can't be read.
    """
    table: dict[str, Any] = _pyproject(root).get("tool", {}).get("embedopt", {}).get("gate", {})
    return table


def newly_accepted(head: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what ``accept`` of head's rules declares and that of base's does not, in order."""
    return tuple(line for line in head.get("accept", ()) if line not in base.get("accept", ()))


def moved_rules(head: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[str, ...]:
    """Return each rule but ``accept`` that differs, such as ``threshold 0.03 -> 0.99``."""
    return tuple(
        f"{name} {base.get(name, 'default')} -> {head.get(name, 'default')}"
        for name in sorted((base.keys() | head.keys()) - {"accept"})
        if base.get(name) != head.get(name)
    )


def moved_judges(head: Path, commit: str) -> tuple[str, ...]:
    """Return in words which code that measured and judged the head differs from that of the base's commit.

    None does where this code is not head's own: with ``--head``, or where embedopt is installed.

    Raises:
        GitError: git can't compare the checkout with the commit.
    """
    if not holds_this_code(head):
        return ()
    changed = [
        *_listed(head, "diff", "--name-only", "--relative", commit, "--", *_JUDGES),
        *_listed(head, "ls-files", "--others", "--exclude-standard", "--", *_JUDGES),
    ]
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return (f"its own code measured and judged it ({changed[0]}{more})",) if changed else ()


def holds_this_code(root: Path) -> bool:
    """Return whether the running code is that of a checkout, not of another checkout inside it."""
    return Path(__file__).resolve() == (root / _THIS_FILE).resolve()


def _listed(head: Path, *arguments: str) -> list[str]:
    result = git(head, *arguments)
    if result.returncode:
        reason = last_line(result.stderr)
        raise GitError(f"git {arguments[0]} failed in {head}: {reason}; wanted what the change holds")
    return result.stdout.splitlines()


def pins(root: Path) -> dict[str, str]:
    """Return the version of each exactly pinned dependency of a project, by name.

    They stand in its ``pyproject.toml``, extras included, and in its ``.ci/constraints.txt``, if it has one.

    Raises:
        MeasureError: one of the files can't be read.
    """
    table = _pyproject(root).get("project", {})
    extras = table.get("optional-dependencies", {}).values()
    constraints = root / _CONSTRAINTS_FILE
    lines = constraints.read_text(encoding="utf8").splitlines() if constraints.is_file() else []
    return {
        canonicalize_name(requirement.name): specifier.version
        for requirement in (
            *_parsed(root / "pyproject.toml", chain(table.get("dependencies", []), *extras)),
            *_parsed(constraints, filter(None, (line.partition("#")[0].strip() for line in lines))),
        )
        for specifier in requirement.specifier
        if specifier.operator in ("==", "===")
    }


def _parsed(file: Path, requirements: Iterable[str]) -> list[Requirement]:
    try:
        return [Requirement(requirement) for requirement in requirements]
    except InvalidRequirement as error:
        raise MeasureError(
            f"{file} has a dependency that can't be read: {first_line(error)}; "
            "wanted it as PEP 508 has it, such as numpy==2.4.6"
        ) from None


def _pyproject(root: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf8"))
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise MeasureError(
            f"{root / 'pyproject.toml'} can't be read ({error}); wanted the project's pins: mend the file"
        ) from None
