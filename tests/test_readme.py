"""The code that the README shows runs."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedopt
from embedopt.errors import Overloaded
from tests.fakes import FakeEncoder, fake_embedding

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf8")


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

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": text.encode(), "more_body": False}

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
