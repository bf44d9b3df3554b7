"""A quantised model is smaller, and multiplies in INT8."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from embedopt.inference.artifacts.layout import MODEL_FILE
from embedopt.inference.artifacts.quantize import dynamic_int8
from embedopt.inference.artifacts.store import ArtifactStore, disk_bytes, quiet
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backends import BACKENDS
from tests.models import weights_in


def test_int8_is_74_percent_smaller(real_cache: Path) -> None:
    """All files that a backend opens count, tokenizer included."""
    weights, store = resolve_weights(), ArtifactStore(real_cache)
    int8, fp32 = (disk_bytes(store.get(BACKENDS[name], weights)) for name in ("onnx-int8", "onnx-fp32"))
    assert int8 <= 0.26 * fp32
    assert int8 <= 0.26 * weights.disk_bytes


def test_the_graph_has_one_output_and_int8_products(real_cache: Path) -> None:
    """Each of the 6 layers has 6 products by weights, which are in INT8."""
    weights, products = resolve_weights(), {}
    for name in ("onnx-fp32", "onnx-int8-dynamic", "onnx-int8-per-tensor", "onnx-int8-block"):
        graph = onnx.load(ArtifactStore(real_cache).get(BACKENDS[name], weights) / MODEL_FILE).graph
        assert [output.name for output in graph.output] == ["sentence_embedding"]
        kinds = [node.op_type for node in graph.node]
        products[name] = [kinds.count(kind) for kind in ("MatMul", "MatMulInteger", "MatMulNBits")]
    # Of the 48 products of fp32, 12 are of two activations, inside attention.
    assert products == {
        "onnx-fp32": [48, 0, 0],
        "onnx-int8-dynamic": [12, 36, 0],
        "onnx-int8-per-tensor": [12, 36, 0],
        "onnx-int8-block": [12, 0, 36],
    }


def test_each_row_of_a_table_has_its_own_scale(
    outlier_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a value is at most half a step of its row's scale."""
    monkeypatch.setattr("embedopt.inference.artifacts.quantize._TABLE_ROWS", 40)
    with quiet():
        dynamic_int8(outlier_artifact, tmp_path, per_channel=True, smoothing=True)
    model, exact = onnx.load(tmp_path / MODEL_FILE), onnx.load(outlier_artifact / MODEL_FILE)
    [name] = [tensor.name for tensor in exact.graph.initializer if "word_embeddings" in tensor.name]
    values, scales = weights_in(model, f"{name}_int8"), weights_in(model, f"{name}_scale")
    assert values.dtype == np.int8
    assert scales.shape == (len(values), 1)
    errors = np.abs(values * scales - weights_in(exact, name))
    assert (errors <= 0.501 * scales).all()
