"""Adaptive batching: single requests in, batches to the encoder, each answer to the one who asked.

The law of this file: a request that was accepted gets exactly one answer, its own. It is fresh, in one
thread's hands to be counted, in the queue, or in one thread's batch, never in two of them, and only the
thread whose batch it is in answers it.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from embedopt.errors import EmbedoptError, InputError, Overloaded, first_line
from embedopt.inference.encoder import Encoder, FloatArray, check_texts
from embedopt.serving.policy import (
    Backlog,
    Cost,
    Limits,
    expected_latency_s,
    hopeless,
    learned_room_s,
    pick,
)
from embedopt.serving.queue import Request, RequestQueue

Clock = Callable[[], float]

# Words in the batches that a new batcher encodes to learn what they cost; each is encoded twice.
_CALIBRATION = ((4, 1), (48, 1), (16, 8))
_FREE = -math.inf
_LOG = logging.getLogger(__name__)


class AdaptiveBatcher:
    """Puts single requests into batches while the encoder is busy, and never makes one wait when it is not.

    Safe to call from any number of threads and event loops; none of them is ever blocked by the encoder. One
    thread a replica encodes: load the encoder with ``mode="throughput"`` for one replica a core. Closing the
    batcher leaves the encoder open. A process that is forked from this one has no such threads: make the
    batcher after forking.

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
        self._queue = RequestQueue()
        self._busy_until_s = [_FREE] * encoder.replicas
        self._closed, self._draining = False, True
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
            InputError: ``text`` is no string or not valid Unicode, or ``timeout_s`` is no number.
            EmbedoptError: the batcher is closed.
        """
        check_texts([text])
        wanted_s = math.inf if timeout_s is None else timeout_s
        if math.isnan(wanted_s):
            raise InputError("timeout_s is nan; wanted seconds, or None for an answer at any time")
        with self._changed:
            if self._closed:
                raise EmbedoptError("the batcher is closed: make a new one")
            request = self._admitted(text, wanted_s)
            self._queue.add(request)
            self._changed.notify()
        return request.future

    def _admitted(self, text: str, timeout_s: float) -> Request:
        now_s, tokens = self._clock(), math.ceil(self._queue.usual_tokens)
        why = self._why_refused(tokens, timeout_s, now_s)
        if why:
            self._queue.forget_cancelled()
            why = self._why_refused(tokens, timeout_s, now_s)
        if why:
            raise Overloaded(f"{why}: try again later")
        due_s, deadline_s = now_s + min(self.limits.promise_s, timeout_s), now_s + timeout_s
        return Request(text, tokens, now_s, due_s, deadline_s)

    def _why_refused(self, tokens: int, timeout_s: float, now_s: float) -> str:
        if self._queue.size >= self.limits.max_waiting:
            return f"{self._queue.size} requests wait; wanted fewer than that"
        busy_s = sum(max(until_s - now_s, 0.0) for until_s in self._busy_until_s)
        backlog = Backlog(waiting_tokens=self._queue.tokens, busy_s=busy_s, replicas=self._encoder.replicas)
        expected_s = expected_latency_s(tokens, backlog, self._cost, self.limits)
        idle = not self._queue.size and min(self._busy_until_s) == -math.inf
        room_s = min(max(timeout_s, 0.0), math.inf if idle else self._room_s)
        if expected_s <= room_s:
            return ""
        return f"an answer would take {expected_s * 1e3:.0f} ms; wanted {room_s * 1e3:.0f}"

    def _work(self, replica: int) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
            self.step(replica)

    def step(self, replica: int = 0) -> int:
        """Encode the next batch on this thread and return how many requests were settled."""
        try:
            self._count_tokens(replica)
            batch, refused = self._take(replica)
            for request in refused:
                _settle(request, _too_late() if self._draining else _not_drained())
            if batch:
                self._encode(batch)
        finally:
            with self._changed:
                self._busy_until_s[replica] = _FREE
        return len(batch) + len(refused)

    def _count_tokens(self, replica: int) -> None:
        # Not when a request comes: a tokenizer may take long, or be held by a batch.
        with self._changed:
            self._busy_until_s[replica] = self._clock()
            fresh = self._queue.take_to_count()
        if not fresh:
            return
        counted = [(request.text, request.tokens) for request in fresh]
        try:
            texts = self._encoder.tokenized([request.text for request in fresh])
            counted = list(zip(texts, self._encoder.token_counts(texts).tolist(), strict=True))
        except BaseException as error:  # the guesses stand; if a text is to blame, its owner hears of it
            _raise_if_interrupted(error)
        finally:
            with self._changed:
                self._queue.put_counted(fresh, counted)

    def _take(self, replica: int) -> tuple[list[Request], list[Request]]:
        """Take what to encode and what to refuse out of the queue; none of it can be cancelled any more."""
        with self._changed:
            self._queue.forget_cancelled()
            now_s, waiting = self._clock(), self._queue.waiting
            refused = {
                request for request in waiting if not self._draining or hopeless(request, now_s, self._cost)
            }
            batch = self._next_batch([request for request in waiting if request not in refused])
            self._queue.leave(refused.union(batch))
            batch = [request for request in batch if request.future.set_running_or_notify_cancel()]
            too_late = [request for request in refused if request.future.set_running_or_notify_cancel()]
            if batch:
                self._busy_until_s[replica] = now_s + self._cost.seconds(_padded(batch))
            if self._queue:
                self._changed.notify()  # a replica that saw nothing while this one counted
        return batch, too_late

    def _next_batch(self, waiting: list[Request]) -> list[Request]:
        if not waiting:
            return []
        free = 1 + self._busy_until_s.count(_FREE)
        return [waiting[index] for index in pick(waiting, free, self._cost, self.limits)]

    def _encode(self, batch: list[Request]) -> None:
        started_s = self._clock()
        try:
            went_well = self._answer(batch)
        except KeyboardInterrupt as error:
            for request in batch:
                if not request.future.done():
                    _settle(request, self._told(error))
            raise
        if went_well:  # how long a failure takes says nothing of the next batch
            self._learn(batch, started_s)

    def _answer(self, batch: list[Request]) -> bool:
        """Answer each request of a batch; return whether the first attempt went well."""
        failed: BaseException | None = None
        try:
            embeddings = self._encoder.encode([request.text for request in batch], batch_size=len(batch))
            # Copied, else one answer keeps the whole batch in memory.
            answers = [embedding.copy() for embedding in embeddings]
        except BaseException as error:  # whatever it is, it goes to those who wait
            _raise_if_interrupted(error)
            failed = error
        # Not while the error is handled: that of one text would carry those of its neighbours.
        if failed is not None and len(batch) > 1:
            self._answer_one_by_one(batch)
        elif failed is not None:
            _settle(batch[0], self._told(failed))
        elif len(answers) != len(batch):
            for request in batch:
                _settle(request, _wrong_length(self._encoder.name, len(answers), len(batch)))
        else:
            for request, answer in zip(batch, answers, strict=True):
                _settle(request, answer)
            return True
        return False

    def _answer_one_by_one(self, batch: Sequence[Request]) -> None:
        for request in batch:
            if hopeless(request, self._clock(), self._cost):
                _settle(request, _too_late())
            else:
                self._answer([request])

    def _told(self, error: BaseException) -> Exception:
        """Return an error that can be raised where the answer is awaited.

        Of the encoder's own, those that are no errors would end the event loop or pass it by.
        """
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            return error
        told = EmbedoptError(f"{self._encoder.name} ended with {type(error).__name__}: {first_line(error)}")
        told.__cause__ = error
        return told

    def _learn(self, batch: Sequence[Request], started_s: float) -> None:
        ended_s = self._clock()
        latencies_s = [ended_s - request.arrived_s for request in batch]
        with self._changed:
            self._cost = self._cost.learned(_padded(batch), ended_s - started_s)
            self._room_s = learned_room_s(self._room_s, latencies_s, self.limits)

    def close(self, *, drain: bool = True) -> None:
        """Take no more requests, and wait until the last batch is answered. Closing twice is harmless.

        A callback of an answer may close; there, nothing is waited for.

        Args:
            drain: whether what waits is encoded; else it is refused at once.
        """
        with self._changed:
            self._closed, self._draining = True, self._draining and drain
            refused = [] if drain else self._queue.empty()
            self._changed.notify_all()
        for request in refused:
            if request.future.set_running_or_notify_cancel():
                _settle(request, _not_drained())
        while not self._threads and self._queue:
            self.step()
        if threading.current_thread() in self._threads:
            return
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _settle(request: Request, outcome: FloatArray | Exception) -> None:
    """Answer a request; what a callback of its owner raises ends here, since others wait for this thread."""
    try:
        if isinstance(outcome, Exception):
            request.future.set_exception(outcome)
        else:
            request.future.set_result(outcome)
    except BaseException:
        _LOG.exception("a callback of an answer failed")


def _raise_if_interrupted(error: BaseException) -> None:
    """Let Ctrl-C through: it comes to the main thread only, which may step by itself."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error


def _too_late() -> Overloaded:
    return Overloaded("there is no time left to answer: try again later")


def _not_drained() -> EmbedoptError:
    return EmbedoptError("the batcher was closed before this was encoded")


def _wrong_length(encoder: str, embeddings: int, texts: int) -> EmbedoptError:
    return EmbedoptError(
        f"{encoder} returned {embeddings} embeddings for {texts} texts: whose they are is not known; "
        "mend the encoder"
    )


def _padded(batch: Sequence[Request]) -> int:
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
