"""Adaptive batching: single requests in, batches to the encoder, each answer to the one who asked.

The law of this file: a request that was accepted gets exactly one answer, its own. It is in the queue or in
one thread's batch, never in both, and only the thread that took it out of the queue answers it.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from embedopt.errors import EmbedoptError, Overloaded
from embedopt.inference.batch_policy import (
    Backlog,
    Cost,
    Limits,
    expected_latency_s,
    hopeless,
    learned_room_s,
    pick,
)
from embedopt.inference.encoder import Encoder, FloatArray, check_texts

Clock = Callable[[], float]

# Words in the batches that a new batcher encodes to learn what they cost; each is encoded twice.
_CALIBRATION = ((4, 1), (48, 1), (16, 8))


@dataclass(slots=True, eq=False)
class _Request:
    text: str
    tokens: int  # a guess until a worker has counted them
    arrived_s: float
    due_s: float
    deadline_s: float
    counted: bool = False
    future: "Future[FloatArray]" = field(default_factory=Future)


class AdaptiveBatcher:
    """Puts single requests into batches while the encoder is busy, and never makes one wait when it is not.

    Safe to call from any number of threads and event loops; none of them is ever blocked by the encoder. One
    thread a replica encodes: load the encoder with ``mode="throughput"`` for one replica a core. Closing the
    batcher leaves the encoder open.

    Args:
        encoder: any encoder.
        limits: what the batcher promises and bounds.
        cost: what a batch costs, if known; None to encode a few made-up texts now and see.
        clock: seconds.
        start: False for a batcher without threads, which encodes when :meth:`step` is called.
    """

    def __init__(
        self,
        encoder: Encoder,
        limits: Limits | None = None,
        *,
        cost: Cost | None = None,
        clock: Clock = time.perf_counter,
        start: bool = True,
    ) -> None:
        self.limits = limits or Limits()
        self._encoder = encoder
        self._clock = clock
        self._cost = _calibrated(encoder, clock) if cost is None else cost
        self._room_s = self.limits.promise_s
        self._changed = threading.Condition()  # guards all that follows
        self._waiting: list[_Request] = []
        self._waiting_tokens = 0
        self._usual_tokens = 16.0
        self._busy_until_s = [-math.inf] * encoder.replicas
        self._closed = False
        self._threads = [
            threading.Thread(
                target=self._work, args=(replica,), name=f"embedopt-batcher-{replica}", daemon=True
            )
            for replica in range(encoder.replicas if start else 0)
        ]
        for thread in self._threads:
            thread.start()

    async def embed(self, text: str, timeout_s: float | None = None) -> FloatArray:
        """Embed a text: ``(dim,) float32``. Cancelling the task drops the request. See :meth:`submit`."""
        return await asyncio.wrap_future(self.submit(text, timeout_s))

    def submit(self, text: str, timeout_s: float | None = None) -> "Future[FloatArray]":
        """Queue a text and return at once.

        Args:
            text: of any length; what exceeds the model's limit is cut off.
            timeout_s: seconds from now after which the answer is of no use; None for no such time.

        Returns:
            The future ``(dim,) float32``, L2-normalised. It fails with :class:`Overloaded` when the time has
            become too short, with the encoder's own error when the encoder can't embed this text, and with
            :class:`EmbedoptError` when the batcher is closed without draining.

        Raises:
            Overloaded: the queue is full, or the answer would come later than promised or wanted.
            InputError: ``text`` is no string or not valid Unicode.
            EmbedoptError: the batcher is closed.
        """
        check_texts([text])
        with self._changed:
            if self._closed:
                raise EmbedoptError("the batcher is closed: make a new one")
            request = self._admitted(text, math.inf if timeout_s is None else timeout_s)
            self._waiting.append(request)
            self._waiting_tokens += request.tokens
            self._changed.notify()
        return request.future

    def _admitted(self, text: str, timeout_s: float) -> _Request:
        if len(self._waiting) >= self.limits.max_waiting:
            self._forget_cancelled()
        if len(self._waiting) >= self.limits.max_waiting:
            raise Overloaded(f"{len(self._waiting)} requests wait; wanted fewer than that: try again later")
        now_s, tokens = self._clock(), math.ceil(self._usual_tokens)
        expected_s = self._expected_s(tokens, now_s)
        idle = not self._waiting and min(self._busy_until_s) == -math.inf
        room_s = min(timeout_s, math.inf if idle else self._room_s)
        if expected_s > room_s:
            raise Overloaded(
                f"an answer would take {expected_s * 1e3:.0f} ms; wanted {room_s * 1e3:.0f}: try again later"
            )
        due_s, deadline_s = now_s + min(self.limits.promise_s, timeout_s), now_s + timeout_s
        return _Request(text, tokens, now_s, due_s, deadline_s)

    def _expected_s(self, tokens: int, now_s: float) -> float:
        busy_s = sum(max(until_s - now_s, 0.0) for until_s in self._busy_until_s)
        backlog = Backlog(waiting_tokens=self._waiting_tokens, busy_s=busy_s, replicas=self._encoder.replicas)
        return expected_latency_s(tokens, backlog, self._cost, self.limits)

    def _forget_cancelled(self) -> None:
        self._keep([request for request in self._waiting if not request.future.cancelled()])

    def _keep(self, requests: list[_Request]) -> None:
        self._waiting = requests
        self._waiting_tokens = sum(request.tokens for request in requests)

    def _work(self, replica: int) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
            self.step(replica)

    def step(self, replica: int = 0) -> int:
        """Encode the next batch on this thread and return how many requests were settled."""
        self._count_tokens()
        batch, refused = self._take(replica)
        for request in refused:
            request.future.set_exception(Overloaded("there is no time left to answer: try again later"))
        if batch:
            started_s = self._clock()
            went_well = self._answer(batch)
            self._learn(replica, batch, started_s, went_well=went_well)
        return len(batch) + len(refused)

    def _count_tokens(self) -> None:
        # Not when a request comes: a tokenizer may take long, or be held by a batch.
        with self._changed:
            fresh = [request for request in self._waiting if not request.counted]
            for request in fresh:
                request.counted = True
        if not fresh:
            return
        try:
            texts = self._encoder.tokenized([request.text for request in fresh])
            counts = self._encoder.token_counts(texts).tolist()
            counted = list(zip(fresh, texts, counts, strict=True))
        except BaseException:  # the guesses stand; if a text is to blame, encoding it says so to its owner
            return
        with self._changed:
            for request, text, tokens in counted:
                request.text, request.tokens = text, max(tokens, 1)
                self._usual_tokens += 0.02 * (request.tokens - self._usual_tokens)
            self._keep(self._waiting)

    def _take(self, replica: int) -> tuple[list[_Request], list[_Request]]:
        """Take what to encode and what to refuse out of the queue; none of it can be cancelled any more."""
        with self._changed:
            self._forget_cancelled()
            now_s = self._clock()
            refused = {request for request in self._waiting if hopeless(request, now_s, self._cost)}
            batch = self._next_batch([request for request in self._waiting if request not in refused])
            taken = refused.union(batch)
            self._keep([request for request in self._waiting if request not in taken])
            batch = [request for request in batch if request.future.set_running_or_notify_cancel()]
            too_late = [request for request in refused if request.future.set_running_or_notify_cancel()]
            if batch:
                self._busy_until_s[replica] = now_s + self._cost.seconds(_padded(batch))
        return batch, too_late

    def _next_batch(self, waiting: list[_Request]) -> list[_Request]:
        if not waiting:
            return []
        free = max(1, self._busy_until_s.count(-math.inf))
        return [waiting[index] for index in pick(waiting, free, self._cost, self.limits)]

    def _answer(self, batch: list[_Request]) -> bool:
        """Answer each request of a batch; return whether the first attempt went well."""
        try:
            embeddings = self._encoder.encode([request.text for request in batch], batch_size=len(batch))
            returned = len(embeddings)
        except BaseException as error:  # whatever it is, it goes to those who wait
            if len(batch) == 1:
                batch[0].future.set_exception(error)
            else:
                for request in batch:
                    self._answer([request])
            return False
        if returned != len(batch):
            for request in batch:
                request.future.set_exception(_wrong_length(self._encoder.name, returned, len(batch)))
            return False
        for request, embedding in zip(batch, embeddings, strict=True):
            request.future.set_result(embedding.copy())  # else one answer keeps the whole batch in memory
        return True

    def _learn(self, replica: int, batch: Sequence[_Request], started_s: float, *, went_well: bool) -> None:
        ended_s = self._clock()
        with self._changed:
            self._busy_until_s[replica] = -math.inf
            if not went_well:  # how long a failure takes says nothing of the next batch
                return
            self._cost = self._cost.learned(_padded(batch), ended_s - started_s)
            latencies_s = [ended_s - request.arrived_s for request in batch]
            self._room_s = learned_room_s(self._room_s, latencies_s, self.limits)

    def close(self, *, drain: bool = True) -> None:
        """Take no more requests, and wait until the last batch is answered. Closing twice is harmless.

        Args:
            drain: whether what waits is encoded; else it is refused.
        """
        with self._changed:
            self._closed = True
            refused = [] if drain else self._waiting
            if not drain:
                self._keep([])
            self._changed.notify_all()
        for request in refused:
            if request.future.set_running_or_notify_cancel():
                request.future.set_exception(EmbedoptError("the batcher was closed before this was encoded"))
        while not self._threads and self._waiting:
            self.step()
        for thread in self._threads:
            if thread is not threading.current_thread():  # a callback of an answer may close
                thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _wrong_length(encoder: str, embeddings: int, texts: int) -> EmbedoptError:
    return EmbedoptError(
        f"{encoder} returned {embeddings} embeddings for {texts} texts: whose they are is not known; "
        "mend the encoder"
    )


def _padded(batch: Sequence[_Request]) -> int:
    return max(request.tokens for request in batch) * len(batch)


def _calibrated(encoder: Encoder, clock: Clock) -> Cost:
    cost = Cost()
    for words, size in _CALIBRATION:
        texts = [" ".join(["night"] * words)] * size
        encoder.encode(texts, batch_size=size)  # the first call of a shape may be slow
        started_s = clock()
        encoder.encode(texts, batch_size=size)
        cost = cost.learned(int(encoder.token_counts(texts[:1])[0]) * size, clock() - started_s)
    return cost
