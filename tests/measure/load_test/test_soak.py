"""Growth is from the first quarter of a soak to the last."""

import pytest

from embedopt.errors import MeasureError
from embedopt.measure.load_test import soak as soak_module
from embedopt.measure.load_test.open_loop import Times, Traffic
from embedopt.measure.load_test.servers import Server
from embedopt.measure.load_test.soak import memory_growth, soak
from embedopt.records import LoadTest
from tests.fakes import FakeEncoder
from tests.measure.load_test.test_open_loop import FakeServer, at_once


def test_growth_leaves_out_the_first_quarter() -> None:
    sizes = iter([100, 130, 120, 107])
    driven: list[int] = []

    def run(server: object, arrivals_s: Times, traffic: Traffic) -> None:
        driven.append(len(arrivals_s))

    traffic = Traffic(texts=("a",), promise_ms=50.0)
    grown = memory_growth(FakeServer(at_once), traffic, 10.0, 40.0, run=run, resident=lambda: next(sizes))
    assert grown == 7
    assert driven == [100] * 4


def test_a_soak_is_at_four_fifths_of_the_rate_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Traffic, float, float]] = []
    server = FakeServer(at_once)

    def grown(of: Server, traffic: Traffic, rate_per_s: float, seconds: float) -> int:
        assert (of, server.closed) == (server, 0)
        asked.append((traffic, rate_per_s, seconds))
        return 7

    monkeypatch.setattr(soak_module, "single_rate", lambda *_: 100.0)
    monkeypatch.setattr(soak_module, "open_server", lambda *_: server)
    monkeypatch.setattr(soak_module, "memory_growth", grown)
    found = soak(FakeEncoder(), ["a"], 50.0, 60.0)
    assert found == LoadTest(replicas=1, promise_ms=50.0, soak_growth_bytes=7)
    assert asked == [(Traffic(texts=["a"], promise_ms=50.0), 80.0, 60.0)]
    assert server.closed == 1


def test_a_soak_that_fails_closes_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer(at_once)
    monkeypatch.setattr(soak_module, "single_rate", lambda *_: 1.0)
    monkeypatch.setattr(soak_module, "open_server", lambda *_: server)
    with pytest.raises(MeasureError, match=r"^requests to send: 1; wanted 2 or more: measure for longer$"):
        soak(FakeEncoder(), ["a"], 50.0, 4.0)
    assert server.closed == 1
