"""The accepted requests that are not encoded yet. Bookkeeping only: the scheduler holds the lock."""

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
    """One text and its future answer; times are in seconds, by the scheduler's clock.

    Attributes:
        text: the text, without its tokens until it is tokenized.
        tokens: number of its tokens, at least 1; a guess until it is tokenized.
        due_s: time by which the answer is promised.
        deadline_s: time after which the answer is useless; infinity without a deadline.
        future: the answer, ``(dim,) float32``.
    """

    text: TokenizedText
    tokens: int
    arrived_s: float
    due_s: float
    deadline_s: float
    future: "Future[FloatArray]" = field(default_factory=Future)

    def claim(self) -> bool:
        """Return False if the request was cancelled; if not, it can't be cancelled from now on."""
        return self.future.set_running_or_notify_cancel()

    def settle(self, outcome: FloatArray | Exception) -> None:
        """Answer the request; an error in a callback is logged, so that the others are still answered."""
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
        average_tokens: moving average of the tokens in a text, which is the guess for a new one.
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
        """Take out the oldest new requests, to be given to :meth:`put_tokenized`; a long text comes alone."""
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
