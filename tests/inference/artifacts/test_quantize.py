"""A quantised model is smaller, and multiplies in INT8."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from embedopt.errors import ArtifactError
from embedopt.inference.artifacts.layout import MODEL_FILE
from embedopt.inference.artifacts.quantize import blockwise_int8, dynamic_int8
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


_RECIPES = [partial(dynamic_int8, per_channel=True), partial(blockwise_int8, block_size=64)]


@pytest.mark.parametrize("recipe", _RECIPES)
def test_products_that_are_exported_as_gemm_are_quantised(
    tmp_path: Path, recipe: Callable[..., None]
) -> None:
    """Those of GPT-2 are. No sum of two products exceeds 16 bits, where a CPU without VNNI saturates."""
    weights = np.random.default_rng(0).uniform(-0.5, 0.5, (64, 64)).astype(np.float32)
    weights[:, 0] = 1.0
    texts = np.linspace(-1.0, 1.0, 64, dtype=np.float32)[None]
    texts[0, 0] = 0.0
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 64]) for name in "xy"]
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(weights[0], "b")]
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["y"], "gemm", transB=1)
    graph = helper.make_graph([gemm], "graph", values[:1], values[1:], constants)
    opset = [helper.make_opsetid("", 17)]
    (tmp_path / "int8").mkdir()
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / MODEL_FILE)
    with quiet():
        recipe(tmp_path, tmp_path / "int8")
    kinds = {node.op_type for node in onnx.load(tmp_path / "int8" / MODEL_FILE).graph.node}
    assert len(kinds & {"MatMulInteger", "MatMulNBits"}) == 1
    assert "Gemm" not in kinds
    session = onnxruntime.InferenceSession(tmp_path / "int8" / MODEL_FILE)
    [output] = session.run(None, {"x": texts})
    np.testing.assert_allclose(output, texts @ weights.T + weights[0], atol=0.1)


@pytest.mark.parametrize("recipe", _RECIPES)
def test_a_recipe_that_quantises_nothing_is_refused(
    outlier_artifact: Path, tmp_path: Path, recipe: Callable[..., None]
) -> None:
    source = tmp_path / "source"
    shutil.copytree(outlier_artifact, source)
    model = onnx.load(source / MODEL_FILE)
    for node in [node for node in model.graph.node if node.op_type == "MatMul"]:
        node.op_type, node.domain = "FusedMatMul", "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, source / MODEL_FILE)
    (tmp_path / "int8").mkdir()
    with quiet(), pytest.raises(ArtifactError) as caught:
        recipe(source, tmp_path / "int8")
    assert str(caught.value) == (
        "none of the model's products (it has none) could be quantised; wanted products with constant "
        "weights: leave this backend out for this model"
    )
