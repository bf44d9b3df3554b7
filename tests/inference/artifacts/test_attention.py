"""One node for the attention of a layer: it stands only where no bit of an embedding changes."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from embedopt.inference.artifacts import attention
from embedopt.inference.artifacts import static_int8 as recipe
from embedopt.inference.artifacts.attention import with_fused_attention
from embedopt.inference.artifacts.graph import session_of
from embedopt.inference.artifacts.layout import MODEL_FILE, graph_inputs
from embedopt.inference.artifacts.static_int8 import static_int8
from embedopt.inference.artifacts.store import quiet
from embedopt.inference.encoder import FloatArray

BATCHES = (["nurse"], ["night shift " * 20], ["welder", "", "a " * 90], ["", "forklift driver " * 12])


@pytest.fixture
def single_nodes(outlier_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelProto:
    """The quantised graph as it was before its attention was fused."""
    (tmp_path / "single").mkdir()
    with quiet(), monkeypatch.context() as patch:
        patch.setattr(recipe, "with_fused_attention", lambda model, _: model)
        static_int8(outlier_artifact, tmp_path / "single")
    return onnx.load(tmp_path / "single" / MODEL_FILE)


def _kinds(model: ModelProto) -> list[str]:
    """Return the kinds of the nodes of attention."""
    return [node.op_type for node in model.graph.node if node.op_type in {"Softmax", "QAttention"}]


def _embed(model: ModelProto, folder: Path) -> bytes:
    with session_of(model, [model.graph.output[0].name]) as session:
        return b"".join(session.run(None, inputs)[0].tobytes() for inputs in graph_inputs(folder, BATCHES))


def test_each_layer_has_one_node_and_the_same_embeddings_to_the_bit(
    single_nodes: ModelProto, outlier_artifact: Path
) -> None:
    fused = with_fused_attention(single_nodes, outlier_artifact)
    assert (_kinds(single_nodes), _kinds(fused)) == (["Softmax"] * 2, ["QAttention"] * 2)
    assert _embed(fused, outlier_artifact) == _embed(single_nodes, outlier_artifact)
    used = {name for node in fused.graph.node for name in node.input}
    assert {tensor.name for tensor in fused.graph.initializer} <= used


def test_attention_of_another_scale_is_left_alone(single_nodes: ModelProto, outlier_artifact: Path) -> None:
    makers = {output: node for node in single_nodes.graph.node for output in node.output}
    [softmax, _] = [node for node in single_nodes.graph.node if node.op_type == "Softmax"]
    scaled = makers[makers[softmax.input[0]].input[0]]
    assert scaled.op_type == "Div"
    single_nodes.graph.initializer.append(
        numpy_helper.from_array(np.array(1.0, dtype=np.float32), "other_scale")
    )
    scaled.input[1] = "other_scale"
    assert with_fused_attention(single_nodes, outlier_artifact) is single_nodes


def test_a_node_that_onnx_runtime_refuses_leaves_the_graph_as_it_was(
    single_nodes: ModelProto, outlier_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_MASK", "attention_mask")  # two tensors of one name
    assert with_fused_attention(single_nodes, outlier_artifact) is single_nodes


def test_attention_without_a_dimension_of_heads_is_left_alone(
    single_nodes: ModelProto, outlier_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = attention._run

    def without_heads(*args: Any) -> list[list[FloatArray]]:
        return [[embeddings, *(shares[:, 0] for shares in rest)] for embeddings, *rest in run(*args)]

    monkeypatch.setattr(attention, "_run", without_heads)
    assert with_fused_attention(single_nodes, outlier_artifact) is single_nodes


def test_a_query_of_another_input_is_left_alone_and_said(outlier_artifact: Path, tmp_path: Path) -> None:
    """Both layers' queries are of one input, as in no model that has a node for it."""
    source = tmp_path / "source"
    shutil.copytree(outlier_artifact, source)
    model = onnx.load(source / MODEL_FILE)
    queries = [node for node in model.graph.node if node.op_type == "MatMul" and "query" in node.name]
    queries[1].input[0] = queries[0].input[0]
    onnx.save(model, source / MODEL_FILE)
    (tmp_path / "target").mkdir()
    with quiet():
        note = static_int8(source, tmp_path / "target")
    assert note == "the attention of 1 of 2 layers does not fit into one node"
    assert sorted(_kinds(onnx.load(tmp_path / "target" / MODEL_FILE))) == ["QAttention", "Softmax"]
