"""The table of backends."""

import pkgutil
from dataclasses import fields

import pytest

from embedopt.errors import UsageError
from embedopt.inference.spec import BACKENDS, REFERENCE, get_backend, select_backends, split_names
from embedopt.records import Accuracy

_KNOWN = (
    "torch-fp32, torch-bf16, onnx-fp32, onnx-int8, onnx-int8-per-tensor, onnx-int8-block, "
    "st-onnx-fp32, st-onnx-int8, openvino-bf16, openvino-int8, ct2-int8"
)


def test_the_rows() -> None:
    assert ", ".join(BACKENDS) == _KNOWN
    assert next(iter(BACKENDS)) == REFERENCE


@pytest.mark.parametrize("name", BACKENDS)
def test_a_row_names_what_is_there(name: str) -> None:
    """Its functions exist, its base is a full-precision row, its bounds are metrics."""
    row = BACKENDS[name]
    assert callable(pkgutil.resolve_name(row.load))
    assert row.build is None or callable(pkgutil.resolve_name(row.build))
    assert (row.base is None) == (row.precision == "fp32")
    assert row.base is None or BACKENDS[row.base].precision == "fp32"
    assert set(row.bounds) <= {field.name for field in fields(Accuracy)}


def test_an_unknown_backend_lists_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        get_backend("onnx-int4")
    assert str(caught.value) == f"unknown backend 'onnx-int4'; known are: {_KNOWN}"


def test_a_selection_is_in_the_tables_order_and_without_repeats() -> None:
    chosen = select_backends(split_names(" onnx-int8, torch-fp32,onnx-int8,"))
    assert [row.name for row in chosen] == ["torch-fp32", "onnx-int8"]
    assert select_backends(["onnx-int8", "all"]) == tuple(BACKENDS.values())


@pytest.mark.parametrize("names", ["", " , "])
def test_no_backend_lists_the_known_ones(names: str) -> None:
    with pytest.raises(UsageError, match="no backend named; known are: all, torch-fp32"):
        split_names(names)
