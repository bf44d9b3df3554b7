"""Texts to tokens to planned batches to ``forward`` and back into the caller's order."""

import bisect
import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

import numpy as np
from typing_extensions import override

from embedopt.inference.backends import Backend
from embedopt.inference.encoder import Encoder, FloatArray, IntArray, TokenizedText

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Bounds what is held in memory at a time: an Encoding of the tokenizers library takes some kB.
_TOKENIZE_AT_ONCE = 4096
# The tokenizer shares several texts among threads of its own. For so few that costs more than it saves: they
# wait for a core that another replica computes on.
_FEW_TEXTS = 64
# With more batches than this for each replica, one that idles at last loses less than a per cent or so.
_FEW_BATCHES = 32
_TEXT_SETTINGS = "text.json"
TOKENIZER_FILE = "tokenizer.json"


class Forward(Protocol):
    """One runtime's model."""

    def __call__(self, ids: IntArray, mask: IntArray) -> FloatArray:
        """Embed ``(n, length) int64`` token ids and their mask as ``(n, dim) float32``, L2-normalised."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """What a model says about its texts, kept beside the artifact.

    Attributes:
        dim: components of an embedding.
        max_length: tokens that a text is cut to, special tokens included; None for no limit.
        pad_id: token that fills up the shorter texts of a batch.
        prompt: put before every text.
    """

    dim: int
    max_length: int | None
    pad_id: int
    prompt: str

    def save(self, folder: Path) -> None:
        """Write the settings into an artifact's folder."""
        values = {name: getattr(self, name) for name in self.__slots__}
        (folder / _TEXT_SETTINGS).write_text(json.dumps(values), encoding="utf8")

    @classmethod
    def load(cls, folder: Path) -> "TextSettings":
        """Read them back."""
        return cls(**json.loads((folder / _TEXT_SETTINGS).read_text(encoding="utf8")))


def plan_batches(
    token_counts: IntArray, batch_size: int | None = None, batch_tokens: int | None = None
) -> list[IntArray]:
    """Cut texts into batches of like length, the longest first.

    Args:
        token_counts: ``(n,)``, the tokens of each text.
        batch_size: texts in a batch at the most; None for any number.
        batch_tokens: tokens in a batch at the most, padding included, where it holds more than one text; None
            for any number.

    Returns:
        Indices into ``token_counts``; each index is in exactly one batch. Texts of the same length stay in
        the caller's order.
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
    """Cut texts into batches of at most ``batch_tokens`` that keep all replicas busy to the end.

    Where few batches leave a replica idle at last, a smaller budget cuts as many more, all of like size: with
    five batches for two replicas one would wait for a sixth of the time.
    """
    batches = plan_batches(token_counts, batch_tokens=batch_tokens)
    wanted = -(-len(batches) // replicas) * replicas
    if len(batches) == wanted or len(batches) > _FEW_BATCHES * replicas or len(token_counts) < wanted:
        return batches
    # The smallest budget that needs no more batches than that makes the most even ones.
    budgets = range(min(int(token_counts.max()), batch_tokens), batch_tokens + 1)
    smallest = bisect.bisect_left(
        budgets, -wanted, key=lambda budget: -len(plan_batches(token_counts, batch_tokens=budget))
    )
    return plan_batches(token_counts, batch_tokens=budgets[smallest])


def padding_share(token_counts: IntArray, batches: Sequence[IntArray]) -> float:
    """Return the share of padding among all tokens that the batches make a model compute, in [0, 1)."""
    computed = sum(len(batch) * int(token_counts[batch].max()) for batch in batches)
    return 1.0 - int(token_counts.sum()) / computed if computed else 0.0


class Pipeline(Encoder):
    """An encoder made of a Rust tokenizer and replicas of one runtime's ``forward``.

    Args:
        name: the backend's name.
        tokenizer: its padding and truncation are set here.
        settings: what the model says about its texts.
        forwards: the replicas; each is called by one thread at a time.
        batch_tokens: padded tokens in a batch, at most, where the caller names no batch size.
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
        self._tokenizer.no_padding()
        if settings.max_length is None:
            self._tokenizer.no_truncation()
        else:
            self._tokenizer.enable_truncation(settings.max_length)
        self._free: SimpleQueue[Forward | None] = SimpleQueue()  # None: closed
        for forward in forwards:
            self._free.put(forward)
        # One replica is driven by the caller's own thread: a hand-over costs as much as a short text.
        self._pool = ThreadPoolExecutor(len(forwards), f"embedopt-{name}") if len(forwards) > 1 else None

    @classmethod
    def of_artifact(cls, backend: Backend, folder: Path, forwards: Sequence[Forward]) -> "Pipeline":
        """Put the tokenizer and the text settings in an artifact's folder before ``forwards``."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        return cls(backend.name, tokenizer, TextSettings.load(folder), forwards, backend.batch_tokens)

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
            ids, mask = _pad([tokens[index] for index in batch], self._settings.pad_id)
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
        """Wait for a free replica, and give it back."""
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
        # A caller who names a batch size gets just that: the budget is for those who leave it to the backend.
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
        for _ in range(self.replicas):  # each is given back when its batch is done
            self._free.get()
        self._free.put(None)


def _lengths(tokens: Sequence[Sequence[int]]) -> IntArray:
    return np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))


def _pad(tokens: Sequence[Sequence[int]], pad_id: int) -> tuple[IntArray, IntArray]:
    """Return ids and mask, each ``(n, length) int64``, padded on the right."""
    lengths = _lengths(tokens)
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = np.concatenate(tokens)
    return ids, mask.astype(np.int64)
