"""The search ends at a rate that was verified; all runs are kept."""

import numpy as np
import pytest

from embedopt.errors import MeasureError
from embedopt.inference.encoder import FloatArray
from embedopt.measure.load_test import capacity as capacity_module
from embedopt.measure.load_test.capacity import CapacityTest, highest_rate, keeps_promise, single_rate
from embedopt.measure.load_test.open_loop import Times, Traffic
from embedopt.measure.load_test.servers import BATCHINGS
from embedopt.measure.options import LoadTestPlan
from embedopt.records import LoadPoint
from tests.fakes import FakeClock, FakeEncoder, MoodyEncoder
from tests.measure.load_test.test_open_loop import FakeServer, at_once


def _point(rate_per_s: float, kept_share: float | None, worst_cosine: float = 0.9) -> LoadPoint:
    return LoadPoint(rate_per_s=rate_per_s, seconds=1.0, kept_share=kept_share, worst_cosine=worst_cosine)


def _search(limit: float, verified_limit: float) -> tuple[float | None, list[tuple[float, bool]]]:
    asked: list[tuple[float, bool]] = []

    def measure(rate_per_s: float, verifying: bool) -> LoadPoint:
        asked.append((round(rate_per_s), verifying))
        return _point(rate_per_s, float(rate_per_s <= (verified_limit if verifying else limit)))

    found, runs = highest_rate(measure, 100.0, 2)
    assert [round(run.rate_per_s) for run in runs] == [rate for rate, _ in asked]
    return found, asked


def test_one_per_cent_may_miss_the_promise() -> None:
    assert keeps_promise(_point(1.0, 0.99))
    assert not keeps_promise(_point(1.0, 0.9899))
    assert not keeps_promise(_point(1.0, None))  # the generator fell behind


def _rates(asked: list[tuple[float, bool]], *, verifying: bool = False) -> list[float]:
    return [rate for rate, verified in asked if verified == verifying]


def test_the_search_strides_up_then_halves_the_ratio_and_verifies() -> None:
    found, asked = _search(limit=200.0, verified_limit=200.0)
    assert _rates(asked) == [100, 150, 225, 184, 203]
    assert asked[-1] == (184, True)
    assert found == pytest.approx(183.71, abs=0.01)


def test_the_search_strides_down_where_the_first_rate_is_too_much() -> None:
    found, asked = _search(limit=50.0, verified_limit=50.0)
    assert _rates(asked) == [100, 67, 44, 54, 49]
    assert found == pytest.approx(49.18, abs=0.01)


def test_an_answer_that_is_not_verified_is_lowered() -> None:
    found, asked = _search(limit=200.0, verified_limit=170.0)
    assert _rates(asked, verifying=True) == [184, 178, 173, 168]
    assert found == pytest.approx(167.67, abs=0.01)


def test_a_rate_that_misses_by_little_is_tried_twice() -> None:
    # The first run at each rate meets a stall; 225 a second is too much, and by far.
    shares = {100: [0.95, 0.99], 150: [0.9, 1.0], 225: [0.8], 184: [0.95, 0.95], 166: [0.98, 1.0]}
    asked: list[int] = []

    def measure(rate_per_s: float, verifying: bool) -> LoadPoint:
        asked.append(round(rate_per_s))
        return _point(rate_per_s, 1.0 if verifying else shares[round(rate_per_s)].pop(0))

    found, _ = highest_rate(measure, 100.0, 2)
    assert asked == [100, 100, 150, 150, 225, 184, 184, 166, 166, 166]
    assert found == pytest.approx(166.00, abs=0.01)


def test_no_rate_keeps_the_promise() -> None:
    found, asked = _search(limit=0.0, verified_limit=0.0)
    assert (found, _rates(asked)) == (None, [100, 67, 44, 30, 20, 13])
    found, asked = _search(limit=200.0, verified_limit=0.0)
    assert found is None
    assert len(_rates(asked, verifying=True)) == 20


def test_the_search_ends_where_nothing_is_too_much() -> None:
    """There is nothing to halve then: the last rate is verified."""
    found, asked = _search(limit=1e9, verified_limit=1e9)
    assert _rates(asked) == [100, 150, 225, 338, 506, 759, 1139]
    assert asked[-1] == (1139, True)
    assert found == 100 * 1.5**6


def test_the_last_rate_on_the_way_up_is_measured_too() -> None:
    found, asked = _search(limit=1000.0, verified_limit=1000.0)
    assert _rates(asked) == [100, 150, 225, 338, 506, 759, 1139, 930, 1029]
    assert found == pytest.approx(930.04, abs=0.01)


def test_the_rate_one_by_one_is_texts_over_time() -> None:
    clock = FakeClock()
    encoder = FakeEncoder(on_encode=lambda _: clock.advance(0.25))
    assert single_rate(encoder, ["a", "b"], 2.0, clock) == pytest.approx(4.0)
    assert encoder.calls[:3] == [["a"], ["b"], ["a"]]


