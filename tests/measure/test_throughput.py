"""Rates follow from the clock; padding from the batches."""

import pytest

from embedopt.measure.throughput import planned, texts_per_s, unplanned
from tests.fakes import FakeClock, FakeEncoder

TEXTS = ["a", "b b b", "c", "d d d"]  # 3, 5, 3, 5 tokens


@pytest.mark.parametrize(("batch_size", "rate"), [(1, 1 / 0.6), (4, 4 / 0.9)])
def test_a_rate_is_texts_over_time(batch_size: int, rate: float) -> None:
    """A call costs 0.5 s and 0.1 s a text; the first one warms up and is not counted."""
    clock = FakeClock()
    encoder = FakeEncoder(on_encode=lambda texts: clock.advance(0.5 + 0.1 * texts))
    assert texts_per_s(encoder, TEXTS, batch_size, 10.0, clock) == pytest.approx(rate)
    assert clock.now_s >= 10.0
    assert {len(call) for call in encoder.calls} == {batch_size}
    assert [text for call in encoder.calls for text in call][:4] == TEXTS


def test_planned_encoding() -> None:
    found = planned(FakeEncoder(), TEXTS, [1.0, 3.0])
    assert (found.texts_per_s, found.seconds) == (2.0, 4.0)
    assert found.padding == pytest.approx(1 - 16 / 20)  # one batch of four


def test_padding_in_the_callers_order() -> None:
    """36 texts make a batch of 32 and one of 4."""
    texts = [*(["a"] * 31), "b b b", "c", "c", "c", "c"]
    found = unplanned(FakeEncoder(), texts, seconds=0.0)
    assert found.batch_size == 32
    assert found.in_order_padding == pytest.approx(1 - (31 * 3 + 5 + 12) / (32 * 5 + 12))
