"""The encoder that is the same for every runtime but for ``forward``.

Texts become tokens, tokens become batches of like length, and the embeddings return in the caller's order.
"""

import bisect
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

import numpy as np
from typing_extensions import override

from embedopt.inference.artifacts.layout import TOKENIZER_FILE, TextSettings
from embedopt.inference.backend import Backend
from embedopt.inference.encoder import Encoder, FloatArray, IntArray, TokenizedText

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Limits memory: an Encoding of the tokenizers library takes some kB.
_TOKENIZE_AT_ONCE = 4096
# The tokenizer shares several texts among threads of its own. For at most this many, that costs more than it
# saves: its threads wait for a core on which another replica computes.
_FEW_TEXTS = 64
# With more batches than this for each replica, a replica that idles at the end costs less than about 1 %.
_FEW_BATCHES = 32


class Forward(Protocol):
    """A model in one runtime."""

    def __call__(self, ids: IntArray, mask: IntArray) -> FloatArray:
        """Return ``(n, dim) float32``, L2-normalised, for ids and mask, each ``(n, length) int64``."""
        ...


def plan_batches(
    token_counts: IntArray, batch_size: int | None = None, batch_tokens: int | None = None
) -> list[IntArray]:
    """Group texts of like length into batches, the longest texts first.

    Args:
        token_counts: ``(n,)``, number of tokens of each text.
        batch_size: largest number of texts in a batch; None for no limit.
        batch_tokens: largest number of tokens in a batch of several texts, padding included; None for no
            limit.

    Returns:
        Indices into ``token_counts`` for each batch; each index is in exactly one batch. Texts of the same
        length keep their order.
    """
    order = np.argsort(-token_counts, kind="stable")
    batches, start = [], 0
    while start < len(order):
        longest = max(int(token_counts[order[start]]), 1)
        fitting = len(order) if batch_tokens is None else max(batch_tokens // longest, 1)
        size = fitting if batch_size is None else min(fitting, batch_size)
        batches.append(order[start : start + size])
        start += size
    return batches


def plan_for_replicas(token_counts: IntArray, batch_tokens: int, replicas: int) -> list[IntArray]:
    """Group texts into batches of at most ``batch_tokens`` that keep all replicas busy to the end.

    If the number of batches is small and no multiple of ``replicas``, a smaller limit raises it to the next
    multiple, with batches of like size: with five batches for two replicas, one replica would idle for a
    sixth of the time.
    """
    batches = plan_batches(token_counts, batch_tokens=batch_tokens)
    multiple = -(-len(batches) // replicas) * replicas
    if len(batches) == multiple or len(batches) > _FEW_BATCHES * replicas or len(token_counts) < multiple:
        return batches
    # The smallest limit that needs no more batches than that makes the most even ones.
    budgets = range(min(int(token_counts.max()), batch_tokens), batch_tokens + 1)
    smallest = bisect.bisect_left(
        budgets, -multiple, key=lambda budget: -len(plan_batches(token_counts, batch_tokens=budget))
    )
    return plan_batches(token_counts, batch_tokens=budgets[smallest])


def padding_share(token_counts: IntArray, batches: Sequence[IntArray]) -> float:
    """Return the share of padding among all tokens that a model computes for the batches, in [0, 1)."""
    computed = sum(len(batch) * int(token_counts[batch].max()) for batch in batches)
    return 1.0 - int(token_counts.sum()) / computed if computed else 0.0


class Pipeline(Encoder):
    """An encoder made of a Rust tokenizer and replicas of one runtime's ``forward``.

    Args:
        name: the backend's name.
        tokenizer: the model's tokenizer, whose padding and truncation are set here.
        settings: how the model reads texts.
        forwards: the replicas of the model; each is called by one thread at a time.
        batch_tokens: largest number of padded tokens in a batch when the caller names no batch size; None for
            no limit.
    """

    def __init__(
        self,
        name: str,
        tokenizer: "Tokenizer",
        settings: TextSettings,
        forwards: Sequence[Forward],
        batch_tokens: int | None = None,
    ) -> None:
        self.name = name
        self.dim = settings.dim
        self.replicas = len(forwards)
        self._settings = settings
        self._batch_tokens = batch_tokens
        self._tokenizer = tokenizer
        settings.configure(tokenizer)
        self._free: SimpleQueue[Forward | None] = SimpleQueue()  # None: closed
        for forward in forwards:
            self._free.put(forward)
        # A single replica runs on the caller's thread: passing a batch to another thread takes as long as a
        # short text.
        self._pool = ThreadPoolExecutor(len(forwards), f"embedopt-{name}") if len(forwards) > 1 else None

    @classmethod
    def of_artifact(cls, backend: Backend, folder: Path, forwards: Sequence[Forward]) -> "Pipeline":
        """Return an encoder of ``forwards`` with the tokenizer and text settings of an artifact's folder."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        return cls(backend.name, tokenizer, TextSettings.read(folder), forwards, backend.batch_tokens)

    @override
    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        return self._embed(list(self._token_ids(texts)), batch_size)

    @override
    def _encode_tokenized(self, texts: Sequence[TokenizedText]) -> FloatArray:
        tokens = [text.ids for text in texts if text.ids is not None and text.tokenizer is self._tokenizer]
        if len(tokens) < len(texts):  # the others' ids are missing or another tokenizer's
            tokens = list(self._token_ids([text.text for text in texts]))
        return self._embed(tokens, len(texts))

    def _embed(self, tokens: Sequence[Sequence[int]], batch_size: int | None) -> FloatArray:
        embeddings = np.empty((len(tokens), self.dim), dtype=np.float32)

        def encode(batch: IntArray) -> None:
            ids, mask = self._settings.pad([tokens[index] for index in batch])
            with self._replica() as forward:
                embeddings[batch] = forward(ids, mask)

        batches = self._planned(_lengths(tokens), batch_size)
        if self._pool is None or len(batches) == 1:
            for batch in batches:
                encode(batch)
        else:
            self._in_parallel(encode, batches)
        return embeddings

    def _in_parallel(self, encode: Callable[[IntArray], None], batches: Sequence[IntArray]) -> None:
        assert self._pool is not None
        try:
            futures = [self._pool.submit(encode, batch) for batch in batches]
        except RuntimeError:
            if self._closed:  # by another thread, a moment ago
                raise self._closed_error() from None
            raise
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()
            wait(futures)

    @contextlib.contextmanager
    def _replica(self) -> Iterator[Forward]:
        """Wait for a free replica, and free it again after use."""
        forward = self._free.get()
        try:
            if forward is None:
                raise self._closed_error()
            yield forward
        finally:
            self._free.put(forward)

    @override
    def _plan(self, texts: list[str], batch_size: int | None) -> list[IntArray]:
        return self._planned(self._token_counts(texts), batch_size)

    def _planned(self, token_counts: IntArray, batch_size: int | None) -> list[IntArray]:
        # A batch size that the caller names takes precedence over the backend's limit on tokens.
        if batch_size is not None or self._batch_tokens is None:
            return plan_batches(token_counts, batch_size)
        return plan_for_replicas(token_counts, self._batch_tokens, self.replicas)

    @override
    def _token_counts(self, texts: list[str]) -> IntArray:
        return _lengths(list(self._token_ids(texts)))

    @override
    def _tokenize(self, texts: list[str]) -> list[TokenizedText]:
        return [
            TokenizedText(text, len(ids), ids, self._tokenizer)
            for text, ids in zip(texts, self._token_ids(texts), strict=True)
        ]

    def _token_ids(self, texts: list[str]) -> Iterator[Sequence[int]]:
        prompt = self._settings.prompt
        at_once = _TOKENIZE_AT_ONCE if len(texts) > _FEW_TEXTS else 1
        for start in range(0, len(texts), at_once):
            chunk = texts[start : start + at_once]
            prompted = [prompt + text for text in chunk] if prompt else chunk
            for encoding in self._tokenizer.encode_batch_fast(prompted):
                yield encoding.ids

    @override
    def _release(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        for _ in range(self.replicas):  # a replica in use is free again when its batch is done
            self._free.get()
        self._free.put(None)


def _lengths(tokens: Sequence[Sequence[int]]) -> IntArray:
    return np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
