"""What the table says follows from the record."""

import math

import pytest

from embedopt.judge.cost import dollars_per_million
from embedopt.judge.history import parse_run
from embedopt.judge.summary import speed_up_factors, summary_rows
from embedopt.records import Accuracy, Footprint
from tests.runs import make_file, make_run


def test_two_rows_a_backend() -> None:
    rows = summary_rows(parse_run("run", make_file(make_run())), price_per_hour=0.05)
    assert [(row.backend, row.latency.batch_size) for row in rows] == [
        ("torch-fp32", 1),
        ("torch-fp32", 32),
        ("onnx-int8", 1),
        ("onnx-int8", 32),
    ]
    assert [row.texts_per_s for row in rows] == [100, 250, 500, 1250]
    assert [row.speed_up for row in rows] == [1.0, 2.5, 5.0, 12.5]
    assert rows[2].accuracy.cosine_mean == 0.99337
    assert rows[2].footprint.disk_bytes == 23_400_000


def test_what_was_not_measured_is_none() -> None:
    """Without throughput, texts/s is of the timed calls, and there is nothing to divide by."""
    rows = summary_rows(parse_run("run", make_file(make_run(throughput={}, accuracy={}, footprint={}))), 0.05)
    assert [row.texts_per_s for row in rows] == [480.0] * 4
    assert [row.speed_up for row in rows] == [None] * 4
    assert rows[0].accuracy == Accuracy()
    assert rows[0].footprint == Footprint()


def test_a_file_without_our_record_has_rows_of_its_latencies() -> None:
    rows = summary_rows(parse_run("run", make_file(None)), 0.05)
    assert [row.texts_per_s for row in rows] == [480.0] * 4


def test_the_factors_of_a_speed_up() -> None:
    factors = speed_up_factors(make_run())["onnx-int8"]
    assert (factors.runtime, factors.precision, factors.batching, factors.padding) == (2.0, 2.5, 2.0, 1.25)
    assert factors.total == 12.5
    assert (factors.in_order_padding, factors.planned_padding) == (0.5, 0.2)


@pytest.mark.parametrize("name", ["torch-fp32", "onnx-fp32", "onnx-int8"])
def test_the_product_of_the_factors_is_the_whole(name: str) -> None:
    factors = speed_up_factors(make_run())[name]
    product = factors.runtime * factors.precision * factors.batching * factors.padding
    assert math.isclose(product, factors.total)


@pytest.mark.parametrize("missing", ["torch-fp32", "onnx-fp32"])
def test_without_base_or_reference_there_are_no_factors(missing: str) -> None:
    throughput = {name: found for name, found in make_run().throughput.items() if name != missing}
    assert "onnx-int8" not in speed_up_factors(make_run(throughput=throughput))


def test_cost_is_per_million_texts() -> None:
    """The seed study's 68 texts/s at 5 cents an hour: 20 cents a million, not a thousand."""
    assert dollars_per_million(68, 0.05) == pytest.approx(0.2042, abs=1e-4)
