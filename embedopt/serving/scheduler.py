"""The core of the batcher: it accepts requests and encodes batches, on the threads that call it.

Law: a request that was accepted gets exactly one answer, its own. At any moment the request is in one place:
new, being tokenized by one thread, waiting in the queue, or in the batch of one thread; and only the thread
whose batch it is in answers it.
"""

import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from embedopt.clock import Clock
from embedopt.errors import EmbedoptError, InputError, Overloaded
from embedopt.inference.cost import Cost
from embedopt.inference.encoder import Encoder, FloatArray, TokenizedText, check_texts
from embedopt.serving.answers import Answerer, raise_if_interrupted, too_late
from embedopt.serving.policy import (
    Backlog,
    Limits,
    adjusted_bound_s,
    choose_batch,
    expected_latency_s,
    misses_deadline,
)
from embedopt.serving.queue import Request, RequestQueue

_FREE = -math.inf


class Scheduler:
    """Accepts requests from any thread, and encodes the next batch on the thread that calls :meth:`step`.

    It starts no thread. Each replica of the encoder is stepped by one thread at a time. ``cost`` is the first
    estimate of what a batch costs; each batch corrects it.
    """

    def __init__(
        self, encoder: Encoder, limits: Limits, cost: Cost, clock: Clock = time.perf_counter
    ) -> None:
        self._encoder, self._limits, self._clock = encoder, limits, clock
        self._answerer = Answerer(encoder, self._is_too_late)
        self._changed = threading.Condition()  # guards all that follows
        self._cost, self._bound_s = cost, limits.promise_s
        self._queue = RequestQueue()
        self._busy_until_s = [_FREE] * encoder.replicas
        self._closed, self._draining = False, True

    def submit(self, text: str, timeout_s: float | None = None) -> "Future[FloatArray]":
        """Queue a text and return at once, as :meth:`AdaptiveBatcher.submit` describes."""
        check_texts([text])
        timeout_s = math.inf if timeout_s is None else timeout_s
        if math.isnan(timeout_s):
            raise InputError("timeout_s is nan; wanted seconds, or None for an answer at any time")
        with self._changed:
            if self._closed:
                raise EmbedoptError("the batcher is closed: make a new one")
            request = self._accept(text, timeout_s)
            self._queue.add(request)
            self._changed.notify()
        return request.future

    def _accept(self, text: str, timeout_s: float) -> Request:
        now_s, tokens = self._clock(), math.ceil(self._queue.average_tokens)
        refusal = self._refusal(tokens, timeout_s, now_s)
        if refusal:
            self._queue.drop_cancelled()
            refusal = self._refusal(tokens, timeout_s, now_s)
        if refusal:
            raise Overloaded(f"{refusal}: try again later")
        due_s = now_s + min(self._limits.promise_s, timeout_s)
        return Request(TokenizedText(text, tokens), tokens, now_s, due_s, now_s + timeout_s)

    def _refusal(self, tokens: int, timeout_s: float, now_s: float) -> str:
        """Return why a request has to be refused; an empty string if it is accepted."""
        size = self._queue.size
        if size >= self._limits.max_waiting:
            return f"{size} requests are waiting; wanted fewer than {self._limits.max_waiting}"
        busy_s = sum(max(until_s - now_s, 0.0) for until_s in self._busy_until_s)
        backlog = Backlog(waiting_tokens=self._queue.tokens, busy_s=busy_s, replicas=self._encoder.replicas)
        expected_s = expected_latency_s(tokens, backlog, self._cost, self._limits)
        # An idle batcher accepts even a request that will be late: one that took its machine for too slow
        # would otherwise refuse them all, never encode again, and never learn better.
        idle = not size and _FREE in self._busy_until_s
        allowed_s = min(max(timeout_s, 0.0), math.inf if idle else self._bound_s)
        if expected_s <= allowed_s:
            return ""
        return f"an answer would take {expected_s * 1e3:.0f} ms; wanted at most {allowed_s * 1e3:.0f} ms"

    def wait(self) -> bool:
        """Wait for something to encode; return False once the scheduler is closed and its queue is empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            return bool(self._queue)

    def step(self, replica: int = 0) -> int:
        """Encode the next batch on this thread, and return the number of requests that were answered."""
        try:
            self._tokenize(replica)
            batch, refused = self._take(replica)
            for request in refused:
                request.settle(too_late() if self._draining else _not_encoded())
            if batch:
                started_s = self._clock()
                if self._answerer.answer(batch):
                    self._learn(batch, started_s)
        finally:
            with self._changed:
                self._busy_until_s[replica] = _FREE
        return len(batch) + len(refused)

    def _tokenize(self, replica: int) -> None:
        # Not on the thread that submits: tokenizing may take long, or wait for a batch that is being encoded.
        with self._changed:
            self._busy_until_s[replica] = self._clock()
            requests = self._queue.take_new()
        if not requests:
            return
        texts = [request.text for request in requests]
        try:
            tokenized = self._encoder.tokenize([text.text for text in texts])
            texts = [text for _, text in zip(requests, tokenized, strict=True)]
        except BaseException as error:  # token counts stay guesses; a bad text fails when it is encoded
            raise_if_interrupted(error)
        finally:
            with self._changed:
                self._queue.put_tokenized(requests, texts)

    def _take(self, replica: int) -> tuple[list[Request], list[Request]]:
        """Claim the requests of the next batch and those to refuse, and take them out of the queue."""
        with self._changed:
            self._queue.drop_cancelled()
            now_s, waiting = self._clock(), self._queue.waiting
            refused = {
                request
                for request in waiting
                if not self._draining or misses_deadline(request, now_s, self._cost)
            }
            batch = self._choose([request for request in waiting if request not in refused])
            self._queue.remove(refused.union(batch))
            batch = [request for request in batch if request.claim()]
            if batch:
                self._busy_until_s[replica] = now_s + self._cost.seconds(_padded_tokens(batch))
            if self._queue:
                self._changed.notify()  # wakes a replica that saw an empty queue while this one tokenized
            return batch, [request for request in refused if request.claim()]

    def _choose(self, waiting: list[Request]) -> list[Request]:
        if not waiting:
            return []
        free = 1 + self._busy_until_s.count(_FREE)
        return [waiting[index] for index in choose_batch(waiting, free, self._cost, self._limits)]

    def _is_too_late(self, request: Request) -> bool:
        return misses_deadline(request, self._clock(), self._cost)

    def _learn(self, batch: Sequence[Request], started_s: float) -> None:
        ended_s = self._clock()
        latencies_s = [ended_s - request.arrived_s for request in batch]
        with self._changed:
            self._cost = self._cost.learned(_padded_tokens(batch), ended_s - started_s)
            self._bound_s = adjusted_bound_s(self._bound_s, latencies_s, self._limits)

    def close(self, *, drain: bool = True) -> None:
        """Accept no more requests; without ``drain``, refuse those that wait. Closing twice is harmless."""
        with self._changed:
            self._closed, self._draining = True, self._draining and drain
            refused = [] if drain else self._queue.empty()
            self._changed.notify_all()
        for request in refused:
            if request.claim():
                request.settle(_not_encoded())


def _not_encoded() -> EmbedoptError:
    return EmbedoptError("the batcher was closed before this text was encoded: submit it to a new one")


def _padded_tokens(batch: Sequence[Request]) -> int:
    return max(request.tokens for request in batch) * len(batch)
