"""The rows, factors and costs of a run follow from its record."""

import math

import pytest

from embedopt.judge.history.saved_runs import parse_run
from embedopt.judge.summary import dollars_per_million, load_rows, speed_up_factors, summary_rows
from embedopt.records import Accuracy, Footprint
from tests.runs import make_file, make_load, make_run


def test_each_backend_has_two_rows() -> None:
    """The smallest batch size and 32, or the largest where 32 was not measured."""
    rows = summary_rows(parse_run("run", make_file(make_run())), price_per_hour=0.05)
    assert [(row.backend, row.latency.batch_size, row.texts_per_s, row.speed_up) for row in rows] == [
        ("torch-fp32", 1, 100, 1.0),
        ("torch-fp32", 32, 250, 2.5),
        ("onnx-fp32", 1, 200, 2.0),
        ("onnx-int8", 1, 500, 5.0),
        ("onnx-int8", 32, 1250, 12.5),
    ]
    assert rows[3].accuracy.cosine_mean == 0.99337
    assert rows[3].footprint.disk_bytes == 23_400_000


def test_what_was_not_measured_is_none() -> None:
    """Without throughput, texts/s is the rate of the timed calls; without a rate, there is no cost."""
    file = make_file(make_run(throughput={}, accuracy={}, footprint={}))
    del file["benchmarks"][0]["extra_info"]["texts_per_s"]
    rows = summary_rows(parse_run("run", file), 0.05)
    assert [row.texts_per_s for row in rows] == [None, 100, 200, 500, 500]
    assert [row.speed_up for row in rows] == [None] * 5
    assert rows[0].dollars_per_million is None
    assert rows[0].accuracy == Accuracy()
    assert rows[0].footprint == Footprint()


def test_a_file_without_our_record_has_rows_of_its_latencies() -> None:
    saved = parse_run("run", make_file(None))
    assert [row.texts_per_s for row in summary_rows(saved, 0.05)] == [100, 100, 200, 500, 500]
    assert speed_up_factors(saved) == {}


def test_a_speed_up_is_split_into_its_factors() -> None:
    factors = speed_up_factors(parse_run("run", make_file(make_run())))["onnx-int8"]
    assert (factors.runtime, factors.precision, factors.batching, factors.padding) == (2.0, 2.5, 2.0, 1.25)
    assert factors.total == 12.5
    assert (factors.in_order_padding, factors.planned_padding) == (0.5, 0.2)


@pytest.mark.parametrize("name", ["torch-fp32", "onnx-fp32", "onnx-int8"])
def test_the_product_of_the_factors_is_the_total(name: str) -> None:
    factors = speed_up_factors(parse_run("run", make_file(make_run())))[name]
    product = factors.runtime * factors.precision * factors.batching * factors.padding
    assert math.isclose(product, factors.total)


@pytest.mark.parametrize("missing", ["torch-fp32", "onnx-fp32", "onnx-int8"])
def test_without_base_or_reference_one_by_one_there_are_no_factors(missing: str) -> None:
    file = make_file(make_run())
    file["benchmarks"] = [bench for bench in file["benchmarks"] if f"[{missing}-1]" not in bench["fullname"]]
    assert "onnx-int8" not in speed_up_factors(parse_run("run", file))


def test_the_cost_is_that_of_a_million_texts() -> None:
    """The seed study's 68 texts/s at 5 cents an hour: 20 cents a million, not a thousand."""
    assert dollars_per_million(68, 0.05) == pytest.approx(0.2042, abs=1e-4)


def test_a_load_test_is_priced_at_its_highest_rate() -> None:
    rows = load_rows(parse_run("run", make_file(make_run(load=make_load()))), price_per_hour=0.05)
    assert [(row.backend, row.batching, row.speed_up) for row in rows] == [
        ("torch-fp32", "none", 1.0),
        ("onnx-int8", "none", 10.0),
        ("onnx-int8", "window", None),
        ("onnx-int8", "adaptive", 12.5),
    ]
    assert [row.dollars_per_million for row in rows] == [
        dollars_per_million(40, 0.05),
        dollars_per_million(400, 0.05),
        None,
        dollars_per_million(500, 0.05),
    ]
    assert [point.rate_per_s for point in rows[-1].curve] == [200.0, 600.0]


def test_without_load_tests_there_are_no_rows_and_without_the_reference_no_speed_up() -> None:
    assert load_rows(parse_run("run", make_file(make_run())), 0.05) == ()
    assert load_rows(parse_run("run", make_file(None)), 0.05) == ()
    [row] = load_rows(
        parse_run("run", make_file(make_run(load={"onnx-int8": {"none": make_load()["onnx-int8"]["none"]}}))),
        0.05,
    )
    assert row.speed_up is None
