"""The table of backends."""

import importlib.util
import pkgutil
from dataclasses import fields
from pathlib import Path

import pytest

from embedopt.errors import MissingPackageError, UsageError
from embedopt.inference.backends import BACKENDS, REFERENCE, get_backend, select_backends, split_names
from embedopt.inference.loading import load_encoder
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


def test_a_peer_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line with the command; nothing of it is imported, built or needed for the others."""
    real = importlib.util.find_spec
    sure = {"nncf": None, "openvino": real("json")}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: sure[name] if name in sure else real(name))
    assert BACKENDS["openvino-int8"].missing_packages == ("nncf",)
    assert BACKENDS["onnx-int8"].missing_packages == ()
    with pytest.raises(MissingPackageError) as caught:
        load_encoder("openvino-int8", cache_dir=tmp_path)
    assert str(caught.value) == (
        "openvino-int8 needs nncf, which is not installed: pip install -e '.[peers]' in embedopt's folder"
    )
    assert list(tmp_path.iterdir()) == []


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
