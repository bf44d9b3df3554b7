"""The search ends at a rate that was verified; all runs are kept."""

import dataclasses
import time

import numpy as np
import pytest

from embedopt.errors import MeasureError
from embedopt.inference.encoder import FloatArray
from embedopt.measure.load_test import capacity as capacity_module
from embedopt.measure.load_test.capacity import CapacityTest, RateSearch, keeps_promise, single_rate, soak
from embedopt.measure.load_test.open_loop import Times, Traffic
from embedopt.measure.load_test.servers import BATCHINGS, EndpointServer
from embedopt.measure.profiles import LoadTestPlan
from embedopt.records import LoadPoint, LoadTest
from tests.fakes import FakeClock, FakeEncoder, MoodyEncoder
from tests.measure.load_test.fake_server import FakeServer, at_once

PLAN = LoadTestPlan(
    shares=(0.5, 1.0), point_s=2.0, search_steps=1, verify_s=5.0, overload_s=30.0, texts=2
)  # fmt: skip
TWO_STEPS = dataclasses.replace(PLAN, search_steps=2)
ONE_RATE = LoadTestPlan(shares=(1.0,), point_s=1.0, search_steps=0, verify_s=0, overload_s=0, texts=2)


def _point(rate_per_s: float, kept_share: float | None, worst_cosine: float = 0.9) -> LoadPoint:
    return LoadPoint(rate_per_s=rate_per_s, seconds=1.0, kept_share=kept_share, worst_cosine=worst_cosine)


def _search(
    limit: float, verified_limit: float, fixed: tuple[float, ...] = (50.0, 100.0)
) -> tuple[float | None, list[tuple[int, float]]]:
    """Search where rates up to ``limit`` keep the promise; also return each run's rate and seconds."""
    tried: list[tuple[int, float]] = []

    def measure(rate_per_s: float, seconds: float) -> LoadPoint:
        tried.append((round(rate_per_s), seconds))
        return _point(rate_per_s, float(rate_per_s <= (verified_limit if seconds == 5.0 else limit)))

    search = RateSearch(measure, TWO_STEPS)
    highest_per_s = search.highest_rate(
        [_point(rate_per_s, float(rate_per_s <= limit)) for rate_per_s in fixed]
    )
    assert [round(run.rate_per_s) for run in search.runs] == [rate for rate, _ in tried]
    return highest_per_s, tried


def _rates(tried: list[tuple[int, float]], seconds: float = 2.0) -> list[int]:
    return [rate for rate, tried_s in tried if tried_s == seconds]


def test_one_per_cent_may_miss_the_promise() -> None:
    assert keeps_promise(_point(1.0, 0.99))
    assert not keeps_promise(_point(1.0, 0.9899))
    assert not keeps_promise(_point(1.0, None))  # the generator fell behind


def test_the_search_begins_between_the_fixed_rates() -> None:
    highest_per_s, tried = _search(limit=80.0, verified_limit=80.0)
    assert tried == [(71, 2.0), (84, 2.0), (71, 5.0)]
    assert highest_per_s == pytest.approx(70.71, abs=0.01)


def test_a_stall_at_a_lower_rate_does_not_end_the_search_there() -> None:
    points = [_point(25.0, 0.9), _point(50.0, 1.0), _point(100.0, 0.5)]
    search = RateSearch(lambda rate_per_s, _: _point(rate_per_s, 1.0), TWO_STEPS)
    assert search.highest_rate(points) == pytest.approx(84.09, abs=0.01)


def test_the_search_strides_up_then_bisects_the_ratio_and_verifies() -> None:
    highest_per_s, tried = _search(limit=200.0, verified_limit=200.0)
    assert _rates(tried) == [150, 225, 184, 203]
    assert tried[-1] == (184, 5.0)
    assert highest_per_s == pytest.approx(183.71, abs=0.01)


def test_the_search_strides_down_where_the_lowest_rate_is_too_high() -> None:
    highest_per_s, tried = _search(limit=40.0, verified_limit=40.0)
    assert _rates(tried) == [33, 41, 37]
    assert highest_per_s == pytest.approx(36.89, abs=0.01)


