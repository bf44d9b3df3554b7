"""What sets a repository up, and overwrites nothing: a file for pytest, a table, a workflow."""

import importlib.metadata
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from embedopt.errors import InputError
from embedopt.files import write_whole

_TEMPLATES = Path(__file__).parent / "templates"
PYTEST_INI = """\
# What `pytest benchmarks/` runs by; no other run reads it. The questions come with embedopt.
# Questions of your own stand beside this file, as bench_*.py.
[pytest]
addopts = -p embedopt.plugin
python_files = test_*.py bench_*.py
"""
_EXAMPLE = """\
# Declare what embeds: a function of a list of texts, a class made once, or an object with encode().
# [tool.embedopt.targets.shop]
# call = "shop.embedding:embed"
"""
# By the file that describes an environment: what makes it in .venv, and the program that a runner lacks.
_INSTALLS: Mapping[str, tuple[str, str]] = {
    "uv.lock": ("uv sync --frozen", "uv"),
    "poetry.lock": ("POETRY_VIRTUALENVS_IN_PROJECT=true poetry install --no-interaction", "poetry"),
    "requirements.txt": (
        "python3 -m venv .venv && .venv/bin/python -m pip install -r requirements.txt",
        "",
    ),
    "pyproject.toml": ("python3 -m venv .venv && .venv/bin/python -m pip install -e .", ""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a repository is set up for.

    Attributes:
        project: folder that gets ``benchmarks/``.
        name: name of the target.
        target: keys of its table; empty for none.
        texts: content of its corpus, as JSON lines; None for ours.
        install: command that makes the project's environment; None for the one that its files ask for.
        embedopt: repository and commit of the embedopt whose workflow is called, ``OWNER/NAME@COMMIT``; empty
            for a workflow that has the commands.
    """

    project: Path
    name: str = ""
    target: Mapping[str, str] = field(default_factory=dict)
    texts: str | None = None
    install: str | None = None
    embedopt: str = ""


def set_up(setup: Setup) -> list[str]:
    """Write what is missing; return a line for each file, written or as it was, and what blocks a merge.

    Raises:
        InputError: ``pyproject.toml`` is no TOML, or can't be added to.
        OutputError: a file can't be written.
    """
    top = _top(setup.project)
    command, tool = _install(setup, top)
    pyproject = setup.project / "pyproject.toml"
    before = pyproject.read_bytes().decode("utf8") if pyproject.exists() else ""
    after = _with_table(pyproject, before, setup, _table(setup, command, top))
    wanted = [
        (setup.project / "benchmarks" / "pytest.ini", PYTEST_INI),
        *([(setup.project / "benchmarks" / "corpus" / "texts.jsonl", setup.texts)] if setup.texts else []),
        (pyproject, after),
    ]
    ci = _gitlab(top)
    if not ci:
        in_ci = f"pipx install {tool} && {command}" if tool else command
        wanted.append(_workflow(setup, top, in_ci))
    lines = [_write(path, content, before if path == pyproject else None) for path, content in wanted]
    ci = ci or _required(wanted[-1][0])
    return [line.replace(f"{top}/", "") for line in (*lines, *ci)]


def _write(path: Path, content: str, before: str | None) -> str:
    """Write a file that is not there, or add to one; return a line that says so."""
    if path.exists() and (before is None or content == before):
        return f"{path} is there, and stays as it is"
    write_whole(path, content, hint="allow this user to write it")
    if not before:
        return f"{path}: written"
    return f"{path}: added {content.removeprefix(before).split(maxsplit=1)[0]}"


def _top(project: Path) -> Path:
    """Return the top of the git repository that holds a folder; the folder itself without one."""
    return next((folder for folder in (project, *project.parents) if (folder / ".git").exists()), project)


def _install(setup: Setup, top: Path) -> tuple[str, str]:
    """Return the command that makes the environment, and the program that it takes; empty for none."""
    if setup.install is not None:
        return setup.install, ""
    if _workspace(setup.project, top):
        return _INSTALLS["uv.lock"]
    names = (name for name in _INSTALLS if (setup.project / name).exists())
    name = next(names, None)
    if name is None or (name == "pyproject.toml" and not _is_package(setup.project / name)):
        return "", ""
    return _INSTALLS[name]


def _is_package(pyproject: Path) -> bool:
    return not {"project", "build-system"}.isdisjoint(tomllib.loads(pyproject.read_text(encoding="utf8")))


def _workspace(project: Path, top: Path) -> Path | None:
    """Return the folder of uv's lock file, which a workspace has at its top."""
    folders = (folder for folder in (project, *project.parents) if folder.is_relative_to(top))
    return next((folder for folder in folders if (folder / "uv.lock").exists()), None)


def _table(setup: Setup, command: str, top: Path) -> str:
    """Return the table of a project, as TOML; what is written as JSON is a string of TOML, too."""
    common = {"install": command, "source": "src" if (setup.project / "src").is_dir() else ""}
    lines = ["[tool.embedopt]", *(_line(key, value) for key, value in common.items() if value)]
    if not setup.target:
        return "\n".join((*lines, "", _EXAMPLE))
    own = dict(setup.target)
    if command and "python" not in own and ("call" in own or "start" in own):
        own["python"] = _python(setup.project, top, command)
    name = (
        setup.name
        if re.fullmatch(r"[\w-]+", setup.name, re.ASCII)
        else json.dumps(setup.name, ensure_ascii=False)
    )
    lines += ["", f"[tool.embedopt.targets.{name}]"]
    return "\n".join((*lines, *(_line(key, value) for key, value in own.items()), ""))


def _line(key: str, value: str) -> str:
    return f"{key} = {json.dumps(value, ensure_ascii=False)}"


def _python(project: Path, top: Path, command: str) -> str:
    """Return where a command makes the interpreter, seen from the project."""
    workspace = _workspace(project, top) if command.startswith("uv ") else None
    up = len(project.relative_to(workspace).parts) if workspace else 0
    return "../" * up + ".venv/bin/python"


def _with_table(file: Path, content: str, setup: Setup, table: str) -> str:
    """Return a pyproject.toml with what it lacks of our table at its end."""
    try:
        tool = tomllib.loads(content).get("tool", {})
        if "embedopt" in tool:
            if not setup.target or setup.name in tool["embedopt"].get("targets", {}):
                return content
            table = table[table.index("[tool.embedopt.targets.") :]
        newline = "\r\n" if "\r\n" in content else "\n"
        gap = "" if not content else newline if content.endswith("\n") else newline * 2
        after = content + gap + table.replace("\n", newline)
        tomllib.loads(after)
    except tomllib.TOMLDecodeError as error:
        raise InputError(
            f"{file} can't be added to ({error}); wanted TOML in which tool is a table: correct it, "
            f"or write into it by hand:\n{table}"
        ) from None
    return after


def _gitlab(top: Path) -> list[str]:
    if not (top / ".gitlab-ci.yml").exists():
        return []
    return [
        ".gitlab-ci.yml stays as it is: docs/how-to-gate-in-ci.md of embedopt has the job for it",
        'to block a merge: set "Pipelines must succeed" in the project\'s settings for merge requests',
    ]


def _required(workflow: Path) -> list[str]:
    """Return a line that names the check of a workflow; none where it is not one of ours."""
    checks = re.findall(r'Make the check "(.+)" a required one', workflow.read_text(encoding="utf8"))
    return [
        f'to block a merge: make the check "{name}" required in GitHub\'s branch protection'
        for name in checks
    ]


def _workflow(setup: Setup, top: Path, install: str) -> tuple[Path, str]:
    """Return place and content of the workflow; one for each folder of a repository."""
    folder = setup.project.relative_to(top).as_posix()
    name = "embedopt" if folder == "." else f"embedopt-{folder.replace('/', '-')}"
    content = (_TEMPLATES / ("reusable.yml" if setup.embedopt else "plain.yml")).read_text(encoding="utf8")
    target = setup.name if setup.target else ""
    repository, _, commit = setup.embedopt.partition("@")
    values = {
        "name": name,
        "workflow": f"{repository}/.github/workflows/gate.yml@{commit}",
        "folder": json.dumps(folder),
        "install": json.dumps(install if setup.embedopt else install or "true"),
        "backends": json.dumps(target),
        "options": f"--embedopt-backends {target} " if target else "",
        "requirement": f"'embedopt[suite]=={importlib.metadata.version('embedopt')}'",
    }
    for key, value in values.items():
        content = content.replace(f"<{key}>", value)
    return top / ".github" / "workflows" / f"{name}.yml", content
