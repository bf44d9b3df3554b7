"""The table of backends."""

import pkgutil
from dataclasses import fields

import pytest

from embedopt.errors import UsageError
from embedopt.inference.backends import BACKENDS, REFERENCE, get_backend, select_backends, split_names
from embedopt.records import Accuracy

_NAMES = (
    "torch-fp32, torch-bf16, onnx-fp32, onnx-int8, onnx-int8-dynamic, onnx-int8-per-tensor, "
    "onnx-int8-block, st-onnx-fp32, st-onnx-int8, openvino-bf16, openvino-int8, ct2-int8, "
    "static-fp32"
)


def test_the_table_begins_with_the_reference() -> None:
    assert ", ".join(BACKENDS) == _NAMES
    assert next(iter(BACKENDS)) == REFERENCE


@pytest.mark.parametrize("name", BACKENDS)
def test_a_row_names_functions_rows_and_metrics_that_exist(name: str) -> None:
    """A row of lower precision derives from one of full precision."""
    row = BACKENDS[name]
    assert callable(pkgutil.resolve_name(row.opener))
    assert row.build is None or callable(pkgutil.resolve_name(row.build))
    assert (row.derived_from is None) == (row.precision == "fp32")
    assert row.derived_from is None or BACKENDS[row.derived_from].precision == "fp32"
    assert set(row.bounds) <= {field.name for field in fields(Accuracy)}


def test_an_unknown_backend_lists_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        get_backend("onnx-int4")
    assert str(caught.value) == f"unknown backend 'onnx-int4'; known are: {_NAMES}"


def test_a_selection_is_in_the_order_of_the_table_and_without_repeats() -> None:
    chosen = select_backends(split_names(" onnx-int8, torch-fp32,onnx-int8,"))
    assert [row.name for row in chosen] == ["torch-fp32", "onnx-int8"]
    assert select_backends(["static-fp32", "all"]) == tuple(BACKENDS.values())


@pytest.mark.parametrize("names", ["", " , "])
def test_an_empty_list_of_backends_lists_the_known_ones(names: str) -> None:
    with pytest.raises(UsageError, match="no backend named; known are: all, torch-fp32"):
        split_names(names)


def test_all_leaves_out_the_rows_of_one_kind_of_model() -> None:
    assert {row.name for row in select_backends(["all"])} == BACKENDS.keys() - {"static-fp32"}
    assert [row.name for row in select_backends(["all", "static-fp32"])][-1] == "static-fp32"


def test_no_row_asks_for_an_instruction_set() -> None:
    """Each opens on aarch64 too; the one value that names a set is a library's name of its recipe."""
    values = {
        (row.name, str(value))
        for row in BACKENDS.values()
        for options in (row.build_options, row.settings, row.throughput_settings)
        for value in options.values()
    }
    sets = ("avx", "vnni", "amx", "sse", "neon", "sve")
    assert [value for value in values if any(name in value[1].lower() for name in sets)] == [
        ("st-onnx-int8", "avx512_vnni")
    ]
