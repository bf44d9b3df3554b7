"""Growth is from the first quarter of a soak to the last."""

from embedopt.measure.load import Times, Traffic
from embedopt.measure.soak import memory_growth
from tests.measure.test_load import FakeServer, at_once


def test_growth_leaves_out_the_first_quarter() -> None:
    sizes = iter([100, 130, 120, 107])
    driven: list[int] = []

    def run(server: object, arrivals_s: Times, traffic: Traffic) -> None:
        driven.append(len(arrivals_s))

    traffic = Traffic(texts=("a",), promise_ms=50.0)
    grown = memory_growth(FakeServer(at_once), traffic, 10.0, 40.0, run=run, resident=lambda: next(sizes))
    assert grown == 7
    assert driven == [100] * 4
