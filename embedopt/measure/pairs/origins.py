"""The files that a project's own code was imported from, in base and head.

An installed copy of the project may stand in for the code of a commit, and then both sides run the same code,
whatever the change is. So each module that the repository holds has to come from the side's own checkout, or
be a copy that equals its file there.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from embedopt.git import git
from embedopt.measure.pairs.environment import changed

_WANTED = "wanted each its own: set source, or python and install, in [tool.embedopt] of pyproject.toml"
_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True)
class Origins:
    """The files that were imported in base or head.

    Attributes:
        name: ``base`` or ``head``, for messages.
        project: a folder of its checkout.
        files: absolute paths of the files, links resolved; or the URL of a service that was running before.
        start: command of a server that was started for this side; empty for none.
    """

    name: str
    project: Path
    files: frozenset[str]
    start: str = ""

    @cached_property
    def top(self) -> Path:
        """The folder of the checkout, links resolved."""
        return Path(os.path.realpath(git(self.project, "rev-parse", "--show-toplevel").stdout.strip()))

    @property
    def has_own(self) -> bool:
        """Whether one of the files lies in the checkout.

        Files installed there, as in its .venv, do not count where ``start`` names a file elsewhere that ran.
        """
        own = [Path(name) for name in self.files if Path(name).is_relative_to(self.top)]
        named = {os.path.realpath(word) for word in shlex.split(self.start)[1:] if Path(word).is_absolute()}
        is_elsewhere = any(not Path(name).is_relative_to(self.top) for name in named & self.files)
        return any(not (is_elsewhere and _INSTALLED & {*file.parts}) for file in own)

    @cached_property
    def tree(self) -> Mapping[str, Path]:
        """The Python files of the checkout by each path that an import may have, such as ``shop/text.py``."""
        top = self.top
        listed = git(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.py")
        files = [
            top / name for name in listed.stdout.split("\0") if name and not _INSTALLED & {*Path(name).parts}
        ]
        return {
            path: Path(os.path.realpath(file))
            for file in files
            if file.is_file()
            for path in _import_paths(file, len(top.parts))
        }


def why_not_own(base: Origins, head: Origins) -> str | None:
    """Return why base or head did not run the code of its own commit; None where both did."""
    if services := [name for name in base.files & head.files if "://" in name]:
        return f"base and head were both answered by {services[0]}; wanted a server of each: give start, too"
    for side, other in ((head, base), (base, head)):
        own, theirs = set(map(str, side.tree.values())), set(map(str, other.tree.values()))
        packages = {_package(file) for file in side.tree.values()} - {""}
        for name in sorted(side.files - own):
            paths = [path for path in _installed_paths(Path(name)) if path in side.tree or path in other.tree]
            if not (paths or name in theirs or _package(Path(name)) in packages):
                continue
            if name in theirs or name in other.files:
                return f"base and head both ran {name}; {_WANTED}"
            if paths and not _is_copy(Path(name), side.tree.get(paths[0])):
                return f"{side.name} ran {name}, which is not the file of its commit; {_WANTED}"
    if base.start and base.start == head.start and not (base.has_own and head.has_own):
        return f"base and head both ran {base.start!r}, and no file of their commits; {_WANTED}"
    shared = sorted(name for name in base.files & head.files if _INSTALLED & {*Path(name).parts})
    if shared and (names := changed(base.project, head.project)):
        return f"base and head both ran {shared[0]}, though {', '.join(names)} changed; {_WANTED}"
    return None


def not_own(
    projects: tuple[Path, Path], base: Mapping[str, Mapping[str, Any]], head: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Return why base or head did not run its own code, by backend; both hold the answers to ``files``."""
    reasons = {
        name: why_not_own(
            Origins("base", projects[0], frozenset(base[name]["files"]), base[name].get("start", "")),
            Origins("head", projects[1], frozenset(head[name]["files"]), head[name].get("start", "")),
        )
        for name in base
        if base[name] and head.get(name)
    }
    return {name: why for name, why in reasons.items() if why}


def _import_paths(file: Path, fewest: int) -> Iterator[str]:
    """Yield the paths by which a file can be imported: each begins below a folder that is no package.

    The path of that folder has ``fewest`` parts or more.
    """
    for count in range(len(file.parts) - 1, fewest - 1, -1):
        if not Path(*file.parts[:count], "__init__.py").is_file():
            yield "/".join(file.parts[count:])


def _installed_paths(file: Path) -> list[str]:
    """Return the import paths of a file outside the checkout.

    Outside an installed environment, a single name is left out: it may be a module of Python itself.
    """
    places = [count for count, name in enumerate(file.parts, 1) if name in _INSTALLED]
    paths = _import_paths(file, places[-1] if places else 1)
    return [path for path in paths if places or "/" in path]


def _package(file: Path) -> str:
    """Return the name of the outermost package that holds a file; empty for none."""
    name, folder = "", file.parent
    while (folder / "__init__.py").is_file():
        name, folder = folder.name, folder.parent
    return name


def _is_copy(file: Path, own: Path | None) -> bool:
    return own is not None and file.read_bytes() == own.read_bytes()
