"""Smoothing changes what quantisation sees, not what the graph computes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from embedopt.inference.artifacts import smooth as smooth_module
from embedopt.inference.artifacts.export import onnx_fp32
from embedopt.inference.artifacts.quantize import dynamic_int8
from embedopt.inference.artifacts.smooth import smooth
from embedopt.inference.encoder import IntArray
from embedopt.inference.encoders.onnxruntime import MODEL_FILE


@pytest.fixture(scope="module")
def artifact(tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, exported, with one channel of its embeddings far beyond the others."""
    folder = tmp_path_factory.mktemp("artifact")
    onnx_fp32(tiny_model(), folder)
    model = onnx.load(folder / MODEL_FILE)
    [gamma] = [
        tensor for tensor in model.graph.initializer if tensor.name.endswith("embeddings.LayerNorm.weight")
    ]
    values = numpy_helper.to_array(gamma).copy()
    values[5] = 100.0
    gamma.CopyFrom(numpy_helper.from_array(values, gamma.name))
    onnx.save(model, folder / MODEL_FILE)
    return folder


def _embed(model: onnx.ModelProto) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    ids: IntArray = np.array([[2, 9, 10, 11, 3], [2, 12, 13, 3, 0]], dtype=np.int64)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)}
    return np.asarray(session.run(None, feeds)[0])


def _weights(model: onnx.ModelProto, name: str) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    [tensor] = [tensor for tensor in model.graph.initializer if tensor.name == name]
    return np.asarray(numpy_helper.to_array(tensor))


def test_the_graph_computes_the_same(artifact: Path) -> None:
    """An outlying channel is divided once for the products that read it; their weights make up for it."""
    model, smoothed = onnx.load(artifact / MODEL_FILE), onnx.load(artifact / MODEL_FILE)
    smooth(smoothed, artifact)
    np.testing.assert_allclose(_embed(smoothed), _embed(model), atol=1e-5)
    divisions = [node for node in smoothed.graph.node if node.name.endswith("_smoothed")]
    [first] = [node for node in divisions if "embeddings" in node.name]
    products = [node for node in smoothed.graph.node if first.output[0] in node.input]
    assert [node.op_type for node in products] == ["MatMul"] * 3
    [inverse] = [tensor for tensor in smoothed.graph.initializer if tensor.name == first.input[1]]
    factors = 1.0 / numpy_helper.to_array(inverse)
    assert int(factors.argmax()) == 5
    assert factors[5] > 10
    for product in products:
        before, after = (_weights(graph, product.input[1]) for graph in (model, smoothed))
        np.testing.assert_allclose(after, before * factors[:, None], rtol=1e-5)


def test_without_outliers_nothing_changes(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smooth_module, "_OUTLIER", 1e9)
    model = onnx.load(artifact / MODEL_FILE)
    before = model.SerializeToString()
    smooth(model, artifact)
    assert model.SerializeToString() == before


def test_weights_that_two_products_share_are_left_alone(artifact: Path) -> None:
    """Scaling them for one input would be wrong for the other."""
    model = onnx.load(artifact / MODEL_FILE)
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    first, *others = [node for node in products if "query" in node.name]
    for other in others:
        other.input[1] = first.input[1]
    weights, expected = _weights(model, first.input[1]), _embed(model)
    smooth(model, artifact)
    np.testing.assert_array_equal(_weights(model, first.input[1]), weights)
    np.testing.assert_allclose(_embed(model), expected, atol=1e-5)


def test_int8_of_an_outlying_channel_is_nearer_when_smoothed(artifact: Path, tmp_path: Path) -> None:
    expected, cosines = _embed(onnx.load(artifact / MODEL_FILE)), {}
    for smoothing in (False, True):
        target = tmp_path / str(smoothing)
        target.mkdir()
        dynamic_int8(artifact, target, per_channel=True, smoothing=smoothing)
        cosines[smoothing] = float((_embed(onnx.load(target / MODEL_FILE)) * expected).sum(axis=1).min())
        shutil.rmtree(target)
    assert cosines[False] < cosines[True]
    assert cosines[True] > 0.999


def test_each_row_of_a_table_has_its_own_scale(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row is off by half a step of its own at the most."""
    monkeypatch.setattr("embedopt.inference.artifacts.quantize._TABLE_ROWS", 40)
    dynamic_int8(artifact, tmp_path, per_channel=True, smoothing=True)
    model, exact = onnx.load(tmp_path / MODEL_FILE), onnx.load(artifact / MODEL_FILE)
    [name] = [tensor.name for tensor in exact.graph.initializer if "word_embeddings" in tensor.name]
    values, scales = _weights(model, f"{name}_int8"), _weights(model, f"{name}_scale")
    assert values.dtype == np.int8
    assert scales.shape == (len(values), 1)
    errors = np.abs(values * scales - _weights(exact, name))
    assert (errors <= 0.501 * scales).all()
