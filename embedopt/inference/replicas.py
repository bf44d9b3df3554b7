"""Replicas of a model: opened when first used, each encoding one batch at a time."""

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from queue import SimpleQueue
from typing import Protocol

import numpy as np

from embedopt.inference.cost import Cost, measured_costs
from embedopt.inference.encoder import FloatArray, IntArray, closed_error

# Batches that are timed to learn what a batch costs, each as texts in the batch and tokens in a text.
_TIMED = ((1, 8), (1, 32), (8, 16))


class Forward(Protocol):
    """A model in one runtime."""

    def __call__(self, ids: IntArray, mask: IntArray) -> FloatArray:
        """Return ``(n, dim) float32``, L2-normalised, for ids and mask, each ``(n, length) int64``.

        A mask of 1 is for a token, 0 for padding, 2 for a prompt's token that the pooling leaves out.
        """
        ...


_Encode = Callable[[Forward, IntArray], object]


class Replicas:
    """Copies of a model among which the cores are shared.

    Args:
        name: the encoder's name.
        count: number of replicas.
        open_forwards: opens all replicas, and is called once; a replica is called by one thread at a time.
        max_length: number of tokens that a text is cut to; None for no limit.
    """

    def __init__(
        self,
        name: str,
        count: int,
        open_forwards: Callable[[], Sequence[Forward]],
        max_length: int | None = None,
    ) -> None:
        self.count = count
        self.cost: Cost | None = None  # learnt by learned_costs()
        # Longer texts fail in a model with a table of positions.
        self._shapes = [(texts, min(tokens, max_length or tokens)) for texts, tokens in _TIMED]
        self._name, self._open_forwards = name, open_forwards
        self._opening, self._opened, self._closed = threading.Lock(), False, False
        self._free: SimpleQueue[Forward | None] = SimpleQueue()  # None: closed
        # A single replica runs on the caller's thread: passing a batch to another thread takes as long as a
        # short text.
        self._pool = ThreadPoolExecutor(count, f"embedopt-{name}") if count > 1 else None

    def open(self) -> None:
        """Open the replicas, unless they have been opened or closed."""
        with self._opening:
            if not (self._opened or self._closed):
                for forward in self._open_forwards():
                    self._free.put(forward)
                self._opened = True

    def timed(self) -> Iterator[tuple[int, Callable[[], object]]]:
        """Yield batches to learn from what one costs while all replicas are busy: tokens, and the call."""
        for texts, tokens in self._shapes:
            yield texts * tokens, partial(self._time, texts, tokens)

    def _time(self, texts: int, tokens: int) -> None:
        ones = np.ones((texts, tokens), dtype=np.int64)
        self.run(lambda forward, _: forward(ones, ones), [ones[0]] * self.count)

    def run(self, encode: _Encode, batches: Sequence[IntArray]) -> None:
        """Call ``encode`` with each batch and a free replica.

        Raises:
            EmbedoptError: the replicas are closed.
        """
        self.open()
        if self._pool is None or len(batches) == 1:
            for batch in batches:
                self._encode(encode, batch)
        else:
            self._in_parallel(self._pool, encode, batches)

    def _in_parallel(self, pool: ThreadPoolExecutor, encode: _Encode, batches: Sequence[IntArray]) -> None:
        try:
            futures = [pool.submit(self._encode, encode, batch) for batch in batches]
        except RuntimeError:
            if self._closed:  # by another thread, a moment ago
                raise closed_error(self._name) from None
            raise
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()
            wait(futures)

    def _encode(self, encode: _Encode, batch: IntArray) -> None:
        with self._replica() as forward:
            encode(forward, batch)

    @contextlib.contextmanager
    def _replica(self) -> Iterator[Forward]:
        """Wait for a free replica, and free it again after use."""
        forward = self._free.get()
        try:
            if forward is None:
                raise closed_error(self._name)
            yield forward
        finally:
            self._free.put(forward)

    def close(self) -> None:
        """Free the model and its threads; called once."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown()
        with self._opening:
            for _ in range(self.count if self._opened else 0):  # waits for the replicas that are in use
                self._free.get()
            self._free.put(None)


def learned_costs(ways: Collection[Replicas]) -> dict[int, Cost]:
    """Return what a batch costs in each way, by its number of replicas, measured on the first use."""
    new = [way for way in ways if way.cost is None]
    for way, cost in zip(new, measured_costs(way.timed() for way in new), strict=True):
        way.cost = cost
    return {way.count: way.cost for way in ways if way.cost is not None}