def test_a_rate_that_is_not_verified_is_lowered() -> None:
    highest_per_s, tried = _search(limit=200.0, verified_limit=170.0)
    assert _rates(tried, 5.0) == [184, 175, 166]
    assert highest_per_s == pytest.approx(165.80, abs=0.01)


def test_a_rate_that_misses_by_little_is_tried_twice() -> None:
    # The first run at each rate meets a stall; 225 a second is too much, and by far.
    shares = {150: [0.9, 1.0], 225: [0.8], 184: [0.95, 0.95], 166: [0.98, 1.0]}
    tried: list[int] = []

    def measure(rate_per_s: float, seconds: float) -> LoadPoint:
        tried.append(round(rate_per_s))
        return _point(rate_per_s, 1.0 if seconds == 5.0 else shares[round(rate_per_s)].pop(0))

    highest_per_s = RateSearch(measure, TWO_STEPS).highest_rate([_point(100.0, 1.0)])
    assert tried == [150, 150, 225, 184, 184, 166, 166, 166]
    assert highest_per_s == pytest.approx(166.00, abs=0.01)


def test_where_no_rate_keeps_the_promise_there_is_no_highest_one() -> None:
    highest_per_s, tried = _search(limit=0.0, verified_limit=0.0)
    assert (highest_per_s, tried) == (None, [(33, 2.0)])


def test_where_no_rate_is_verified_there_is_no_highest_one() -> None:
    highest_per_s, tried = _search(limit=200.0, verified_limit=0.0)
    assert highest_per_s is None
    assert len(_rates(tried, 5.0)) == 12


def test_where_all_rates_keep_the_promise_the_last_one_is_verified() -> None:
    """There is nothing to bisect then."""
    highest_per_s, tried = _search(limit=1e9, verified_limit=1e9)
    assert _rates(tried) == [150, 225, 338, 506, 759, 1139]
    assert tried[-1] == (1139, 5.0)
    assert highest_per_s == 100 * 1.5**6


def test_the_last_rate_on_the_way_up_is_measured_too() -> None:
    highest_per_s, tried = _search(limit=1000.0, verified_limit=1000.0)
    assert _rates(tried) == [150, 225, 338, 506, 759, 1139, 930, 1029]
    assert highest_per_s == pytest.approx(930.04, abs=0.01)


def test_the_rate_one_by_one_is_texts_over_time() -> None:
    clock = FakeClock()
    encoder = FakeEncoder(on_encode=lambda _: clock.advance(0.25))
    assert single_rate(encoder, ["a", "b"], 2.0, clock) == pytest.approx(4.0)
    assert encoder.calls[:3] == [["a"], ["b"], ["a"]]


@pytest.fixture
def single_per_s(monkeypatch: pytest.MonkeyPatch) -> float:
    """A rate one by one that takes no time to measure."""
    monkeypatch.setattr(capacity_module, "single_rate", lambda *_: 100.0)
    return 100.0


