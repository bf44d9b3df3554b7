"""Three ways to serve single requests from one encoder: without batching, in fixed windows, adaptively."""

import threading
import time
from concurrent.futures import Future
from queue import Empty, Full, Queue
from typing import Literal, Protocol, get_args

from embedopt.errors import Overloaded
from embedopt.inference.encoder import Encoder, FloatArray
from embedopt.serving.batcher import AdaptiveBatcher
from embedopt.serving.policy import Limits

Batching = Literal["none", "window", "adaptive"]
BATCHINGS: tuple[Batching, ...] = get_args(Batching)

# The batcher of the seed study.
WINDOW_TEXTS, WINDOW_S = 32, 0.05
_MAX_WAITING = Limits().max_waiting

_Request = tuple[str, "Future[FloatArray]"]


class Server(Protocol):
    """Answers single texts, and is the target of a load test."""

    def submit(self, text: str) -> "Future[FloatArray]":
        """Queue a text and return at once; raise :class:`Overloaded` to refuse it."""
        ...

    def close(self) -> None:
        """Answer what waits, and stop."""
        ...


class WindowServer:
    """Server whose batch closes at a number of texts, or seconds after its first, whichever is earlier.

    One batch gathers at a time, and each replica of the encoder encodes one at a time. With one text in a
    batch, this is a server without batching.
    """

    def __init__(self, encoder: Encoder, texts: int, window_s: float) -> None:
        self._encoder, self._texts, self._window_s = encoder, texts, window_s
        self._queue: Queue[_Request | None] = Queue(_MAX_WAITING)
        self._gathering = threading.Lock()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(encoder.replicas)]
        for thread in self._threads:
            thread.start()

    def submit(self, text: str) -> "Future[FloatArray]":
        """See :class:`Server`."""
        future: Future[FloatArray] = Future()
        try:
            self._queue.put_nowait((text, future))
        except Full:
            raise Overloaded(
                f"{_MAX_WAITING} requests are waiting; wanted fewer than {_MAX_WAITING}: try again later"
            ) from None
        return future

    def _work(self) -> None:
        while gathered := self._gather():
            if batch := [request for request in gathered if request[1].set_running_or_notify_cancel()]:
                self._answer(batch)

    def _answer(self, batch: list[_Request]) -> None:
        texts, futures = zip(*batch, strict=True)
        try:
            embeddings = self._encoder.encode_as_one_batch(texts)
            answers = list(zip(futures, embeddings, strict=True))
        except BaseException as error:  # whatever it is, it becomes the answer
            for future in futures:
                future.set_exception(error)
        else:
            for future, embedding in answers:
                future.set_result(embedding)

    def _gather(self) -> list[_Request]:
        """Return the next batch; an empty one when the server is closed."""
        batch: list[_Request] = []
        with self._gathering:
            ends_s = float("inf")
            while len(batch) < self._texts:
                try:
                    left_s = max(ends_s - time.perf_counter(), 0.0) if batch else None
                    request = self._queue.get(timeout=left_s)
                except Empty:
                    break
                if request is None:
                    self._queue.put(None)  # for the next thread
                    break
                if not batch:
                    ends_s = time.perf_counter() + self._window_s
                batch.append(request)
        return batch

    def close(self) -> None:
        """See :class:`Server`."""
        self._queue.put(None)
        for thread in self._threads:
            thread.join()


def open_server(batching: Batching, encoder: Encoder, promise_ms: float) -> Server:
    """Start a server on an encoder, which stays open when the server is closed."""
    match batching:
        case "none":
            return WindowServer(encoder, 1, 0.0)
        case "window":
            return WindowServer(encoder, WINDOW_TEXTS, WINDOW_S)
        case "adaptive":
            return AdaptiveBatcher(encoder, Limits(promise_ms=promise_ms))
