"""Rates are texts over time, and padding is a share of the batches' tokens."""

import pytest

from embedopt.measure.throughput import forced, planned
from tests.fakes import FakeEncoder

TEXTS = ["a", "b b b", "c", "d d d"]  # 3, 5, 3, 5 tokens


def test_a_forced_rate_is_the_texts_of_all_calls_over_their_time() -> None:
    throughput = forced(FakeEncoder(), TEXTS, [1.0, 3.0])
    assert (throughput.batch_size, throughput.in_order_per_s) == (32, 16.0)


def test_padding_of_forced_batches_is_that_of_the_texts_as_they_come() -> None:
    """36 texts make a batch of 32 and one of 4."""
    texts = [*(["a"] * 31), "b b b", "c", "c", "c", "c"]
    throughput = forced(FakeEncoder(), texts, [1.0])
    assert throughput.in_order_padding == pytest.approx(1 - (31 * 3 + 5 + 12) / (32 * 5 + 12))


def test_a_planned_rate_is_all_texts_of_all_calls_over_their_time() -> None:
    throughput = planned(FakeEncoder(), TEXTS, [1.0, 3.0])
    assert (throughput.texts_per_s, throughput.seconds) == (2.0, 4.0)
    assert throughput.padding == pytest.approx(1 - 16 / 20)  # one batch of four
