"""What a project declares in its pyproject.toml: code of its own that embeds, as rows beside ours."""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from embedopt.errors import UsageError
from embedopt.inference.backend import NO_MODEL, Backend
from embedopt.inference.backends import declare
from embedopt.schema import describe_mistake

_ENCODERS = "embedopt.inference.encoders"
_CALL, _CALL_IN_WORDS = r"^[\w.]+:[\w.]+$", "module:name, such as shop.embedding:embed"


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Target:
    """One table ``[tool.embedopt.targets.NAME]``.

    Attributes:
        call: what embeds: a function of a list of texts, a class that is made once, or an object with
            ``encode``.
        python: its interpreter; empty for the one that runs us.
        source: folder of its modules, beside the project's own.
        model: what its embeddings are held against: sentence-transformers' of this folder or hub name, or
            ``all-MiniLM-L6-v2`` for the bundled one; ``none`` for nothing.
        queries: text before each query in retrieval; ``documents`` likewise.
        timeout_s: longest time of a call.
    """

    call: str = Field(default="", pattern=_CALL, description=_CALL_IN_WORDS)
    python: str = Field(default="", description="the path of an interpreter, such as .venv/bin/python")
    source: str = Field(default="src", description="a folder, such as src")
    model: str = Field(default=NO_MODEL, description="a folder, a hub name, or none")
    revision: str = Field(default="", description="a branch, tag or commit of a hub name")
    trust_remote_code: bool = Field(default=False, description="true or false")
    queries: str = Field(default="", description='a text, such as "query: "')
    documents: str = Field(default="", description='a text, such as "passage: "')
    timeout_s: int = Field(default=60, gt=0, description="seconds above 0")


def read_targets(project: Path) -> dict[str, Target]:
    """Return the targets that the ``pyproject.toml`` of a folder declares, by name; none without the file.

    Raises:
        UsageError: the file can't be read, or a table has a key or value that means nothing.
    """
    file = project / "pyproject.toml"
    try:
        table = tomllib.loads(file.read_text(encoding="utf8")) if file.is_file() else {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} can't be read ({error}); wanted TOML: mend it") from None
    ours = table.get("tool", {}).get("embedopt", {})
    common = {"source": ours["source"]} if "source" in ours else {}
    return {name: _target(file, name, common, values) for name, values in ours.get("targets", {}).items()}


def _target(file: Path, name: str, common: dict[str, Any], values: Any) -> Target:
    where = f"{file}: [tool.embedopt.targets.{name}]"
    if not isinstance(values, dict):
        raise UsageError(f"{where} is {values!r}; wanted a table with call = 'module:name'")
    if not name.replace("-", "").replace(".", "").isidentifier() or name == "all":
        raise UsageError(f"{where} has a name that no option can hold; wanted letters, digits and dashes")
    try:
        target = Target(**common | values)
    except ValidationError as error:
        raise UsageError(f"{where}: {describe_mistake(Target, error)}") from None
    if not target.call:
        raise UsageError(f"{where} has no call; wanted {_CALL_IN_WORDS}")
    return target


def changed_targets(base: Mapping[str, Target], head: Mapping[str, Target]) -> list[str]:
    """Return a line for each target of both whose table differs: what was changed, and into what."""
    lines = []
    for name in base.keys() & head.keys():
        before, after = dataclasses.asdict(base[name]), dataclasses.asdict(head[name])
        if changes := [
            f"{key} {before[key]!r} -> {after[key]!r}" for key in after if after[key] != before[key]
        ]:
            lines.append(
                f"this change declares {name} anew, and each side is measured by its own table: "
                f"{', '.join(changes)}"
            )
    return sorted(lines)


def declare_targets(project: Path) -> None:
    """Add the targets of a folder to the table of backends, in the place of those declared before.

    Raises:
        UsageError: as :func:`read_targets`, or a target has the name of a backend of ours.
    """
    project = project.absolute()
    declare([_row(project, name, target) for name, target in read_targets(project).items()])


def _row(project: Path, name: str, target: Target) -> Backend:
    fields = dataclasses.fields(target)
    options = {item.name: getattr(target, item.name) for item in fields}
    local = project / target.model
    return Backend(
        name=name,
        summary=f"{target.call}, declared in pyproject.toml",
        precision="unknown",
        opener=f"{_ENCODERS}.foreign_process:open_target",
        open_options={key: value for key, value in options.items() if value},
        project=project,
        model=str(local) if local.is_dir() else target.model,
    )
