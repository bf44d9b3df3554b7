"""Adaptive batching for callers: the threads that encode, and an ``async`` way in."""

import asyncio
import threading
import time
from concurrent.futures import Future
from functools import partial
from typing import Self

from embedopt.clock import Clock
from embedopt.inference.cost import Cost, measured_cost
from embedopt.inference.encoder import Encoder, FloatArray
from embedopt.serving.policy import Limits
from embedopt.serving.scheduler import Scheduler

# Batches that a new batcher encodes to learn their cost, each as words in a text and texts in the batch.
_WARM_UP = ((4, 1), (48, 1), (16, 8))


class AdaptiveBatcher:
    """Gathers single requests into batches while the encoder is busy; an idle encoder gets one at once.

    Safe to call from any number of threads and event loops; the encoder blocks none of them. Each replica has
    one thread that encodes. Closing the batcher leaves the encoder open. A forked process does not inherit
    the threads: make the batcher after forking.

    Args:
        encoder: any encoder. A few made-up texts are encoded at once, to learn what a batch costs.
        limits: promised latency, and sizes of the queue and of a batch; None for the defaults.
    """

    def __init__(self, encoder: Encoder, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._scheduler = Scheduler(encoder, self.limits, warm_up(encoder))
        self._threads = [
            threading.Thread(
                target=self._work, args=(replica,), name=f"embedopt-batcher-{replica}", daemon=True
            )
            for replica in range(encoder.replicas)
        ]
        for thread in self._threads:
            thread.start()

    async def embed(self, text: str, timeout_s: float | None = None) -> FloatArray:
        """Embed a text: ``(dim,) float32``. Cancelling the task drops the request. See :meth:`submit`."""
        return await asyncio.wrap_future(self.submit(text, timeout_s))

    def submit(self, text: str, timeout_s: float | None = None) -> "Future[FloatArray]":
        """Queue a text and return at once.

        Args:
            text: a text of any length; what exceeds the model's limit is cut off.
            timeout_s: seconds from now after which the answer is useless; None for no limit.

        Returns:
            A future of the embedding, ``(dim,) float32``, L2-normalised. It fails with :class:`Overloaded`
            when the timeout can no longer be kept, with the encoder's own error when the encoder can't embed
            this text, and with :class:`EmbedoptError` when the batcher is closed without draining.

        Raises:
            Overloaded: the queue is full, or the answer would come later than promised or than the timeout.
            InputError: ``text`` is no string or not valid Unicode, or ``timeout_s`` is not a number.
            EmbedoptError: the batcher is closed.
        """
        return self._scheduler.submit(text, timeout_s)

    def _work(self, replica: int) -> None:
        while self._scheduler.wait():
            self._scheduler.step(replica)

    def close(self, *, drain: bool = True) -> None:
        """Accept no more requests, and wait until the last batch is answered. Closing twice is harmless.

        Called by a callback of an answer, it does not wait.

        Args:
            drain: whether the waiting requests are encoded; if not, they are refused at once.
        """
        self._scheduler.close(drain=drain)
        if threading.current_thread() not in self._threads:
            for thread in self._threads:
                thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def warm_up(encoder: Encoder, clock: Clock = time.perf_counter) -> Cost:
    """Encode a few made-up texts and return what a batch costs."""
    batches = [encoder.tokenize([" ".join(["night"] * words)] * size) for words, size in _WARM_UP]
    return measured_cost(
        ((texts[0].token_count * len(texts), partial(encoder.encode_tokenized, texts)) for texts in batches),
        clock,
    )
