"""Schedulers of a known cost, and encoders that fail or that a test holds."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from embedopt.errors import Overloaded
from embedopt.inference.cost import Cost
from embedopt.inference.encoder import FloatArray, IntArray
from embedopt.serving.policy import Limits
from embedopt.serving.scheduler import Scheduler
from tests.fakes import FakeClock, FakeEncoder, fake_embedding

TEXT = "a " * 14  # 16 tokens, the guess for each text before the first one is tokenized


def make_cost(fixed_s: float = 0.001, token_s: float = 0.0001) -> Cost:
    return Cost().learned(10, fixed_s + 10 * token_s).learned(100, fixed_s + 100 * token_s)


def make_scheduler(
    encoder: FakeEncoder, clock: FakeClock | None = None, cost: Cost | None = None, **limits: float
) -> Scheduler:
    return Scheduler(
        encoder,
        Limits(**limits),  # type: ignore[arg-type]  # integers where they should be
        cost or make_cost(),
        clock or FakeClock(),
    )


def close_and_drain(scheduler: Scheduler) -> None:
    """Close a scheduler and encode what waits."""
    scheduler.close()
    while scheduler.wait():
        scheduler.step()


def count_accepted(scheduler: Scheduler, texts: int = 1000) -> int:
    """How many requests a scheduler accepts at a time."""
    for accepted in range(texts):
        try:
            scheduler.submit(TEXT)
        except Overloaded:
            return accepted
    return texts


def is_answer(future: "Future[FloatArray]", text: str, timeout_s: float = 0.0) -> bool:
    return bool(np.array_equal(future.result(timeout=timeout_s), fake_embedding(text)))


class Raising:
    """An ``on_encode`` that raises the given errors, one a call, the last first."""

    def __init__(self, *errors: BaseException) -> None:
        self._errors = list(errors)

    def __call__(self, _: int) -> None:
        if self._errors:
            raise self._errors.pop()


class Gate:
    """An ``on_encode`` that holds the encoder until the test opens the gate."""

    def __init__(self) -> None:
        self.reached, self._opened = threading.Event(), threading.Event()

    def __call__(self, _: object = None) -> None:
        self.reached.set()
        assert self._opened.wait(timeout=60)

    def wait_until_reached(self) -> None:
        assert self.reached.wait(timeout=60)

    def open(self) -> None:
        self._opened.set()


class CountingEncoder(FakeEncoder):
    """Calls ``on_count`` with the texts whose tokens it counts."""

    def __init__(self, on_count: Callable[[list[str]], None]) -> None:
        super().__init__()
        self._on_count = on_count

    def _token_counts(self, texts: list[str]) -> IntArray:
        self._on_count(texts)
        return super()._token_counts(texts)


class GuiltyEncoder(FakeEncoder):
    """Fails on texts with "guilty" in them, with the text as the message."""

    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        embeddings = super()._encode(texts, batch_size)
        for text in texts:
            if "guilty" in text:
                raise ValueError(text)
        return embeddings


class ShortEncoder(FakeEncoder):
    """Loses the last embedding of each batch."""

    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        return super()._encode(texts, batch_size)[:-1]