@pytest.mark.usefixtures("single_per_s")
def test_all_three_servers_get_the_same_rates_and_adaptive_batching_an_overload(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fixed rates of all three, then for each the search from 100 a second up, and its verification.

    Up to 250 requests a second are answered in time; each run's cosine is the worse the more requests it has.
    """
    driven: list[int] = []

    def drive(server: object, arrivals_s: Times, traffic: Traffic) -> LoadPoint:
        assert traffic.texts == ["a", "b"]
        driven.append(len(arrivals_s))
        rate_per_s = len(arrivals_s) / arrivals_s[-1]
        return _point(rate_per_s, float(rate_per_s <= 250), 1 - len(arrivals_s) / 1e6)

    monkeypatch.setattr(capacity_module, "drive", drive)
    tests = CapacityTest(FakeEncoder(), ["a", "b", "c"], 50.0, PLAN).measure()
    searched = [300, 450, 675, 552, 1125]  # requests in 2 s, in 5 s to verify
    overload = 20250  # in 30 s, at three times the highest rate, 225 a second
    assert driven == [100, 100, 100, 200, 200, 200, *searched, *searched, *searched, overload]
    assert list(tests) == list(BATCHINGS)
    assert [test.overload is None for test in tests.values()] == [True, True, False]
    assert [test.worst_cosine for test in tests.values()] == [1 - 0.001125, 1 - 0.001125, 1 - 0.02025]
    adaptive = tests["adaptive"]
    assert (adaptive.replicas, adaptive.promise_ms, adaptive.single_per_s) == (1, 50.0, 100.0)
    assert adaptive.highest_per_s == pytest.approx(225.0, rel=0.01)


@pytest.mark.usefixtures("single_per_s")
def test_an_endpoint_is_tested_as_it_is_and_not_overloaded_on_purpose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rates of the search show what it does beyond its capacity; sending takes all CPU of the process."""
    opened: list[object] = []

    def drive(server: object, arrivals_s: Times, traffic: Traffic) -> LoadPoint:
        assert traffic.cpu_clock is time.process_time
        opened.append(type(server))
        rate_per_s = len(arrivals_s) / arrivals_s[-1]
        return _point(rate_per_s, float(rate_per_s <= 250))

    monkeypatch.setattr(capacity_module, "drive", drive)
    encoder = FakeEncoder()
    encoder.is_endpoint = True
    [(batching, test)] = CapacityTest(encoder, ["a"], 50.0, PLAN).measure().items()
    assert (batching, set(opened), test.overload) == ("own", {EndpointServer}, None)
    assert test.highest_per_s == pytest.approx(225.0, rel=0.01)


@pytest.mark.usefixtures("single_per_s")
def test_answers_are_compared_with_texts_that_were_encoded_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[FloatArray | None] = []

    def drive(server: object, arrivals_s: Times, traffic: Traffic) -> LoadPoint:
        compared.append(traffic.alone)
        return _point(1.0, 1.0)

    monkeypatch.setattr(capacity_module, "drive", drive)
    CapacityTest(MoodyEncoder(), ["a", "b"], 50.0, ONE_RATE).measure()
    alone = np.concatenate([MoodyEncoder().encode(["a"]), MoodyEncoder().encode(["b"])])
    np.testing.assert_array_equal(compared[0], alone)


@pytest.mark.usefixtures("single_per_s")
def test_a_server_is_closed_where_its_run_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer(at_once)

    def fail(*_: object) -> LoadPoint:
        assert server.closed == 0
        raise MeasureError("no")

    monkeypatch.setattr(capacity_module, "open_server", lambda *_: server)
    monkeypatch.setattr(capacity_module, "drive", fail)
    with pytest.raises(MeasureError, match=r"^no$"):
        CapacityTest(FakeEncoder(), ["a"], 50.0, ONE_RATE).measure()
    assert server.closed == 1


def test_a_run_on_the_slowest_machine_has_two_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    driven: list[int] = []

    def drive(server: object, arrivals_s: Times, traffic: Traffic) -> LoadPoint:
        driven.append(len(arrivals_s))
        return _point(0.01, 0.0)

    monkeypatch.setattr(capacity_module, "drive", drive)
    monkeypatch.setattr(capacity_module, "single_rate", lambda *_: 0.01)
    CapacityTest(FakeEncoder(), ["a"], 50.0, ONE_RATE).measure()
    assert driven == [2, 2, 2]


@pytest.mark.usefixtures("single_per_s")
def test_the_growth_of_memory_in_an_overload_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = iter([500, 530])
    monkeypatch.setattr(capacity_module, "resident_bytes", lambda: next(resident))
    monkeypatch.setattr(capacity_module, "drive", lambda *_: _point(2.0, 1.0))
    tests = CapacityTest(FakeEncoder(), ["a", "b", "c"], 50.0, PLAN).measure()
    growths = {batching: test.overload_growth_bytes for batching, test in tests.items()}
    assert growths == {"none": None, "window": None, "adaptive": 30}


@pytest.mark.usefixtures("single_per_s")
def test_a_run_in_which_the_generator_fell_behind_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter([LoadPoint(rate_per_s=1.0, seconds=1.0, fell_behind=True), *[_point(2.0, 1.0)] * 10])
    monkeypatch.setattr(capacity_module, "drive", lambda *_: next(runs))
    test = CapacityTest(FakeEncoder(), ["a"], 50.0, ONE_RATE).measure()["none"]
    assert test.points == (_point(2.0, 1.0),)
    assert (test.highest_per_s, test.overload) == (None, None)


@pytest.mark.usefixtures("single_per_s")
@pytest.mark.parametrize(
    ("pid", "is_endpoint", "batching", "growth_bytes"),
    [(None, False, "adaptive", 7), (4, False, "adaptive", 14), (4, True, "own", 14)],
)
def test_a_soak_is_at_four_fifths_of_the_rate_one_by_one_and_leaves_out_its_first_quarter(
    monkeypatch: pytest.MonkeyPatch, pid: int | None, is_endpoint: bool, batching: str, growth_bytes: int
) -> None:
    """The memory is that of this process, or of the two that a declared row started."""
    server = FakeServer(at_once)
    driven: list[tuple[int, float]] = []

    def drive(target: object, arrivals_s: Times, traffic: Traffic) -> LoadPoint:
        assert (target, server.closed) == (server, 0)
        assert traffic == Traffic(texts=["a"], promise_ms=50.0)
        driven.append((len(arrivals_s), round(arrivals_s[-1])))
        return _point(80.0, 1.0)

    def resident_bytes(process: int | None) -> int:
        assert (process is None) == (pid is None)
        return [100, 130, 120, 107][len(driven) - 1]

    monkeypatch.setattr(capacity_module, "resident_bytes", resident_bytes)
    monkeypatch.setattr(capacity_module, "processes_of", lambda process: [process, process + 1])
    monkeypatch.setattr(
        capacity_module, "open_server", lambda *asked: server if asked[0] == batching else None
    )
    monkeypatch.setattr(capacity_module, "drive", drive)
    encoder = FakeEncoder()
    encoder.pid, encoder.is_endpoint = pid, is_endpoint
    tests = soak(encoder, ["a"], 50.0, 60.0)
    assert tests == {batching: LoadTest(replicas=1, promise_ms=50.0, soak_growth_bytes=growth_bytes)}
    assert driven == [(1200, 15)] * 4  # 80 a second, for a quarter of 60 s
    assert server.closed == 1


@pytest.mark.usefixtures("single_per_s")
def test_a_soak_whose_requests_are_lost_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of what answers nothing is flat."""
    monkeypatch.setattr(capacity_module, "open_server", lambda *_: FakeServer(at_once))
    monkeypatch.setattr(capacity_module, "drive", lambda *_: dataclasses.replace(_point(80.0, 1.0), lost=3))
    with pytest.raises(MeasureError, match=r"^fake lost 3 requests of a soak; wanted all answers: "):
        soak(FakeEncoder(), ["a"], 50.0, 60.0)


def test_a_soak_of_an_endpoint_whose_process_is_out_of_reach_is_refused() -> None:
    encoder = FakeEncoder()
    encoder.is_endpoint = True
    with pytest.raises(
        MeasureError, match=r"^fake runs already, and its memory can't be read; wanted a target"
    ):
        soak(encoder, ["a"], 50.0, 60.0)


def test_a_soak_that_fails_closes_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer(at_once)
    monkeypatch.setattr(capacity_module, "single_rate", lambda *_: 1.0)
    monkeypatch.setattr(capacity_module, "open_server", lambda *_: server)
    with pytest.raises(MeasureError, match=r"^a load test of 1 requests has no rate; wanted 2 or more"):
        soak(FakeEncoder(), ["a"], 50.0, 4.0)
    assert server.closed == 1