PLAN = LoadTestPlan(
    shares=(0.5, 1.0), point_s=2.0, search_steps=1, verify_s=5.0, overload_s=30.0, texts=2
)  # fmt: skip
ONE_RATE = LoadTestPlan(shares=(1.0,), point_s=1.0, search_steps=0, verify_s=0, overload_s=0, texts=2)


def test_what_is_measured_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one 100/s: fixed rates of all three, then the search of each from 50 and its verification.

    Up to 250 requests a second are answered in time; each run's cosine is the worse the more requests it has.
    """
    driven: list[int] = []

    def drive(server: object, arrivals_s: Times, traffic: Traffic) -> LoadPoint:
        assert traffic.texts == ["a", "b"]
        driven.append(len(arrivals_s))
        rate_per_s = len(arrivals_s) / arrivals_s[-1]
        return _point(rate_per_s, float(rate_per_s <= 250), 1 - len(arrivals_s) / 1e6)

    monkeypatch.setattr(capacity_module, "drive", drive)
    monkeypatch.setattr(capacity_module, "single_rate", lambda *_: 100.0)
    found = CapacityTest(FakeEncoder(), ["a", "b", "c"], 50.0, PLAN).measure()
    searched = [100, 150, 225, 338, 507, 414, 1034]  # requests in 2 s, in 5 s to verify
    overload = 18601  # in 30 s, at three times the 206.7 a second that were found
    assert driven == [100, 100, 100, 200, 200, 200, *searched, *searched, *searched, overload]
    assert list(found) == list(BATCHINGS)
    assert [load.overload is None for load in found.values()] == [True, True, False]
    assert [load.worst_cosine for load in found.values()] == [1 - 0.001034, 1 - 0.001034, 1 - 0.018601]
    adaptive = found["adaptive"]
    assert (adaptive.replicas, adaptive.promise_ms, adaptive.single_per_s) == (1, 50.0, 100.0)
    assert adaptive.highest_per_s == pytest.approx(206.68, abs=0.01)


def test_answers_are_held_against_texts_that_were_encoded_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[FloatArray | None] = []

    def drive(server: object, arrivals_s: Times, traffic: Traffic) -> LoadPoint:
        held.append(traffic.alone)
        return _point(1.0, 1.0)

    monkeypatch.setattr(capacity_module, "drive", drive)
    monkeypatch.setattr(capacity_module, "single_rate", lambda *_: 100.0)
    CapacityTest(MoodyEncoder(), ["a", "b"], 50.0, ONE_RATE).measure()
    alone = np.concatenate([MoodyEncoder().encode(["a"]), MoodyEncoder().encode(["b"])])
    np.testing.assert_array_equal(held[0], alone)


def test_a_server_is_closed_whatever_comes_of_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer(at_once)

    def fail(*_: object) -> LoadPoint:
        assert server.closed == 0
        raise MeasureError("no")

    monkeypatch.setattr(capacity_module, "open_server", lambda *_: server)
    monkeypatch.setattr(capacity_module, "drive", fail)
    monkeypatch.setattr(capacity_module, "single_rate", lambda *_: 100.0)
    with pytest.raises(MeasureError, match=r"^no$"):
        CapacityTest(FakeEncoder(), ["a"], 50.0, ONE_RATE).measure()
    assert server.closed == 1


def test_the_slowest_of_machines_gets_two_requests_to_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    driven: list[int] = []

    def drive(server: object, arrivals_s: Times, traffic: Traffic) -> LoadPoint:
        driven.append(len(arrivals_s))
        return _point(0.01, 0.0)

    monkeypatch.setattr(capacity_module, "drive", drive)
    monkeypatch.setattr(capacity_module, "single_rate", lambda *_: 0.01)
    CapacityTest(FakeEncoder(), ["a"], 50.0, ONE_RATE).measure()
    assert driven == [2, 2, 2]


def test_an_overload_tells_how_much_memory_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = iter([500, 530])
    monkeypatch.setattr(capacity_module, "resident_bytes", lambda: next(resident))
    monkeypatch.setattr(capacity_module, "drive", lambda *_: _point(2.0, 1.0))
    monkeypatch.setattr(capacity_module, "single_rate", lambda *_: 100.0)
    found = CapacityTest(FakeEncoder(), ["a", "b", "c"], 50.0, PLAN).measure()
    grown = {batching: load.overload_growth_bytes for batching, load in found.items()}
    assert grown == {"none": None, "window": None, "adaptive": 30}


def test_a_run_in_which_the_generator_fell_behind_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter([LoadPoint(rate_per_s=1.0, seconds=1.0, fell_behind=True), *[_point(2.0, 1.0)] * 10])
    monkeypatch.setattr(capacity_module, "drive", lambda *_: next(runs))
    monkeypatch.setattr(capacity_module, "single_rate", lambda *_: 100.0)
    found = CapacityTest(FakeEncoder(), ["a"], 50.0, ONE_RATE).measure()["none"]
    assert found.points == (_point(2.0, 1.0),)
    assert (found.highest_per_s, found.overload) == (None, None)
