"""Ratios are taken between turns of the same round."""

import pytest

from embedopt.judge.standings import Ratio, standings
from embedopt.records import SideBySideCase, Turns
from tests.runs import make_run


def _case(**changes: object) -> SideBySideCase:
    values: dict[str, object] = {
        "texts": 10,
        "mean_tokens": 10.0,
        "turns": {
            "torch-fp32": Turns(texts_per_s=(100, 200, 400), one_by_one_per_s=(50, 100, 200)),
            "onnx-int8": Turns(
                texts_per_s=(1000, 2200, 3600), one_by_one_per_s=(400, 400, 400), p50_ms=2.0, p99_ms=4.0
            ),
        },
        "roofline_per_s": {"fp32": (4e6, 5e6, 8e6), "int8": (40e6, 40e6, 80e6)},
        "operations_per_token": 1000,
        "default": "onnx-int8",
    }
    return SideBySideCase(**(values | changes))  # type: ignore[arg-type]  # changed by the tests


def test_the_fastest_comes_first_with_medians_of_the_ratios_of_each_round() -> None:
    fast, slow = standings(make_run(), _case())
    assert (fast.backend, slow.backend) == ("onnx-int8", "torch-fp32")
    assert fast.texts_per_s == 2200
    assert fast.over_reference == Ratio(median=20.0, low=18.0, high=22.0)
    assert slow.over_reference == Ratio(median=2.0, low=2.0, high=2.0)
    assert slow.default_over == Ratio(median=10.0, low=9.0, high=11.0)
    assert (fast.p50_ms, fast.p99_ms) == (2.0, 4.0)
    assert fast.roofline_share == pytest.approx(3600 * 10 * 1000 / 80e6)  # of 0.25, 0.55 and 0.45
    assert slow.roofline_share == pytest.approx(200 * 10 * 1000 / 5e6)  # of 0.25, 0.4 and 0.5


def test_what_was_not_measured_is_none() -> None:
    turns = {"onnx-fp32": Turns(texts_per_s=(1.0,), one_by_one_per_s=(1.0,))}
    [only] = standings(make_run(), _case(turns=turns, roofline_per_s={}))
    assert (only.over_reference, only.default_over, only.roofline_share) == (None, None, None)
