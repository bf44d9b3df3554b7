"""Ways to serve single requests from one encoder: without batching, in fixed windows, adaptively.

An endpoint, which is a server already, gets them as they are.
"""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, Full, Queue
from typing import Literal, Protocol

from embedopt.clock import Clock
from embedopt.errors import Overloaded
from embedopt.inference.encoder import Encoder, FloatArray
from embedopt.serving.batcher import AdaptiveBatcher
from embedopt.serving.policy import Limits

Batching = Literal["none", "window", "adaptive", "own"]
BATCHINGS: tuple[Batching, ...] = ("none", "window", "adaptive")

# The batcher of the seed study.
WINDOW_TEXTS, WINDOW_S = 32, 0.05
_MAX_WAITING = Limits().max_waiting
# Each has a thread and a connection, and a process may open 1,024 files.
_MOST_SENT = 256

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


class SentRequest(Future[FloatArray]):
    """A request that a thread of its own sends, at ``sent_s`` by the clock."""

    sent_s: float | None = None


class EndpointServer:
    """An endpoint as it is: each text is a request of its own, sent at once, up to 256 at a time."""

    def __init__(self, encoder: Encoder, clock: Clock = time.perf_counter) -> None:
        self._encoder, self._clock = encoder, clock
        self._threads = ThreadPoolExecutor(_MOST_SENT, "embedopt-sender")

    def submit(self, text: str) -> SentRequest:
        """See :class:`Server`."""
        request = SentRequest()
        self._threads.submit(self._send, text, request)
        return request

    def _send(self, text: str, request: SentRequest) -> None:
        request.sent_s = self._clock()
        try:
            [embedding] = self._encoder.encode([text])
        except BaseException as error:  # whatever it is, it becomes the answer
            request.set_exception(error)
        else:
            request.set_result(embedding)

    def close(self) -> None:
        """See :class:`Server`; requests that were not sent yet are dropped."""
        self._threads.shutdown(cancel_futures=True)


def batchings_of(encoder: Encoder) -> tuple[Batching, ...]:
    """Return the ways in which a load test serves an encoder: an endpoint has its own."""
    return ("own",) if encoder.is_endpoint else BATCHINGS


def open_server(batching: Batching, encoder: Encoder, promise_ms: float) -> Server:
    """Start a server on an encoder, which stays open when the server is closed."""
    match batching:
        case "none":
            return WindowServer(encoder, 1, 0.0)
        case "window":
            return WindowServer(encoder, WINDOW_TEXTS, WINDOW_S)
        case "adaptive":
            return AdaptiveBatcher(encoder, Limits(promise_ms=promise_ms))
        case "own":
            return EndpointServer(encoder)
