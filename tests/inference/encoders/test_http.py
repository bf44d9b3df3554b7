"""An endpoint answers over HTTP in any of the known formats; what it does wrong is one true line."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedopt.errors import EmbedoptError, MeasureError, Refused
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backends import declare, get_backend
from embedopt.inference.encoders.http import HttpEncoder
from embedopt.inference.targets import declare_targets
from tests.inference.endpoints import API, START, endpoint, in_base64, make_service, rows_of
from tests.inference.projects import make_project
from tests.measure.pairs.stand_ins import has_group_ended

TEXTS = ["welder", "nurse, nights", ""]


@pytest.fixture(autouse=True)
def _only_our_rows() -> Iterator[None]:
    yield
    declare([])


def _open(project: Path) -> HttpEncoder:
    declare_targets(project)
    return HttpEncoder(get_backend("shop"), resolve_weights().path)


def _openai(path: str, body: dict[str, Any]) -> tuple[int, Any]:
    return 200, {"data": [{"embedding": in_base64(row)} for row in rows_of(body["input"])]}


def _at(url: str, folder: Path, **settings: Any) -> HttpEncoder:
    return _open(make_project(folder, call=None, url=url, **settings))


def test_a_server_is_started_waited_for_and_ended(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    with _open(make_service(tmp_path)) as encoder:
        assert encoder.encode(TEXTS).tolist() == rows_of(TEXTS)
        assert (encoder.name, encoder.dim, encoder.pid is not None) == ("shop", 3, True)
        assert encoder._server is not None
        group = encoder._server._process.pid
        assert not has_group_ended(group)
    assert has_group_ended(group)
    with pytest.raises(EmbedoptError, match="the encoder shop is closed"):
        encoder.encode(TEXTS)


@pytest.mark.parametrize(
    ("api", "start", "message"),
    [
        (
            "raise SystemExit('no model here')",
            "python -m shop.api {port}",
            r"^shop: 'python -m shop\.api \d+' ended with 1: no model here; wanted a server on port \d+: men",
        ),
        (
            API,
            "absent-server {port}",
            r"^shop can't start 'absent-server \d+': FileNotFoundError: .*; wanted a",
        ),
    ],
)
def test_a_server_that_does_not_start_is_one_line(tmp_path: Path, api: str, start: str, message: str) -> None:
    with pytest.raises(MeasureError, match=message) as caught:
        _open(make_service(tmp_path, api, start))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "path", "texts", "answer"),
    [
        (
            {},
            "/v1/embeddings",
            "input",
            lambda rows: {"data": [{"embedding": in_base64(row)} for row in rows]},
        ),
        ({}, "/v1/embeddings", "input", lambda rows: {"data": [{"embedding": row} for row in rows]}),
        (
            {},
            "/v1/embeddings",
            "input",
            lambda rows: {"data": [{"index": n, "embedding": row} for n, row in enumerate(rows)][::-1]},
        ),
        ({}, "/embed", "inputs", lambda rows: rows),
        (
            {"body": {"docs": "{texts}", "how": {"pool": "mean"}}, "answer": "result.vectors"},
            "/x",
            "docs",
            None,
        ),
        (
            {"body": {"docs": ["{text}"]}, "answer": "0.v", "max_texts": 1},
            "/x",
            "docs",
            lambda rows: [{"v": rows[0]}],
        ),
    ],
)
def test_each_format_gives_the_embeddings_in_the_order_of_the_texts(
    tmp_path: Path, settings: dict[str, object], path: str, texts: str, answer: Any
) -> None:
    bodies = []

    def respond(asked: str, body: dict[str, Any]) -> tuple[int, Any]:
        bodies.append(body)
        assert asked == path
        return 200, answer(rows_of(body[texts]))

    if answer is None:
        settings = settings | {"answer": "result.vectors.*"}
        answer = lambda rows: {"result": {"vectors": rows}}  # noqa: E731
    with endpoint(respond) as url, _at(url + path, tmp_path, **settings) as encoder:
        assert encoder.encode(TEXTS).tolist() == rows_of(TEXTS)
    if path == "/v1/embeddings":
        assert (bodies[0]["model"], bodies[0]["encoding_format"]) == ("default", "base64")
    if "how" in bodies[0]:
        assert bodies[0]["how"] == {"pool": "mean"}


def test_requests_keep_to_the_limits_and_go_out_together(tmp_path: Path) -> None:
    sizes = []
    together = threading.Barrier(2, timeout=20)

    def respond(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        sizes.append(len(body["input"]))
        if "a b c d e" in body["input"]:
            together.wait()
        return _openai(path, body)

    texts = ["a b c d e", "x y", "a b c d e", "z"]  # 7, 4, 7 and 3 tokens
    with endpoint(respond) as url:
        with _at(f"{url}/v1/embeddings", tmp_path, max_texts=2, concurrency=2) as encoder:
            assert encoder.encode(texts).tolist() == rows_of(texts)
            assert [batch.tolist() for batch in encoder.plan(texts).batches] == [[0, 1], [2, 3]]
            assert (encoder.plan(texts).replicas, encoder.replicas) == (2, 2)
        with _at(f"{url}/v1/embeddings", tmp_path, max_tokens=8, concurrency=1) as encoder:
            assert [batch.tolist() for batch in encoder.plan(texts).batches] == [[0], [1], [2], [3]]
            assert [batch.tolist() for batch in encoder.plan(texts[1::2]).batches] == [[0, 1]]
    assert sizes == [1, 2, 2, 1]


@pytest.mark.parametrize(
    ("status", "values", "kind", "message"),
    [
        (
            429,
            {"error": "slow down"},
            Refused,
            r"^shop refused a request with 429: \{\"error\": \"slow down\"\}; wanted an answer with up to 8",
        ),
        (503, b"busy", Refused, r"^shop refused a request with 503: busy; wanted an answer with up to 8 req"),
        (
            413,
            b"batch size 2 > 1",
            MeasureError,
            r"^shop answered a request of 2 texts with 413: batch size 2 > 1; w",
        ),
        (
            500,
            b"boom\nat",
            MeasureError,
            r"^shop answered a request of 2 texts with 500: boom at; wanted 200: corr",
        ),
        (
            200,
            b"<html>",
            MeasureError,
            r"^shop answered '<html>' \(JSONDecodeError: .*\); wanted an embedding for e",
        ),
        (
            200,
            {"data": 3},
            MeasureError,
            r"^shop answered .* \(TypeError: int in the place of a list\); wanted an em",
        ),
        (
            200,
            {"rows": []},
            MeasureError,
            r"^shop answered .* \(KeyError: 'data'\); wanted an embedding for each tex",
        ),
        (
            200,
            {"data": [{"embedding": [1.0, 2.0, 3.0]}]},
            MeasureError,
            r"^shop gave numbers of shape \(1, 3\) for 2 texts; wanted \(2, 3\), an embedding for each text",
        ),
        (
            200,
            {"data": [{"embedding": [1.0]}, {"embedding": [1.0, 2.0]}]},
            MeasureError,
            r"^shop answered .* \(ValueError: all input arrays must have the same shape\); wanted an embeddi",
        ),
        (
            200,
            {"data": [{"embedding": [1.0, 2.0]}] * 2},
            MeasureError,
            r"^shop gave numbers of shape \(2, 2\) for 2 texts; wanted \(2, 3\), an embedding for each text",
        ),
        (
            200,
            {"data": [{"embedding": [1.0, float("nan"), 2.0]}] * 2},
            MeasureError,
            r"^shop gave NaN or infinity for 'a'; wanted numbers: mend it, or leave shop out$",
        ),
    ],
)
def test_a_refusal_is_no_error_and_an_error_is_one_line(
    tmp_path: Path, status: int, values: Any, kind: type[EmbedoptError], message: str
) -> None:
    def respond(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        return (status, values) if len(body["input"]) == 2 else _openai(path, body)

    with endpoint(respond) as url, _at(f"{url}/v1/embeddings", tmp_path) as encoder:
        with pytest.raises(kind, match=message) as caught:
            encoder.encode(["a", "b"])
        assert "\n" not in str(caught.value)
        assert encoder.encode(["welder"]).tolist() == rows_of(["welder"])


def test_an_endpoint_that_drops_a_text_of_one_request_is_one_line(tmp_path: Path) -> None:
    def respond(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        status, values = _openai(path, body)
        return status, {"data": values["data"][: 1 if "nurse" in body["input"] else None]}

    with (
        endpoint(respond) as url,
        _at(f"{url}/v1/embeddings", tmp_path, max_texts=2) as encoder,
        pytest.raises(MeasureError, match=r"^shop gave numbers of shape \(1, 3\) for 2 texts; wanted \(2, 3"),
    ):
        encoder.encode(["a", "b", "c", "nurse"])


def test_an_endpoint_that_is_slow_or_away_is_one_line(tmp_path: Path) -> None:
    stop = threading.Event()

    def respond(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if len(body["input"]) == 2:
            stop.wait(20)
        return _openai(path, body)

    with endpoint(respond) as url, _at(f"{url}/v1/embeddings", tmp_path, timeout_s=1) as encoder:
        with pytest.raises(
            MeasureError, match=r"^shop gave no answer for 1 s; wanted one from http://.*: raise tim"
        ):
            encoder.encode(["a", "b"])
        stop.set()
    with pytest.raises(
        MeasureError, match=r"^shop can't be reached at http://.*: ConnectError: .*is it running\?"
    ):
        _at(f"{url}/v1/embeddings", tmp_path)


def test_a_key_comes_from_the_environment_and_stands_in_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []

    def respond(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        keys.append(body["headers"]["Authorization"])
        return _openai(path, body)

    with endpoint(respond) as url:
        with pytest.raises(
            MeasureError, match=r"^shop takes its key from SHOP_KEY, which is not set: set it$"
        ):
            _at(f"{url}/v1/embeddings", tmp_path, key_variable="SHOP_KEY")
        monkeypatch.setenv("SHOP_KEY", "secret")
        _at(f"{url}/v1/embeddings", tmp_path, key_variable="SHOP_KEY").close()
    assert keys == ["Bearer secret"]
    assert "secret" not in str(get_backend("shop").open_options)


def test_sentence_transformers_behind_fastapi(tmp_path: Path, tiny_model: Any) -> None:
    """A service as teams write them gives the vectors of the library."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    from sentence_transformers import SentenceTransformer

    api = f"""
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

model, app = SentenceTransformer({str(tiny_model())!r}, device="cpu"), FastAPI()

class Request(BaseModel):
    inputs: list[str]

@app.post("/embed")
def embed(request: Request):
    return model.encode(request.inputs, normalize_embeddings=True).tolist()
"""
    service = make_service(tmp_path, api, START, url="http://127.0.0.1:{port}/embed")
    with _open(service) as encoder:
        answers = encoder.encode(TEXTS)
    expected = SentenceTransformer(str(tiny_model()), device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert np.abs(answers - expected).max() < 1e-6
