"""Backends take turns; each turn is timed by itself."""

import contextlib
from collections.abc import Iterator

import pytest

from embedopt.inference.encoder import Encoder
from embedopt.measure.turns import Race, short_texts, take_turns
from tests.fakes import FakeClock, FakeEncoder


def test_short_texts() -> None:
    assert short_texts(["a", "b", "c"], [16, 17, 3]) == ("a", "c")


def test_turns() -> None:
    """Both are opened in each round, in an order that moves on, and only their own calls are timed."""
    clock, log = FakeClock(), []
    seconds_a_text = {"slow": 0.010, "fast": 0.002}

    @contextlib.contextmanager
    def opens(name: str) -> Iterator[tuple[Encoder, Encoder]]:
        clock.advance(100)
        many = FakeEncoder(name, lambda count: clock.advance(seconds_a_text[name] * count / 2))
        single = FakeEncoder(name, lambda count: clock.advance(seconds_a_text[name] * count))
        log.append(name)
        yield many, single
        log.append(f"{name} closed")

    texts = [f"text {number}" for number in range(8)]
    race = Race(names=["slow", "fast"], opens=opens, texts=texts, rounds=3, calls=6)
    found = take_turns(race, lambda: log.append("round"), clock)
    opened = [name for name in log if "closed" not in name]
    assert opened == ["slow", "fast", "round", "fast", "slow", "round", "slow", "fast", "round"]
    assert log[:2] == ["slow", "slow closed"]
    assert found["slow"].texts_per_s == pytest.approx((200, 200, 200))
    assert found["slow"].one_by_one_per_s == pytest.approx((100, 100, 100))
    assert found["fast"].texts_per_s == pytest.approx((1000, 1000, 1000))
    assert found["fast"].p50_ms == pytest.approx(2.0)
    assert found["fast"].p99_ms is None  # 18 calls


def test_rounds_go_on_in_the_texts() -> None:
    clock = FakeClock()
    encoder = FakeEncoder(on_encode=lambda count: clock.advance(1))

    @contextlib.contextmanager
    def opens(name: str) -> Iterator[tuple[Encoder, Encoder]]:
        yield FakeEncoder(on_encode=lambda count: clock.advance(1)), encoder

    take_turns(Race(names=["fake"], opens=opens, texts=["a", "b", "c"], rounds=2, calls=2), clock=clock)
    assert encoder.calls == [["a"], ["b"], ["a"], ["b"], ["c"], ["a"], ["c"], ["a"]]  # warm-up, then timed
