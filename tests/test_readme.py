"""The code and the commands that the README shows run, and its two first commands run in .ci/run."""

import asyncio
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedopt
from embedopt.cli.app import main
from embedopt.errors import Overloaded
from tests.fakes import FakeEncoder, fake_embedding
from tests.histories import write_history
from tests.repositories import git
from tests.shards import make_shard

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf8")
COMMANDS = re.findall(r"^    ((?:embedopt|pytest) .*?)(?:  +#.*)?$", README, re.MULTILINE)
# Where the README's command takes minutes: the same, with less to do.
_SHORTER = {"tune": ["--budget", "0.5"]}


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the snippet defines, on a fake encoder."""
    [code] = [
        block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "async def" in block
    ]
    monkeypatch.setattr(embedopt, "load_encoder", lambda name, mode: FakeEncoder(f"{name} {mode}"))
    defined: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), defined)
    yield defined
    defined["batcher"].close()


def _ask(handler: dict[str, Any], text: str) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    parts = [text.encode()[:3], text.encode()[3:]]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(handler["app"]({"type": "http"}, receive, send))
    return sent


def test_the_handler_answers_with_an_embedding(handler: dict[str, Any]) -> None:
    start, body = _ask(handler, "nurse in Zürich")
    assert start == {"type": "http.response.start", "status": 200, "headers": []}
    np.testing.assert_array_equal(np.frombuffer(body["body"], np.float32), fake_embedding("nurse in Zürich"))


def test_the_handler_says_when_it_is_overloaded(
    handler: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(text: str, timeout_s: float | None = None) -> None:
        raise Overloaded("try again later")

    monkeypatch.setattr(handler["batcher"], "submit", refuse)
    start, body = _ask(handler, "nurse")
    assert (start["status"], body["body"]) == (503, b"try again later")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user is who has measured for a while."""
    monkeypatch.chdir(tmp_path)
    history = write_history(tmp_path / ".benchmarks" / "machine", 12, {}, seed=2)
    for name in ("BASE", "HEAD", "RUN"):
        shutil.copy(history / "0012_run.json", f"{name}.json")
    for name, backend in (("SHARD-1", "onnx-fp32"), ("SHARD-2", "onnx-int8")):
        Path(f"{name}.json").write_text(json.dumps(make_shard(name, backend).content), encoding="utf8")
    Path("texts.txt").write_text("welder\nnurse\n", encoding="utf8")
    return tmp_path


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("embedopt ")])
def test_a_command_runs(
    folder: Path, real_cache: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("EMBEDOPT_CACHE", str(real_cache))
    argv = shlex.split(command)[1:]
    assert main([*argv, *_SHORTER.get(argv[0], [])]) == 0


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("pytest ")])
def test_a_run_of_the_suite_finds_its_benchmarks(
    tmp_path: Path, tiny_model: Callable[..., Path], command: str
) -> None:
    """Other tests run them; here it counts that the options are understood."""
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("benchmarks", "embedopt"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, clone)
    (clone / "my-model").symlink_to(tiny_model())
    git(clone, "init", "-q")
    git(clone, "add", ".")
    git(clone, "commit", "-qm", "one")
    argv = [sys.executable, "-m", *shlex.split(command), "--collect-only", "-q"]
    done = subprocess.run(argv, cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ tests collected", done.stdout, re.MULTILINE)


def test_the_commands_are_found() -> None:
    assert len(COMMANDS) == 13
