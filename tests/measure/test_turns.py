"""Backends take turns on the same texts, and each turn is timed by itself."""

import contextlib
from collections.abc import Iterator

import pytest

from embedopt.inference.encoder import Encoder
from embedopt.measure.turns import TurnsPlan, short_texts, take_turns
from tests.fakes import FakeClock, FakeEncoder


def test_short_texts_have_at_most_16_tokens() -> None:
    assert short_texts(["a", "b", "c"], [16, 17, 3]) == ("a", "c")


def test_every_round_opens_each_backend_and_times_only_its_own_calls() -> None:
    """Every round starts with another backend; opening one takes 100 s that no rate includes."""
    clock, log = FakeClock(), []
    seconds_a_text = {"slow": 0.010, "fast": 0.002}

    @contextlib.contextmanager
    def open_backend(name: str) -> Iterator[Encoder]:
        clock.advance(100)
        # Several texts are shared by two replicas.
        log.append(name)
        yield FakeEncoder(name, lambda count: clock.advance(seconds_a_text[name] * max(count / 2, 1)))
        log.append(f"{name} closed")

    texts = [f"text {number}" for number in range(8)]
    plan = TurnsPlan(names=["slow", "fast"], open_backend=open_backend, texts=texts, rounds=3, calls=6)
    turns = take_turns(plan, lambda: log.append("round"), clock=clock)
    opened = [name for name in log if "closed" not in name]
    assert opened == ["slow", "fast", "round", "fast", "slow", "round", "slow", "fast", "round"]
    assert log[:2] == ["slow", "slow closed"]
    assert turns["slow"].texts_per_s == pytest.approx((200, 200, 200))
    assert turns["slow"].one_by_one_per_s == pytest.approx((100, 100, 100))
    assert turns["fast"].texts_per_s == pytest.approx((1000, 1000, 1000))
    assert turns["fast"].p50_ms == pytest.approx(2.0)
    assert turns["fast"].p99_ms is None  # 18 calls


def test_a_round_continues_in_the_texts_where_the_last_one_stopped() -> None:
    clock = FakeClock()
    encoder = FakeEncoder(on_encode=lambda count: clock.advance(1))

    @contextlib.contextmanager
    def open_backend(name: str) -> Iterator[Encoder]:
        yield encoder

    plan = TurnsPlan(names=["fake"], open_backend=open_backend, texts=["a", "b", "c"], rounds=2, calls=2)
    take_turns(plan, clock=clock)
    singles = [call for call in encoder.calls if len(call) == 1]
    assert singles == [["a"], ["b"], ["a"], ["b"], ["c"], ["a"], ["c"], ["a"]]  # warm-up, then timed
