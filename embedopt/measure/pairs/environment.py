"""The environment of a project that holds no embedopt: the versions that it locks, and how it is made."""

import importlib.metadata
import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from embedopt.errors import MeasureError, last_line

_LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml")
_LINES = ("*requirements*.txt", "constraints*.txt")
_PINNED = re.compile(r"^([\w.-]+)(?:\[[^]]*\])?\s*===?\s*([^\s;,\\#]+)", re.MULTILINE)
# These variables point the project's tools to the environment of this process, which is not the base's.
_LEFT_OUT = frozenset({"VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH"})


def install(project: Path, command: str | None, on_step: Callable[[str], None]) -> None:
    """Run the user's command that makes a project's environment, in the project's folder.

    Raises:
        MeasureError: it failed; the message is the last line that it printed.
    """
    if command is None:
        return
    on_step(f"installing the base: {command}")
    kept = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
    result = subprocess.run(
        command,
        shell=True,
        cwd=project,
        env=kept | {"POETRY_VIRTUALENVS_IN_PROJECT": "true"},  # in no folder that outlives the worktree
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf8",
        errors="replace",
    )
    if result.returncode:
        on_step(result.stdout.rstrip())
        raise MeasureError(
            f"{command!r} ended with {result.returncode} in a checkout of the base "
            f"({last_line(result.stdout)}); "
            "wanted its environment: correct install in [tool.embedopt] of pyproject.toml"
        )


def lock_files(project: Path) -> Iterator[Path]:
    """Yield the files that lock a project's environment, in its folder and those above it in its worktree."""
    for folder in (project, *project.parents):
        for pattern in (*_LOCKS, "Pipfile.lock", *_LINES):
            yield from sorted(folder.glob(pattern))
        if (folder / ".git").exists():
            return


def changed(base: Path, head: Path) -> list[str]:
    """Return the files and tables that describe a project's environment and differ in base and head."""
    ours, theirs = _described(head), _described(base)
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def _described(project: Path) -> dict[str, Any]:
    file = project / "pyproject.toml"
    content = _read_toml(file) if file.is_file() else {}
    tables = {
        "dependencies": content.get("project", {}).get("dependencies"),
        "optional-dependencies": content.get("project", {}).get("optional-dependencies"),
        "dependency-groups": content.get("dependency-groups"),
        "tool.poetry.dependencies": content.get("tool", {}).get("poetry", {}).get("dependencies"),
    }
    files: dict[str, list[bytes]] = {}
    for lock in lock_files(project):  # several may have one name: in the project's folder and above it
        files.setdefault(lock.name, []).append(lock.read_bytes())
    return files | tables


def of_embedopt(project: Path, pins: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of embedopt and its requirements that a project pins or locks."""
    requirements = map(Requirement, importlib.metadata.requires("embedopt") or [])
    measuring = [each for each in requirements if '"dev"' not in str(each.marker)]
    names = {"embedopt", *(canonicalize_name(requirement.name) for requirement in measuring)}
    versions = {**_locked(project), **pins}
    return {name: version for name, version in versions.items() if name in names}


def _locked(project: Path) -> dict[str, str]:
    versions: dict[str, str] = {}
    for file in reversed(list(lock_files(project))):
        if file.name in _LOCKS:
            versions |= _of_toml(file)
        elif file.suffix == ".txt":
            pinned = _PINNED.findall(file.read_text(encoding="utf8", errors="replace"))
            versions |= {canonicalize_name(name): version for name, version in pinned}
    return versions


def _of_toml(file: Path) -> dict[str, str]:
    content = _read_toml(file)
    packages = [*content.get("package", ()), *content.get("packages", ())]
    return {canonicalize_name(package["name"]): str(package.get("version", "")) for package in packages}


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise MeasureError(f"{file} can't be read ({error}); wanted TOML: mend it, or make it anew") from None
