"""Rates are texts over time, and padding is a share of the batches' tokens."""

import pytest

from embedopt.measure.throughput import in_order, planned
from tests.fakes import FakeClock, FakeEncoder

TEXTS = ["a", "b b b", "c", "d d d"]  # 3, 5, 3, 5 tokens


def test_a_rate_in_order_is_texts_over_time() -> None:
    """A call costs 0.5 s and 0.1 s a text; the first one warms up and is not counted."""
    clock = FakeClock()
    encoder = FakeEncoder(on_encode=lambda texts: clock.advance(0.5 + 0.1 * texts))
    throughput = in_order(encoder, TEXTS, 10.0, clock)
    assert throughput.in_order_per_s == pytest.approx(32 / 3.7)
    assert [len(call) for call in encoder.calls] == [32] * 4  # one, then as many as fill 10 s
    assert encoder.calls[0] == TEXTS * 8


def test_at_least_one_call_is_counted() -> None:
    clock = FakeClock()
    encoder = FakeEncoder(on_encode=lambda _: clock.advance(1.0))
    assert in_order(encoder, TEXTS, 0.0, clock).in_order_per_s == 32.0


def test_padding_in_order_is_that_of_batches_as_the_texts_come() -> None:
    """36 texts make a batch of 32 and one of 4."""
    texts = [*(["a"] * 31), "b b b", "c", "c", "c", "c"]
    clock = FakeClock()
    throughput = in_order(FakeEncoder(on_encode=lambda _: clock.advance(1.0)), texts, 1.0, clock)
    assert throughput.batch_size == 32
    assert throughput.in_order_padding == pytest.approx(1 - (31 * 3 + 5 + 12) / (32 * 5 + 12))


def test_a_planned_rate_is_all_texts_of_all_calls_over_their_time() -> None:
    throughput = planned(FakeEncoder(), TEXTS, [1.0, 3.0])
    assert (throughput.texts_per_s, throughput.seconds) == (2.0, 4.0)
    assert throughput.padding == pytest.approx(1 - 16 / 20)  # one batch of four
