"""A server that answers as the test says."""

from collections.abc import Callable
from concurrent.futures import Future

from embedopt.inference.encoder import FloatArray
from tests.fakes import fake_embedding


class FakeServer:
    """Calls ``answer`` with the number, the text and the future of each request."""

    def __init__(self, answer: Callable[[int, str, "Future[FloatArray]"], None]) -> None:
        self.texts: list[str] = []
        self.closed = 0
        self._answer = answer

    def submit(self, text: str) -> "Future[FloatArray]":
        future: Future[FloatArray] = Future()
        self.texts.append(text)
        self._answer(len(self.texts) - 1, text, future)
        return future

    def close(self) -> None:
        self.closed += 1


def at_once(number: int, text: str, future: "Future[FloatArray]") -> None:
    future.set_result(fake_embedding(text))
