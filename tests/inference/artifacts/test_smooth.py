"""Smoothing changes the activations that are quantised, not the embeddings."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from embedopt.inference.artifacts import smooth as smooth_module
from embedopt.inference.artifacts.layout import MODEL_FILE
from embedopt.inference.artifacts.quantize import dynamic_int8
from embedopt.inference.artifacts.smooth import smooth
from embedopt.inference.artifacts.store import quiet
from embedopt.inference.encoder import IntArray
from tests.models import weights_in


def _embed(model: onnx.ModelProto) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    ids: IntArray = np.array([[2, 9, 10, 11, 3], [2, 12, 13, 3, 0]], dtype=np.int64)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)}
    return np.asarray(session.run(None, feeds)[0])


def test_a_smoothed_graph_gives_the_same_embeddings(outlier_artifact: Path) -> None:
    """An outlying channel is divided once for all products that read it; their weights are multiplied."""
    model, smoothed = onnx.load(outlier_artifact / MODEL_FILE), onnx.load(outlier_artifact / MODEL_FILE)
    smooth(smoothed, outlier_artifact)
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
        before, after = (weights_in(graph, product.input[1]) for graph in (model, smoothed))
        np.testing.assert_allclose(after, before * factors[:, None], rtol=1e-5)


def test_without_outliers_nothing_changes(outlier_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smooth_module, "_OUTLIER", 1e9)
    model = onnx.load(outlier_artifact / MODEL_FILE)
    before = model.SerializeToString()
    smooth(model, outlier_artifact)
    assert model.SerializeToString() == before


def test_weights_that_two_products_share_are_left_alone(outlier_artifact: Path) -> None:
    """Scaling them for one product would be wrong for the other."""
    model = onnx.load(outlier_artifact / MODEL_FILE)
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    first, *others = [node for node in products if "query" in node.name]
    for other in others:
        other.input[1] = first.input[1]
    weights, expected = weights_in(model, first.input[1]), _embed(model)
    smooth(model, outlier_artifact)
    np.testing.assert_array_equal(weights_in(model, first.input[1]), weights)
    np.testing.assert_allclose(_embed(model), expected, atol=1e-5)


def test_smoothing_brings_int8_nearer_to_full_precision(outlier_artifact: Path, tmp_path: Path) -> None:
    expected, cosines = _embed(onnx.load(outlier_artifact / MODEL_FILE)), {}
    for smoothing in (False, True):
        target = tmp_path / str(smoothing)
        target.mkdir()
        with quiet():
            dynamic_int8(outlier_artifact, target, per_channel=True, smoothing=smoothing)
        cosines[smoothing] = float((_embed(onnx.load(target / MODEL_FILE)) * expected).sum(axis=1).min())
    assert cosines[False] < cosines[True]
    assert cosines[True] > 0.999


def test_channels_that_are_always_zero_do_not_count(outlier_artifact: Path, tmp_path: Path) -> None:
    """Where most of a tensor's channels are zero, their median would be zero, and the factors infinite."""
    model = onnx.load(outlier_artifact / MODEL_FILE)
    for tensor in model.graph.initializer:
        if "embeddings.LayerNorm" in tensor.name:
            values = numpy_helper.to_array(tensor) * (np.arange(32) < 12)
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
    source = tmp_path / "source"
    shutil.copytree(outlier_artifact, source)
    onnx.save(model, source / MODEL_FILE)
    expected = _embed(model)
    smooth(model, source)
    np.testing.assert_allclose(_embed(model), expected, atol=1e-5)
    (tmp_path / "int8").mkdir()
    with quiet():
        dynamic_int8(source, tmp_path / "int8", per_channel=True, smoothing=True)
    cosines = (_embed(onnx.load(tmp_path / "int8" / MODEL_FILE)) * expected).sum(axis=1)
    assert cosines.min() > 0.999
