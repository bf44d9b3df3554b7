"""What a project declares in its pyproject.toml: code of its own that embeds, as rows beside ours."""

import dataclasses
import json
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

PYPROJECT = "pyproject.toml"
_ENCODERS = "embedopt.inference.encoders"
_CALL, _CALL_IN_WORDS = r"^[\w.]+:[\w.]+$", "module:name, such as shop.embedding:embed"

# Keys that only an endpoint has.
_OF_URL = ("start", "body", "answer", "key_variable", "max_texts", "max_tokens", "concurrency")

# Keys for which an empty text has a meaning: no prompt, instead of the model's own.
_PROMPTS = ("queries", "documents")


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Target:
    """One table ``[tool.embedopt.targets.NAME]``.

    Attributes:
        call: what embeds: a function of a list of texts, a class that is made once, or an object with
            ``encode``.
        python: its interpreter; empty for the one that runs embedopt.
        source: folder of its modules, beside the project's own.
        model: the model that its embeddings are compared with: a folder, a hub name, or ``all-MiniLM-L6-v2``
            for the bundled one; ``none`` to compare with none.
        queries: text before each query in retrieval, for that model too; None for the model's own.
            ``documents`` likewise.
        truncate_dim: components that the model's embeddings are cut to before they are compared; 0 for all.
        timeout_s: longest time of a call, or of a request.
        url: an endpoint, instead of ``call``: in OpenAI's format, or in that of text-embeddings-inference
            where it ends with ``/embed``.
        start: command that starts its server; ``{port}`` in it and in ``url`` stands for a free port.
        body: another format of a request, with ``{texts}`` or ``{text}`` where the texts go.
        answer: where its answer has the embeddings: keys, and ``*`` for each item, with dots between.
        key_variable: environment variable with the key that is sent as ``Authorization: Bearer``.
        max_texts: largest number of texts in a request; ``max_tokens`` of their tokens, 0 for any.
        concurrency: requests that are sent at a time.
    """

    call: str = Field(default="", pattern=_CALL, description=_CALL_IN_WORDS)
    python: str = Field(default="", description="the path of an interpreter, such as .venv/bin/python")
    source: str = Field(default="src", description="a folder, such as src")
    model: str = Field(default=NO_MODEL, description="a folder, a hub name, or none")
    revision: str = Field(default="", description="a branch, tag or commit of a hub name")
    trust_remote_code: bool = Field(default=False, description="true or false")
    queries: str | None = Field(default=None, description='a text, such as "query: "')
    documents: str | None = Field(default=None, description='a text, such as "passage: "')
    truncate_dim: int = Field(default=0, ge=0, description="a number of components, 0 for all")
    timeout_s: int = Field(default=60, gt=0, description="seconds above 0")
    url: str = Field(default="", pattern="^https?://", description="http://127.0.0.1:{port}/v1/embeddings")
    start: str = Field(default="", description="a command, such as uvicorn shop.api:app --port {port}")
    body: dict[str, Any] = Field(default_factory=dict, description='a table, such as {inputs = "{texts}"}')
    answer: str = Field(default="", description="keys, such as data.*.embedding")
    key_variable: str = Field(default="", description="the name of an environment variable")
    max_texts: int = Field(default=32, ge=1, description="a number of texts, 1 or more")
    max_tokens: int = Field(default=0, ge=0, description="a number of tokens, 0 for any")
    concurrency: int = Field(default=8, ge=1, le=256, description="a number of requests, 1 to 256")

    @property
    def mistake(self) -> str | None:
        """What is wrong with keys that are each right by themselves; None for nothing."""
        if bool(self.call) == bool(self.url):
            has = "call and url" if self.call else "no call"
            return f"has {has}; wanted call = {_CALL_IN_WORDS}, or an url"
        if self.call:
            known = Target(call=self.call)
            unused = [key for key in _OF_URL if getattr(self, key) != getattr(known, key)]
            return f"has call and {', '.join(unused)}; wanted these with url alone" if unused else None
        if bool(self.start) != ("{port}" in self.url):
            return "has start or {port} in its url; wanted both, or an url alone"
        if self.body and bool(self.answer) != bool(self.body):
            return 'has body without answer; wanted both, such as answer = "data.*.embedding"'
        if "{text}" in json.dumps(self.body) and self.max_texts > 1:
            return "has {text} in its body, which holds one text; wanted max_texts = 1"
        return None


def project_folder() -> Path:
    """Return the current folder, or else the nearest around it, that has a ``pyproject.toml``.

    Where none has the file, it is the current one.
    """
    folders = (Path.cwd(), *Path.cwd().parents)
    return next((folder for folder in folders if (folder / PYPROJECT).is_file()), Path.cwd())


def read_targets(project: Path) -> dict[str, Target]:
    """Return the targets that the ``pyproject.toml`` of a folder declares, by name; none without the file.

    Raises:
        UsageError: the file can't be read, or a table has a key or value that means nothing.
    """
    file = project / PYPROJECT
    try:
        table = tomllib.loads(file.read_text(encoding="utf8")) if file.is_file() else {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} can't be read ({error}); wanted TOML: mend it") from None
    ours = table.get("tool", {}).get("embedopt", {})
    common = {"source": ours["source"]} if "source" in ours else {}
    return {
        name: parse_target(file, name, common, values) for name, values in ours.get("targets", {}).items()
    }


def parse_target(file: Path, name: str, common: dict[str, Any], values: Any) -> Target:
    """Check one table of a file, over the values that all tables have in common.

    Raises:
        UsageError: the table or its name means nothing; the message says what is wanted.
    """
    where = f"{file}: [tool.embedopt.targets.{name}]"
    if not isinstance(values, dict):
        raise UsageError(f"{where} is {values!r}; wanted a table with call = 'module:name'")
    if not name.replace("-", "").replace(".", "").isidentifier() or name == "all":
        raise UsageError(f"{where} has a name that no option can hold; wanted letters, digits and dashes")
    try:
        target = Target(**common | values)
    except ValidationError as error:
        raise UsageError(f"{where}: {describe_mistake(Target, error)}") from None
    if target.mistake:
        raise UsageError(f"{where} {target.mistake}")
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
    names = [item.name for item in fields if not (target.call and item.name in _OF_URL)]
    options = {name: getattr(target, name) for name in names}
    if target.body:
        options["body"] = json.dumps(target.body)
    local = project / target.model
    return Backend(
        name=name,
        summary=f"{target.call or target.url}, declared in pyproject.toml",
        precision="unknown",
        opener=f"{_ENCODERS}.{'foreign_process:ForeignProcess' if target.call else 'http:HttpEncoder'}",
        open_options={
            key: value for key, value in options.items() if value or (key in _PROMPTS and value is not None)
        },
        project=project,
        model=str(local) if local.is_dir() else target.model,
    )
