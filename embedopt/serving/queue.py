"""The requests that a batcher has accepted and not yet taken: bookkeeping alone, under the batcher's lock."""

import itertools
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from embedopt.inference.encoder import FloatArray

# A longer text, which takes 2 ms and more, is counted by itself: others need not wait for it.
_LONG_CHARACTERS = 10_000
# How fast the usual number of tokens follows what comes.
_USUAL_SHARE = 0.02


@dataclass(slots=True, eq=False)
class Request:
    """One text and the answer that is owed for it; times are the batcher's clock's, in seconds.

    Attributes:
        text: replaced by the same with its tokens, once they are counted.
        tokens: a guess until then.
        arrived_s: when it was accepted.
        due_s: when it should be answered.
        deadline_s: when an answer is of no use any more; infinity for never.
        future: the answer.
    """

    text: str
    tokens: int
    arrived_s: float
    due_s: float
    deadline_s: float
    future: "Future[FloatArray]" = field(default_factory=Future)


class RequestQueue:
    """Requests in three places: fresh, in the hands of a thread that counts them, and waiting to be picked.

    Attributes:
        waiting: those that can be picked.
        size: of all three.
        tokens: of all three, as far as they are known.
        usual_tokens: of a text, as they have come.
    """

    def __init__(self) -> None:
        self.waiting: list[Request] = []
        self.size, self.tokens = 0, 0
        self.usual_tokens = 16.0
        self._fresh: list[Request] = []

    def __bool__(self) -> bool:
        """Whether there is something for a thread to do."""
        return bool(self._fresh or self.waiting)

    def add(self, request: Request) -> None:
        """Put a fresh request in."""
        self._fresh.append(request)
        self.size += 1
        self.tokens += request.tokens

    def take_to_count(self) -> list[Request]:
        """Return the oldest fresh requests, to be counted and given back; a long text comes alone."""
        short = itertools.takewhile(lambda request: len(request.text) <= _LONG_CHARACTERS, self._fresh)
        taken = list(short) or self._fresh[:1]
        del self._fresh[: len(taken)]
        return taken

    def put_counted(self, requests: Sequence[Request], counted: Sequence[tuple[str, int]]) -> None:
        """Take back what :meth:`take_to_count` gave, each with its text and its number of tokens."""
        for request, (text, tokens) in zip(requests, counted, strict=True):
            self.tokens += max(tokens, 1) - request.tokens
            request.text, request.tokens = text, max(tokens, 1)
            self.usual_tokens += _USUAL_SHARE * (request.tokens - self.usual_tokens)
        self.waiting += requests

    def leave(self, gone: Collection[Request]) -> None:
        """Take requests out."""
        if gone:
            self._fresh = [request for request in self._fresh if request not in gone]
            self.waiting = [request for request in self.waiting if request not in gone]
            self.size -= len(gone)
            self.tokens -= sum(request.tokens for request in gone)

    def forget_cancelled(self) -> None:
        """Take out what was cancelled."""
        self.leave({request for request in (*self._fresh, *self.waiting) if request.future.cancelled()})

    def empty(self) -> list[Request]:
        """Take out and return all but what is being counted."""
        gone = [*self._fresh, *self.waiting]
        self.leave(set(gone))
        return gone
