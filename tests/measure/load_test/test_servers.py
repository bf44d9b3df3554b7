"""Each server answers every request with its own embedding, and refuses requests when its queue is full."""

import threading
from pathlib import Path

import numpy as np
import pytest

from embedopt.errors import Overloaded, Refused
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backends import declare, get_backend
from embedopt.inference.encoders.http import HttpEncoder
from embedopt.inference.targets import declare_targets
from embedopt.measure.load_test import servers as servers_module
from embedopt.measure.load_test.open_loop import Traffic, drive
from embedopt.measure.load_test.servers import (
    BATCHINGS,
    Batching,
    EndpointServer,
    WindowServer,
    batchings_of,
    open_server,
)
from embedopt.serving.batcher import AdaptiveBatcher
from tests.fakes import FakeClock, FakeEncoder
from tests.inference.endpoints import API, make_service, rows_of
from tests.serving.stand_ins import Gate, ShortEncoder, is_answer


@pytest.mark.parametrize("batching", BATCHINGS)
@pytest.mark.parametrize("replicas", [1, 2])
def test_every_server_answers_each_request_with_its_own_embedding(batching: Batching, replicas: int) -> None:
    encoder = FakeEncoder()
    encoder.replicas = replicas
    server = open_server(batching, encoder, 1e6)
    futures = [server.submit(f"text {number}") for number in range(70)]
    server.close()
    assert all(is_answer(future, f"text {number}") for number, future in enumerate(futures))


def test_without_batching_each_text_is_encoded_alone() -> None:
    encoder = FakeEncoder()
    server = open_server("none", encoder, 50.0)
    for number in range(5):
        server.submit(str(number))
    server.close()
    assert encoder.calls == [[str(number)] for number in range(5)]


def test_a_window_closes_at_its_number_of_texts() -> None:
    """However long the window is; the rest is encoded when the server is closed."""
    encoder = FakeEncoder()
    server = WindowServer(encoder, 2, 1e6)
    for number in range(5):
        server.submit(str(number))
    server.close()
    assert encoder.calls == [["0", "1"], ["2", "3"], ["4"]]


def test_a_window_closes_after_its_time() -> None:
    server = WindowServer(FakeEncoder(), 32, 0.0)
    assert is_answer(server.submit("a"), "a", timeout_s=60)
    server.close()


def test_a_full_queue_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers_module, "_MAX_WAITING", 2)
    gate = Gate()
    server = WindowServer(FakeEncoder(on_encode=gate), 1, 0.0)
    futures = [server.submit("a")]
    gate.wait_until_reached()
    futures += [server.submit("b"), server.submit("c")]
    with pytest.raises(Overloaded, match=r"^2 requests are waiting; wanted fewer than 2: try again later$"):
        server.submit("d")
    gate.open()
    for future in futures:
        future.result(timeout=60)
    server.close()


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit("no")])
def test_an_error_reaches_those_who_wait_and_the_server_keeps_working(error: BaseException) -> None:
    errors = [error]

    def fail_once(_: int) -> None:
        if errors:
            raise errors.pop()

    server = open_server("none", FakeEncoder(on_encode=fail_once), 50.0)
    futures = [server.submit("a"), server.submit("b")]
    assert futures[0].exception(timeout=60) is error
    assert is_answer(futures[1], "b", timeout_s=60)
    server.close()


def test_a_result_of_the_wrong_length_fails_the_whole_batch() -> None:
    server = WindowServer(ShortEncoder(), 2, 1e6)
    futures = [server.submit("a"), server.submit("b")]
    assert [type(future.exception(timeout=60)) for future in futures] == [ValueError, ValueError]
    server.close()


def test_a_cancelled_request_is_left_out_and_the_server_keeps_working() -> None:
    gate = Gate()
    encoder = FakeEncoder(on_encode=gate)
    server = WindowServer(encoder, 2, 0.0)
    first = server.submit("a")
    gate.wait_until_reached()
    cancelled, last = [server.submit(text) for text in ("b", "c", "d")], server.submit("e")
    assert [future.cancel() for future in cancelled] == [True] * 3
    gate.open()
    assert is_answer(first, "a", timeout_s=60)
    assert is_answer(last, "e", timeout_s=60)
    server.close()
    assert encoder.calls == [["a"], ["e"]]


def test_adaptive_batching_gets_the_promise() -> None:
    server = open_server("adaptive", FakeEncoder(), 70.0)
    assert isinstance(server, AdaptiveBatcher)
    assert server.limits.promise_ms == 70.0
    server.close()


def test_an_endpoint_gets_each_text_as_a_request_and_as_many_at_a_time_as_come() -> None:
    together = threading.Barrier(20, timeout=60)
    encoder = FakeEncoder(on_encode=lambda _: together.wait())
    encoder.is_endpoint = True
    server = open_server(batchings_of(encoder)[-1], encoder, 50.0)
    futures = [server.submit(f"text {number}") for number in range(20)]
    assert all(is_answer(future, f"text {number}", timeout_s=60) for number, future in enumerate(futures))
    server.close()
    assert sorted(encoder.calls) == sorted([[f"text {number}"] for number in range(20)])


def test_what_an_endpoint_answers_is_the_answer_to_the_request() -> None:
    error = Refused("429")

    def refuse(_: int) -> None:
        raise error

    clock = FakeClock()
    clock.advance(7.0)
    server = EndpointServer(FakeEncoder(on_encode=refuse), clock)
    request = server.submit("a")
    assert request.exception(timeout=60) is error
    assert request.sent_s == clock()
    server.close()


# Holds four requests, until it has refused two others.
_FULL = API.replace(
    '    rows = embed(request["input"])\n',
    """
    if request["input"][0].startswith("held"):
        if len(held) == 4:
            refused.append(request)
            if len(refused) == 2:
                full.set()
            await send({"type": "http.response.start", "status": 503, "headers": []})
            return await send({"type": "http.response.body", "body": b"full"})
        held.append(request)
        await full.wait()
    rows = embed(request["input"])
""",
).replace("async def app", "import asyncio\nheld, refused, full = [], [], asyncio.Event()\n\nasync def app")


def test_a_real_server_answers_right_and_refuses_with_503_what_is_beyond_its_capacity(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    texts = [f"held {number}" for number in range(6)]
    declare_targets(make_service(tmp_path, _FULL))
    try:
        encoder = HttpEncoder(get_backend("shop"), resolve_weights().path)
    finally:
        declare([])
    with encoder:
        server = open_server(batchings_of(encoder)[-1], encoder, 60_000.0)
        traffic = Traffic(texts=texts, promise_ms=60_000.0, alone=np.asarray(rows_of(texts)))
        point = drive(server, np.arange(6) / 1e4, traffic)
        server.close()
    assert (point.refused_share, point.kept_share, point.lost) == (2 / 6, 4 / 6, 0)
    assert point.worst_cosine == pytest.approx(1.0)
