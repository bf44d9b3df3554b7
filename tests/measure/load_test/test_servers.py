"""The servers that adaptive batching is compared with answer each its own, and refuse what is too much."""

import threading

import numpy as np
import pytest

from embedopt.errors import Overloaded
from embedopt.inference.encoder import FloatArray
from embedopt.measure.load_test import servers as servers_module
from embedopt.measure.load_test.servers import BATCHINGS, Batching, WindowServer, open_server
from embedopt.serving.batcher import AdaptiveBatcher
from tests.fakes import FakeEncoder, fake_embedding


@pytest.mark.parametrize("batching", BATCHINGS)
@pytest.mark.parametrize("replicas", [1, 2])
def test_every_server_answers_each_its_own(batching: Batching, replicas: int) -> None:
    encoder = FakeEncoder()
    encoder.replicas = replicas
    server = open_server(batching, encoder, 1e6)
    futures = [server.submit(f"text {number}") for number in range(70)]
    server.close()
    for number, future in enumerate(futures):
        np.testing.assert_array_equal(future.result(timeout=0), fake_embedding(f"text {number}"))


def test_without_batching_each_text_is_encoded_alone() -> None:
    encoder = FakeEncoder()
    server = open_server("none", encoder, 50.0)
    for number in range(5):
        server.submit(str(number))
    server.close()
    assert encoder.calls == [[str(number)] for number in range(5)]


def test_a_window_is_full_at_its_number_of_texts() -> None:
    """However long it is: the rest comes when the server is closed."""
    encoder = FakeEncoder()
    server = WindowServer(encoder, 2, 1e6)
    for number in range(5):
        server.submit(str(number))
    server.close()
    assert encoder.calls == [["0", "1"], ["2", "3"], ["4"]]


def test_a_window_ends_after_its_time() -> None:
    server = WindowServer(FakeEncoder(), 32, 0.0)
    np.testing.assert_array_equal(server.submit("a").result(timeout=60), fake_embedding("a"))
    server.close()


def test_the_seed_studys_window() -> None:
    assert (servers_module.WINDOW_TEXTS, servers_module.WINDOW_S) == (32, 0.05)


def test_a_full_queue_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers_module, "_MAX_WAITING", 2)
    go_on, inside = threading.Event(), threading.Event()

    def wait(_: int) -> None:
        inside.set()
        assert go_on.wait(timeout=60)

    server = WindowServer(FakeEncoder(on_encode=wait), 1, 0.0)
    futures = [server.submit("a")]
    assert inside.wait(timeout=60)
    futures += [server.submit("b"), server.submit("c")]
    with pytest.raises(Overloaded, match=r"^2 requests wait; wanted fewer than that: try again later$"):
        server.submit("d")
    go_on.set()
    for future in futures:
        future.result(timeout=60)
    server.close()


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit("no")])
def test_an_error_reaches_those_who_wait_and_the_server_goes_on(error: BaseException) -> None:
    errors = [error]

    def fail_once(_: int) -> None:
        if errors:
            raise errors.pop()

    server = open_server("none", FakeEncoder(on_encode=fail_once), 50.0)
    futures = [server.submit("a"), server.submit("b")]
    assert futures[0].exception(timeout=60) is error
    np.testing.assert_array_equal(futures[1].result(timeout=60), fake_embedding("b"))
    server.close()


def test_a_result_of_the_wrong_length_is_nobodys_answer() -> None:
    class ShortEncoder(FakeEncoder):
        def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
            return super()._encode(texts, batch_size)[:-1]

    server = WindowServer(ShortEncoder(), 2, 1e6)
    futures = [server.submit("a"), server.submit("b")]
    assert [type(future.exception(timeout=60)) for future in futures] == [ValueError, ValueError]
    server.close()


def test_a_cancelled_request_is_left_out_and_the_server_goes_on() -> None:
    go_on, inside = threading.Event(), threading.Event()

    def wait(_: int) -> None:
        inside.set()
        assert go_on.wait(timeout=60)

    encoder = FakeEncoder(on_encode=wait)
    server = WindowServer(encoder, 2, 0.0)
    first = server.submit("a")
    assert inside.wait(timeout=60)
    cancelled, last = [server.submit(text) for text in ("b", "c", "d")], server.submit("e")
    assert [future.cancel() for future in cancelled] == [True] * 3
    go_on.set()
    np.testing.assert_array_equal(first.result(timeout=60), fake_embedding("a"))
    np.testing.assert_array_equal(last.result(timeout=60), fake_embedding("e"))
    server.close()
    assert encoder.calls == [["a"], ["e"]]


def test_adaptive_batching_is_held_to_the_promise() -> None:
    server = open_server("adaptive", FakeEncoder(), 70.0)
    assert isinstance(server, AdaptiveBatcher)
    assert server.limits.promise_ms == 70.0
    server.close()
