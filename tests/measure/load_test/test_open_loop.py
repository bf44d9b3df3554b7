"""Latency counts from the intended arrival, whatever the server does; a late generator says so."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import pytest

from embedopt.errors import MeasureError, Overloaded
from embedopt.inference.encoder import FloatArray
from embedopt.measure.load_test.open_loop import Traffic, bursts, constant, drive, poisson
from embedopt.records import LoadPoint
from tests.fakes import FakeClock, fake_embedding

TEXTS = ("a", "b", "c")
ALONE = np.stack([fake_embedding(text) for text in TEXTS])


class FakeServer:
    """Answers as it is told: ``answer`` is given each text, its number and its future."""

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


def _drive(
    server: FakeServer, clock: FakeClock, rate_per_s: float = 10.0, seconds: float = 10.0
) -> LoadPoint:
    traffic = Traffic(texts=TEXTS, promise_ms=50.0, alone=ALONE)
    return drive(server, constant(rate_per_s, seconds), traffic, clock=clock, sleep=clock.advance)


def test_poisson_arrivals_are_seeded_and_as_many_as_asked_for() -> None:
    drawn = poisson(100.0, 200.0, seed=1)
    assert len(drawn) == 20_000
    assert np.array_equal(drawn, poisson(100.0, 200.0, seed=1))
    assert not np.array_equal(drawn, poisson(100.0, 200.0, seed=2))
    gaps = np.diff(drawn, prepend=0.0)
    assert gaps.min() >= 0.0
    assert gaps.std() == pytest.approx(0.01, rel=0.03)  # as much as their mean: an exponential distribution


@pytest.mark.parametrize("seed", range(5))
def test_few_poisson_arrivals_come_at_the_rate_asked_for_too(seed: int) -> None:
    drawn = poisson(4.0, 2.4, seed)
    assert len(drawn) == 10
    assert drawn[-1] == 2.5


def test_constant_arrivals() -> None:
    assert constant(4.0, 1.0).tolist() == [0.0, 0.25, 0.5, 0.75]


def test_bursts_come_together_at_the_rate_asked_for() -> None:
    drawn = bursts(100.0, 100.0, size=10)
    assert len(drawn) == 10_000
    assert len(set(drawn.tolist())) == 1000
    assert drawn[-1] == 100.0


def test_a_server_that_answers_at_once() -> None:
    server = FakeServer(at_once)
    found = _drive(server, FakeClock())
    assert server.texts[:4] == ["a", "b", "c", "a"]
    assert len(server.texts) == 100
    assert (found.p50_ms, found.p99_ms) == (0.001, 0.001)  # the finest that is told apart
    assert (found.kept_share, found.refused_share, found.lost, found.fell_behind) == (1.0, 0.0, 0, False)
    assert found.refusal_ms is None
    assert found.worst_cosine == pytest.approx(1.0)
    assert found.rate_per_s == pytest.approx(100 / 9.9)


def test_latency_runs_until_the_answer() -> None:
    """Each answer comes when the next request does: 100 ms later, but for the last, which ends the run."""
    pending: list[tuple[str, Future[FloatArray]]] = []

    def later(number: int, text: str, future: "Future[FloatArray]") -> None:
        if pending:
            at_once(0, *pending.pop())
        if number == 99:
            at_once(number, text, future)
        else:
            pending.append((text, future))

    found = _drive(FakeServer(later), FakeClock())
    assert found.p50_ms == pytest.approx(100, rel=1e-3)
    assert found.p99_ms == pytest.approx(100, rel=1e-3)
    assert found.kept_share == 0.01


def test_a_stall_counts_for_all_who_came_meanwhile() -> None:
    """A call takes 45 ms: those due meanwhile are sent late, and count from when they were due."""
    clock = FakeClock()

    def stall(number: int, text: str, future: "Future[FloatArray]") -> None:
        if number == 500:
            clock.advance(0.045)
        at_once(number, text, future)

    found = _drive(FakeServer(stall), clock, rate_per_s=100.0)
    assert found.p50_ms == 0.001
    assert not found.fell_behind  # 5 of 1000 sent late: fewer than 1 %
    assert found.kept_share == 1.0
    clock = FakeClock()
    found = _drive(FakeServer(stall), clock, rate_per_s=1000.0, seconds=1.0)
    assert found.fell_behind  # 44 of 1000


def test_a_run_in_which_the_generator_fell_behind_has_no_latencies() -> None:
    clock = FakeClock()

    def slow(number: int, text: str, future: "Future[FloatArray]") -> None:
        clock.advance(0.2)
        at_once(number, text, future)

    found = _drive(FakeServer(slow), clock)
    assert found.fell_behind
    assert (found.p50_ms, found.p95_ms, found.p99_ms, found.kept_share) == (None, None, None, None)


def test_refusals_are_misses_and_their_time_is_told() -> None:
    clock = FakeClock()

    def refuse(number: int, text: str, future: "Future[FloatArray]") -> None:
        if number % 4 == 0:
            clock.advance(0.002)
            raise Overloaded("full")
        at_once(number, text, future)

    found = _drive(FakeServer(refuse), clock)
    assert (found.refused_share, found.kept_share, found.lost) == (0.25, 0.75, 0)
    assert found.refusal_ms == pytest.approx(2.0)


def test_errors_are_lost() -> None:
    def fail(number: int, text: str, future: "Future[FloatArray]") -> None:
        future.set_exception(ValueError("no"))

    found = _drive(FakeServer(fail), FakeClock())
    assert (found.lost, found.kept_share, found.p50_ms, found.worst_cosine) == (100, 0.0, None, None)


def test_an_answer_to_another_text_shows() -> None:
    def crossed(number: int, text: str, future: "Future[FloatArray]") -> None:
        at_once(number, "b" if number == 50 else text, future)

    found = _drive(FakeServer(crossed), FakeClock())
    assert found.worst_cosine == pytest.approx(float(fake_embedding("b") @ fake_embedding("c")))


def test_each_percentile_is_that_share_of_the_latencies() -> None:
    """The calls take 0 to 99 ms, each a millisecond more than the one before."""
    clock = FakeClock()

    def slower(number: int, text: str, future: "Future[FloatArray]") -> None:
        clock.advance(number / 1000)
        at_once(number, text, future)

    found = _drive(FakeServer(slower), clock)
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == pytest.approx((49, 94, 98), rel=1e-3)


def test_all_answers_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come when there is nothing left to do but to wait."""
    pending: list[tuple[str, Future[FloatArray]]] = []

    def answer_all(condition: threading.Condition, done: Callable[[], bool], timeout: float) -> bool:
        assert (done(), timeout) == (False, 20.0)
        while pending:
            at_once(0, *pending.pop())
        return done()

    monkeypatch.setattr(threading.Condition, "wait_for", answer_all)
    server = FakeServer(lambda number, text, future: pending.append((text, future)))
    found = _drive(server, FakeClock())
    assert found.lost == 0
    assert found.worst_cosine == pytest.approx(1.0)


def test_the_generators_own_share_of_a_core_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_s = iter([3.0, 5.475])
    monkeypatch.setattr(time, "thread_time", lambda: next(cpu_s))
    assert _drive(FakeServer(at_once), FakeClock()).generator_cpu == pytest.approx(0.25)


@pytest.mark.parametrize("requests", [0, 1])
def test_fewer_than_two_requests_are_no_load(requests: int) -> None:
    with pytest.raises(MeasureError) as caught:
        _drive(FakeServer(at_once), FakeClock(), rate_per_s=1.0, seconds=requests)
    said = f"requests to send: {requests}; wanted 2 or more: measure for longer"
    assert str(caught.value) == said
