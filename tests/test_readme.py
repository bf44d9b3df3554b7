"""The code and the commands in README and docs run; the README's two first commands run in .ci/run."""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedopt
from embedopt.cli import calibrate
from embedopt.cli.app import app, main
from embedopt.errors import Overloaded
from embedopt.judge.gate.drawn_runs import Drawing
from embedopt.measure.pairs.known_slowdowns import read_samples
from tests.fakes import DIM, FakeEncoder, fake_embedding
from tests.histories import write_history
from tests.repositories import git
from tests.shards import make_shard
from tests.slowdowns import make_samples

ROOT = Path(__file__).parents[1]
PAGES = {
    file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf8")
    for file in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
}
COMMANDS = sorted(
    {
        command
        for page in PAGES.values()
        for command in re.findall(r"^    ((?:embedopt|pytest) .*?)(?:  +#.*)?$", page, re.MULTILINE)
    }
)
SNIPPETS = [block for page in PAGES.values() for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]
# Where the command takes minutes: the same, with less to do.
_SHORTER = {"tune": ["--budget", "0.5"]}


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the snippet defines, on a fake encoder."""
    [code] = [block for block in SNIPPETS if "async def" in block]
    monkeypatch.setattr(embedopt, "load_encoder", lambda name: FakeEncoder(name))
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


@pytest.mark.parametrize("code", [block for block in SNIPPETS if "async def" not in block])
def test_a_snippet_runs(
    code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a fake encoder, which prints another number of dimensions."""
    monkeypatch.setattr(embedopt, "load_encoder", lambda name: FakeEncoder(name))
    exec(compile(code, "README.md", "exec"), {})
    assert f"{DIM}" in capsys.readouterr().out


def test_the_deployment_on_ray_answers_refuses_and_outlives_clients_that_go_away(tmp_path: Path) -> None:
    """On a local Ray, with an encoder that the test holds while the queue fills."""
    pytest.importorskip("ray.serve", reason="ray is not installed: pip install 'embedopt[ray]'")
    [code] = re.findall(r"```python serve\n(.*?)```", PAGES["docs/how-much-load.md"], re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-m", "tests.ray_serve", code, str(tmp_path / "fifo")],
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    answers = [fake_embedding(text).tolist() for text in ("nurse", "welder")]
    expected = {
        "answers": [200, answers],
        "overload": [*[503] * 3, *[200] * 5],
        "gone": 8,
        "load": [1.0, 0.0, 1.0],
    }
    assert lines == [expected], done.stderr


def test_the_pairs_that_error_rates_are_drawn_from_are_kept_beside_the_page() -> None:
    """As many as the page says, of each cell."""
    [collected] = read_samples(ROOT / "docs" / "calibration.json")
    [identical] = {len(sample.pairs) for sample in collected.samples if not sample.slowdown}
    [slowed] = {len(sample.pairs) for sample in collected.samples if sample.slowdown}
    words = f"{identical} of identical sides for each of three backends, and {slowed} of each slow-down"
    assert words in " ".join(PAGES["docs/is-this-change-worse.md"].split())


def test_the_readme_is_for_people_in_a_hurry() -> None:
    """At most 200 lines; no line of a page is over 120 characters."""
    assert PAGES["README.md"].count("\n") <= 200
    lines = [line for page in PAGES.values() for line in page.splitlines()]
    assert [line for line in lines if len(line) > 120 or "@@" in line] == []


def test_links_between_the_pages_lead_somewhere() -> None:
    links = [
        (ROOT / page).parent / link
        for page, text in PAGES.items()
        for link in re.findall(r"\]\(([^)#:]+)\)", text)
    ]
    assert [link for link in links if not link.exists()] == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user is who has measured for a while."""
    monkeypatch.chdir(tmp_path)
    history = write_history(tmp_path / ".benchmarks" / "machine", 12, {}, seed=2)
    for name in ("BASE", "HEAD", "RUN"):
        shutil.copy(history / "0012_run.json", f"{name}.json")
    for name, backend in (("SHARD-1", "onnx-fp32"), ("SHARD-2", "onnx-int8")):
        Path(f"{name}.json").write_text(json.dumps(make_shard(name, backend)[1]), encoding="utf8")
    Path("texts.txt").write_text("welder\nnurse\n", encoding="utf8")
    Path("data").mkdir()
    Path("data", "a.jsonl").write_text('{"id": 1, "text": "welder", "lang": "en"}\n', encoding="utf8")
    return tmp_path


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("embedopt ")])
def test_a_command_runs(
    folder: Path, real_cache: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Of ``calibrate``, the process pairs are made up. Two separate runs decide no time: exit code 5."""
    drawing = partial(Drawing, resamples=2, runs=2, other_tool_runs=2)
    monkeypatch.setattr(calibrate, "Drawing", drawing)
    monkeypatch.setattr(calibrate, "collect_samples", lambda start, plan, *_: make_samples(plan.cells))
    monkeypatch.setenv("EMBEDOPT_CACHE", str(real_cache))
    argv = shlex.split(command)[1:]
    assert main([*argv, *_SHORTER.get(argv[0], [])]) == (5 if argv[0] == "compare" else 0)


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
    if "shop" in command:
        with (clone / "pyproject.toml").open("a", encoding="utf8") as file:
            file.write('[tool.embedopt.targets.shop]\ncall = "shop.embedding:embed"\n')
    (clone / "my-model").symlink_to(tiny_model())
    git(clone, "init", "-q")
    git(clone, "add", ".")
    git(clone, "commit", "-qm", "one")
    argv = [sys.executable, "-m", *shlex.split(command), "--collect-only", "-q"]
    done = subprocess.run(argv, cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ tests? collected", done.stdout)


def test_each_command_of_ours_is_on_a_page() -> None:
    """But for those that only a workflow calls."""
    shown = {shlex.split(command)[1] for command in COMMANDS if command.startswith("embedopt ")}
    known = {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }
    assert known - shown == {"append", "comment"}
