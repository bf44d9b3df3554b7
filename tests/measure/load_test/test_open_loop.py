"""Latency counts from the intended arrival, and a generator that falls behind has no latencies."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import pytest

from embedopt.errors import MeasureError, Overloaded, Refused
from embedopt.inference.encoder import FloatArray
from embedopt.measure.latency import percentiles
from embedopt.measure.load_test.open_loop import Traffic, drive, poisson
from embedopt.measure.load_test.servers import SentRequest
from embedopt.records import LoadPoint
from tests.fakes import FakeClock, fake_embedding
from tests.measure.load_test.fake_server import FakeServer, at_once

TEXTS = ("a", "b", "c")
ALONE = np.stack([fake_embedding(text) for text in TEXTS])


def _drive(
    server: FakeServer, clock: FakeClock | None = None, *, requests: int = 100, rate_per_s: float = 10.0
) -> LoadPoint:
    """Send requests at equal distances."""
    clock = clock or FakeClock()
    traffic = Traffic(texts=TEXTS, promise_ms=50.0, alone=ALONE)
    return drive(server, np.arange(requests) / rate_per_s, traffic, clock=clock, sleep=clock.advance)


def test_poisson_arrivals_are_seeded_and_have_exponential_gaps() -> None:
    drawn = poisson(100.0, 200.0, seed=1)
    assert len(drawn) == 20_000
    assert np.array_equal(drawn, poisson(100.0, 200.0, seed=1))
    assert not np.array_equal(drawn, poisson(100.0, 200.0, seed=2))
    gaps = np.diff(drawn, prepend=0.0)
    assert gaps.min() >= 0.0
    assert gaps.std() == pytest.approx(0.01, rel=0.03)  # as much as their mean: an exponential distribution


@pytest.mark.parametrize("seed", range(5))
def test_few_poisson_arrivals_have_exactly_the_rate_too(seed: int) -> None:
    drawn = poisson(4.0, 2.4, seed)
    assert len(drawn) == 10
    assert drawn[-1] == 2.5


def test_a_server_that_answers_at_once() -> None:
    server = FakeServer(at_once)
    point = _drive(server)
    assert server.texts[:4] == ["a", "b", "c", "a"]
    assert len(server.texts) == 100
    assert (point.p50_ms, point.p95_ms) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert (point.kept_share, point.refused_share, point.lost, point.fell_behind) == (1.0, 0.0, 0, False)
    assert point.refusal_ms is None
    assert point.worst_cosine == pytest.approx(1.0)
    assert point.rate_per_s == pytest.approx(100 / 9.9)


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

    point = _drive(FakeServer(later))
    assert (point.p50_ms, point.p95_ms) == pytest.approx((100.0, 100.0))
    assert point.kept_share == 0.01


@pytest.mark.parametrize(("rate_per_s", "fell_behind"), [(100.0, False), (1000.0, True)])
def test_a_stall_counts_for_all_requests_that_arrive_meanwhile(rate_per_s: float, fell_behind: bool) -> None:
    """A call takes 45 ms. Requests that are due meanwhile are sent late, and their latency counts from then.

    At 100 a second 5 of 1000 are late, fewer than 1 %; at 1000 a second 44 are.
    """
    clock = FakeClock()

    def stall(number: int, text: str, future: "Future[FloatArray]") -> None:
        if number == 500:
            clock.advance(0.045)
        at_once(number, text, future)

    point = _drive(FakeServer(stall), clock, requests=1000, rate_per_s=rate_per_s)
    assert point.fell_behind == fell_behind
    assert point.kept_share == (None if fell_behind else 1.0)


def test_a_run_in_which_the_generator_fell_behind_has_no_latencies() -> None:
    clock = FakeClock()

    def slow(number: int, text: str, future: "Future[FloatArray]") -> None:
        clock.advance(0.2)
        at_once(number, text, future)

    point = _drive(FakeServer(slow), clock)
    assert point.fell_behind
    assert (point.p50_ms, point.p95_ms, point.p99_ms, point.kept_share) == (None, None, None, None)


def test_a_refused_request_misses_the_promise_and_its_time_is_measured() -> None:
    clock = FakeClock()

    def refuse(number: int, text: str, future: "Future[FloatArray]") -> None:
        if number % 4 == 0:
            clock.advance(0.002)
            raise Overloaded("full")
        at_once(number, text, future)

    point = _drive(FakeServer(refuse), clock)
    assert (point.refused_share, point.kept_share, point.lost) == (0.25, 0.75, 0)
    assert point.refusal_ms == pytest.approx(2.0)


def test_an_endpoints_refusal_is_an_answer_and_the_overload_of_a_batcher_in_an_answer_is_none() -> None:
    """The batcher refuses before it takes a request: one that it took and then refuses is lost."""
    clock = FakeClock()

    def refuse(number: int, text: str, future: "Future[FloatArray]") -> None:
        if number % 4 == 0:
            clock.advance(0.002)
            future.set_exception(Refused("429") if number % 8 == 0 else Overloaded("late"))
        else:
            at_once(number, text, future)

    point = _drive(FakeServer(refuse), clock, requests=80)
    assert (point.refused_share, point.lost, point.kept_share) == (0.125, 10, 0.75)
    assert point.refusal_ms == pytest.approx(2.0)


@pytest.mark.parametrize(("late_s", "fell_behind"), [(0.009, False), (0.011, True)])
def test_a_request_is_late_by_when_a_thread_has_sent_it(late_s: float, fell_behind: bool) -> None:
    class Sender(FakeServer):
        def submit(self, text: str) -> "Future[FloatArray]":
            request = SentRequest()
            request.sent_s = clock() + late_s
            at_once(0, text, request)
            return request

    clock = FakeClock()
    point = _drive(Sender(at_once), clock)
    assert point.late_ms == pytest.approx(1e3 * late_s)
    assert point.fell_behind == fell_behind


def test_vectors_of_any_length_are_compared_by_their_cosine() -> None:
    def longer(number: int, text: str, future: "Future[FloatArray]") -> None:
        future.set_result(3 * fake_embedding(text))

    assert _drive(FakeServer(longer)).worst_cosine == pytest.approx(1.0)


def test_a_request_that_gets_an_error_is_lost() -> None:
    def fail(number: int, text: str, future: "Future[FloatArray]") -> None:
        future.set_exception(ValueError("no"))

    point = _drive(FakeServer(fail))
    assert (point.lost, point.kept_share, point.p50_ms, point.worst_cosine) == (100, 0.0, None, None)


def test_an_answer_to_another_text_lowers_the_worst_cosine() -> None:
    def crossed(number: int, text: str, future: "Future[FloatArray]") -> None:
        at_once(number, "b" if number == 50 else text, future)

    point = _drive(FakeServer(crossed))
    assert point.worst_cosine == pytest.approx(float(fake_embedding("b") @ fake_embedding("c")))


@pytest.mark.parametrize(("requests", "has_p99"), [(367, False), (368, True)])
def test_percentiles_and_their_intervals_are_those_of_latency(requests: int, has_p99: bool) -> None:
    """The latency grows from request to request; a p99 takes 368 of them."""
    clock = FakeClock()

    def slower(number: int, text: str, future: "Future[FloatArray]") -> None:
        clock.advance(number / 10_000)
        at_once(number, text, future)

    point = _drive(FakeServer(slower), clock, requests=requests)
    expected = percentiles([number / 10_000 for number in range(requests)])
    assert (point.p99_ms is not None, point.p99_ci_ms is not None) == (has_p99, has_p99)
    assert (point.p50_ms, point.p95_ms) == pytest.approx((expected["p50_ms"], expected["p95_ms"]))
    assert point.p95_ci_ms == pytest.approx(expected["p95_ci_ms"])
    assert point.p99_ci_ms == (pytest.approx(expected["p99_ci_ms"]) if has_p99 else None)


def test_all_answers_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come once all requests are sent."""
    pending: list[tuple[str, Future[FloatArray]]] = []

    def answer_all(condition: threading.Condition, done: Callable[[], bool], timeout: float) -> bool:
        assert (done(), timeout) == (False, 20.0)
        while pending:
            at_once(0, *pending.pop())
        return done()

    monkeypatch.setattr(threading.Condition, "wait_for", answer_all)
    point = _drive(FakeServer(lambda number, text, future: pending.append((text, future))))
    assert point.lost == 0
    assert point.worst_cosine == pytest.approx(1.0)


def test_the_generators_share_of_a_core_is_measured() -> None:
    cpu_s = iter([3.0, 5.475])
    clock, traffic = FakeClock(), Traffic(texts=TEXTS, promise_ms=50.0, cpu_clock=lambda: next(cpu_s))
    point = drive(FakeServer(at_once), np.arange(100) / 10.0, traffic, clock=clock, sleep=clock.advance)
    assert point.generator_cpu == pytest.approx(0.25)


@pytest.mark.parametrize("requests", [0, 1])
def test_fewer_than_two_requests_have_no_rate(requests: int) -> None:
    with pytest.raises(MeasureError) as caught:
        _drive(FakeServer(at_once), requests=requests)
    message = f"a load test of {requests} requests has no rate; wanted 2 or more: measure for longer"
    assert str(caught.value) == message
