"""Requests that were accepted and are not encoded yet: bookkeeping only, under the scheduler's lock."""

import itertools
import logging
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from embedopt.inference.encoder import FloatArray, TokenizedText

# A text longer than this takes 2 ms or more to tokenize, so it is tokenized alone and delays no other.
_LONG_CHARACTERS = 10_000
# Weight of a new text in the moving average of text lengths.
_AVERAGE_SHARE = 0.02
_LOG = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Request:
    """One text and the answer that is owed for it; times are in seconds, by the scheduler's clock.

    Attributes:
        text: the text, without its tokens until it is tokenized.
        tokens: number of its tokens, at least 1; a guess until it is tokenized.
        deadline_s: time after which an answer is of no use; infinity for a request without a deadline.
        future: the answer, ``(dim,) float32``.
    """

    text: TokenizedText
    tokens: int
    arrived_s: float
    due_s: float
    deadline_s: float
    future: "Future[FloatArray]" = field(default_factory=Future)

    def claim(self) -> bool:
        """Return whether the request was not cancelled; from now on it can't be."""
        return self.future.set_running_or_notify_cancel()

    def settle(self, outcome: FloatArray | Exception) -> None:
        """Answer the request; an error of the caller's callbacks is logged, since other requests wait."""
        try:
            if isinstance(outcome, Exception):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)
        except BaseException:
            _LOG.exception("a callback of an answer failed")


class RequestQueue:
    """Requests in three states: new, being tokenized by a thread, and waiting to be encoded.

    Attributes:
        waiting: requests that are tokenized and can be put into a batch.
        size: number of requests in all three states.
        tokens: number of tokens of all of them; guessed for those that are not tokenized.
    """

    def __init__(self) -> None:
        self.waiting: list[Request] = []
        self.size, self.tokens = 0, 0
        self.average_tokens = 16.0
        self._new: list[Request] = []

    def __bool__(self) -> bool:
        """Whether there is work for a thread."""
        return bool(self._new or self.waiting)

    def add(self, request: Request) -> None:
        """Add a new request."""
        self._new.append(request)
        self.size += 1
        self.tokens += request.tokens

    def take_new(self) -> list[Request]:
        """Return the oldest new requests, to tokenize them and give them back; a long text comes alone."""
        short = itertools.takewhile(lambda request: len(request.text.text) <= _LONG_CHARACTERS, self._new)
        taken = list(short) or self._new[:1]
        del self._new[: len(taken)]
        return taken

    def put_tokenized(self, requests: Sequence[Request], texts: Sequence[TokenizedText]) -> None:
        """Take back what :meth:`take_new` returned, with the tokenized text of each request."""
        for request, text in zip(requests, texts, strict=True):
            tokens = max(text.token_count, 1)
            self.tokens += tokens - request.tokens
            request.text, request.tokens = text, tokens
            self.average_tokens += _AVERAGE_SHARE * (tokens - self.average_tokens)
        self.waiting += requests

    def remove(self, requests: Collection[Request]) -> None:
        """Remove requests that are new or waiting."""
        if requests:
            self._new = [request for request in self._new if request not in requests]
            self.waiting = [request for request in self.waiting if request not in requests]
            self.size -= len(requests)
            self.tokens -= sum(request.tokens for request in requests)

    def drop_cancelled(self) -> None:
        """Remove the requests that were cancelled."""
        self.remove({request for request in (*self._new, *self.waiting) if request.future.cancelled()})

    def empty(self) -> list[Request]:
        """Remove and return all requests but those that are being tokenized."""
        removed = [*self._new, *self.waiting]
        self.remove(set(removed))
        return removed
