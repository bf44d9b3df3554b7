"""The interface of all encoders, and their checks of arguments."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedopt.clock import Clock
from embedopt.errors import EmbedoptError, InputError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

# Shared by all encoders, since it is held for a moment only.
_CLOSING = threading.Lock()


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """A text and the tokens that an encoder made of it.

    Attributes:
        text: the text itself.
        token_count: number of tokens after truncation, special tokens included.
        ids: token ids; None where the encoder tokenizes as a part of encoding.
        tokenizer: the object that made the ids: to any other tokenizer they mean nothing.
    """

    text: str
    token_count: int
    ids: Sequence[int] | None = None
    tokenizer: object = None


@dataclass(frozen=True, slots=True)
class CallPlan:
    """How a call is encoded.

    Attributes:
        batches: indices into the call's texts; each index is in exactly one batch.
        replicas: number of batches that are encoded at the same time; with 1, each has all cores.
    """

    batches: list[IntArray]
    replicas: int = 1


class Encoder(ABC):
    """Turns texts into embeddings. Safe to call from several threads; a context manager.

    Attributes:
        name: the backend's name.
        dim: number of components of an embedding.
        replicas: number of batches that can be encoded at a time.
        clock: measures calls that are made on one thread.
        pid: number of the process that computes; None for this process, or where it is unknown.
        is_endpoint: whether it queues, batches and refuses single requests by itself.
    """

    name: str
    dim: int
    replicas: int = 1
    clock: Clock = time.perf_counter
    pid: int | None = None
    is_endpoint: bool = False
    _closed = False

    def encode(
        self, texts: Sequence[str], batch_size: int | None = None, *, prompt: str | None = None
    ) -> FloatArray:
        """Embed texts.

        Args:
            texts: any number of strings of any length. A text longer than the model's limit is cut, as in
                sentence-transformers.
            batch_size: largest number of texts in a batch; None for no limit. Batches are planned by length
                in any case, and may be smaller.
            prompt: name of one of the model's prompts, or a string, to put before each text; None for the
                model's default prompt, if it has one.

        Returns:
            ``(n, dim) float32``, L2-normalised; row ``i`` embeds ``texts[i]``.

        Raises:
            InputError: ``texts`` is a single string, an item is not a string of valid Unicode, or
                ``batch_size`` is below 1.
            EmbedoptError: the encoder is closed.
        """
        checked = self._checked(texts, batch_size)
        if not checked:
            return np.empty((0, self.dim), dtype=np.float32)
        if prompt is None:
            return self._encode(checked, batch_size)
        return self._encode_prompted(checked, batch_size, prompt)

    def plan(self, texts: Sequence[str], batch_size: int | None = None) -> CallPlan:
        """Return how :meth:`encode` encodes the same arguments."""
        checked = self._checked(texts, batch_size)
        return self._plan(checked, batch_size) if checked else CallPlan([])

    def encode_as_one_batch(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts as one batch on all cores, padded to the longest; :meth:`encode` is mostly faster.

        Returns:
            ``(n, dim) float32``, L2-normalised, row ``i`` for ``texts[i]``.

        Raises:
            InputError: as :meth:`encode`.
            EmbedoptError: the encoder is closed.
        """
        checked = self._checked(texts)
        return self._encode_as_one_batch(checked) if checked else np.empty((0, self.dim), dtype=np.float32)

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Tokenize texts now, for :meth:`encode_tokenized` later."""
        return self._tokenize(self._checked(texts))

    def encode_tokenized(self, texts: Sequence[TokenizedText]) -> FloatArray:
        """Embed tokenized texts as one batch.

        Token ids that another encoder's tokenizer made are not used: such a text is tokenized again.

        Returns:
            ``(n, dim) float32``, L2-normalised, row ``i`` for ``texts[i]``.

        Raises:
            EmbedoptError: the encoder is closed.
        """
        self._checked([text.text for text in texts])
        return self._encode_tokenized(texts) if texts else np.empty((0, self.dim), dtype=np.float32)

    def token_counts(self, texts: Sequence[str]) -> IntArray:
        """Return ``(n,) int64``: number of tokens of each text as cut, special tokens included."""
        return self._token_counts(self._checked(texts))

    def _checked(self, texts: Sequence[str], batch_size: int | None = None) -> list[str]:
        if self._closed:
            raise closed_error(self.name)
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; wanted 1 or more: correct it or leave it out")
        return check_texts(texts)

    @abstractmethod
    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        """Embed at least one valid text."""

    def _encode_prompted(self, texts: list[str], batch_size: int | None, prompt: str) -> FloatArray:
        """Embed at least one valid text after a prompt that is not the default one."""
        count = f"{len(texts)} texts in batches of {batch_size or 'any size'}"
        raise InputError(f"{self.name} takes no prompt; got {prompt!r} for {count}: put it before the texts")

    @abstractmethod
    def _plan(self, texts: list[str], batch_size: int | None) -> CallPlan:
        """Plan a call with at least one valid text."""

    @abstractmethod
    def _token_counts(self, texts: list[str]) -> IntArray:
        """Count the tokens of valid texts."""

    def _tokenize(self, texts: list[str]) -> list[TokenizedText]:
        counts = self._token_counts(texts).tolist()
        return [TokenizedText(text, count) for text, count in zip(texts, counts, strict=True)]

    def _encode_tokenized(self, texts: Sequence[TokenizedText]) -> FloatArray:
        return self._encode_as_one_batch([text.text for text in texts])

    def _encode_as_one_batch(self, texts: list[str]) -> FloatArray:
        return self._encode(texts, len(texts))

    @abstractmethod
    def _release(self) -> None:
        """Free the model and its threads; called once."""

    def close(self) -> None:
        """Free the model and its threads. Closing twice is harmless.

        Calls of other threads that are under way either finish or raise :class:`EmbedoptError`.
        """
        with _CLOSING:
            if self._closed:
                return
            self._closed = True
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def closed_error(name: str) -> EmbedoptError:
    """Return the error of a call to the encoder ``name`` after it was closed."""
    return EmbedoptError(f"the encoder {name} is closed; open it again with load_encoder")


def check_texts(texts: Sequence[str]) -> list[str]:
    """Return ``texts`` as a list.

    Raises:
        InputError: it is a single string, or an item is not a string of valid Unicode; the message gives the
            index of the item.
    """
    if isinstance(texts, str):
        raise InputError("texts is a single string; wanted a list of strings: put it in a list")
    checked = list(texts)
    for index, text in enumerate(checked):
        if not isinstance(text, str):
            raise InputError(f"text {index} is {_name_of(text)}; wanted str: convert it or leave it out")
        if not text.isascii():
            _check_unicode(index, text)
    return checked


def _check_unicode(index: int, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"text {index} has a lone surrogate at character {error.start}; wanted valid Unicode: "
            "read its source with the right encoding"
        ) from None


def _name_of(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
