"""A backend's accuracy is held to the bounds that apply on this machine and to this model."""

import dataclasses
import math
from pathlib import Path

import pytest

from embedopt.measure import bounds
from embedopt.measure.bounds import missed_bounds
from embedopt.records import Accuracy
from tests.measure.sessions import make_options
from tests.runs import make_run


@pytest.fixture(autouse=True)
def _with_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "this_machine", lambda: make_run().machine)


def test_bounds_are_floors_or_ceilings(tmp_path: Path) -> None:
    options = make_options(tmp_path)
    good = Accuracy(cosine_mean=0.999999, cosine_min=0.99999, max_abs_error=1e-6, batch_invariance_min=1.0)
    assert missed_bounds("onnx-fp32", good, options) == []
    bad = Accuracy(cosine_mean=0.94, cosine_min=0.9, max_abs_error=1e-4)
    machine = "(Test CPU | avx2+vnni | 2 cores | 2 threads)"
    assert missed_bounds("onnx-fp32", bad, options) == [
        f"onnx-fp32: cosine_mean is 0.9400000, wanted 0.95 or higher {machine}",
        f"onnx-fp32: cosine_min is 0.9000000, wanted 0.99999 or higher {machine}",
        f"onnx-fp32: max_abs_error is 0.0001000, wanted 1e-05 or lower {machine}",
    ]


def test_the_mean_cosine_is_held_to_the_stricter_of_min_cosine_and_the_backends_bound(tmp_path: Path) -> None:
    accuracy = Accuracy(cosine_mean=0.97)
    assert len(missed_bounds("onnx-int8", accuracy, make_options(tmp_path))) == 1
    assert missed_bounds("onnx-int8-per-tensor", accuracy, make_options(tmp_path)) == []
    assert len(missed_bounds("onnx-int8-per-tensor", accuracy, make_options(tmp_path, min_cosine=0.98))) == 1


@pytest.mark.parametrize(
    ("sets", "missed"), [(("avx2",), 0), (("avx2", "vnni"), 1), (("avx2", "avx-vnni"), 1)]
)
def test_without_vnni_dynamic_int8_is_held_to_min_cosine_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: tuple[str, ...], missed: int
) -> None:
    machine = dataclasses.replace(make_run().machine, instruction_sets=sets)
    monkeypatch.setattr(bounds, "this_machine", lambda: machine)
    options = make_options(tmp_path)
    assert len(missed_bounds("onnx-int8-dynamic", Accuracy(cosine_mean=0.97), options)) == missed
    assert len(missed_bounds("onnx-int8-dynamic", Accuracy(cosine_mean=0.94), options)) == 1
    assert len(missed_bounds("onnx-int8", Accuracy(cosine_mean=0.97), options)) == 1  # the same on any CPU
    assert len(missed_bounds("onnx-fp32", Accuracy(cosine_min=0.97), options)) == 1


def test_another_model_is_held_to_min_cosine_only(tmp_path: Path) -> None:
    options = make_options(tmp_path, model="somewhere")
    assert missed_bounds("onnx-int8", Accuracy(cosine_mean=0.96, cosine_min=0.1), options) == []
    assert len(missed_bounds("onnx-int8", Accuracy(cosine_mean=0.94), options)) == 1


def test_what_is_no_number_misses_its_bound(tmp_path: Path) -> None:
    accuracy = Accuracy(cosine_mean=math.nan, max_abs_error=math.nan)
    assert len(missed_bounds("onnx-fp32", accuracy, make_options(tmp_path))) == 2
