"""Attention of a static INT8 graph in one node a layer: ONNX Runtime's ``QAttention``.

An export writes about twenty nodes for it. With a single text they compute almost nothing, but each costs
microseconds. One node replaces them only where no bit of the embeddings changes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedopt.inference.artifacts.graph import replace_node, session_of
from embedopt.inference.artifacts.layout import graph_inputs
from embedopt.inference.artifacts.quantization_texts import quantization_texts
from embedopt.inference.encoder import FloatArray, IntArray

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_PRODUCT = "MatMulIntegerToFloat"
_MASK = "attention_mask_int32"


@dataclass(frozen=True, slots=True)
class _Attention:
    """The nodes of a layer that one node can replace.

    Attributes:
        products: they compute query, key and value from one quantised tensor.
        last: its output is that of the attention.
    """

    products: tuple["NodeProto", ...]
    softmax: "NodeProto"
    last: "NodeProto"


def with_fused_attention(model: "ModelProto", source: Path) -> "ModelProto":
    """Return the graph with one node for the attention of each layer.

    It stays as it is where a bit would change, or where ONNX Runtime refuses such a node.

    Args:
        model: a graph whose products are quantised.
        source: an artifact with the tokenizer.
    """
    from onnx import ModelProto
    from onnxruntime.capi import onnxruntime_pybind11_state as refusals
    from onnxruntime.transformers.onnx_model import OnnxModel

    names = [attention.softmax.output[0] for attention in _attentions(model.graph)]
    if not names:
        return model
    texts = quantization_texts()
    inputs = graph_inputs(source, [texts[::8], texts[:1]])  # the first of them padded
    expected = _run(model, names, inputs)
    if any(shares.ndim != 4 for shares in expected[0][1:]):  # (texts, heads, tokens, tokens)
        return model
    fused = ModelProto()
    fused.CopyFrom(model)
    for attention, shares in zip(list(_attentions(fused.graph)), expected[0][1:], strict=True):
        _fuse(fused.graph, attention, heads=shares.shape[1])
    OnnxModel(fused).prune_graph()
    try:
        results = _run(fused, [], inputs)
    except (refusals.Fail, refusals.InvalidArgument, refusals.InvalidGraph, refusals.RuntimeException):
        return model
    same = all(
        result[0].tobytes() == outputs[0].tobytes() for result, outputs in zip(results, expected, strict=True)
    )
    return fused if same else model


def _run(
    model: "ModelProto", names: Sequence[str], inputs: Sequence[dict[str, IntArray]]
) -> list[list[FloatArray]]:
    """Return the embeddings and the tensors called ``names`` for each of the inputs."""
    names = [model.graph.output[0].name, *names]
    with session_of(model, names) as session:
        return [session.run(names, arrays) for arrays in inputs]


def _attentions(graph: "GraphProto") -> Iterator[_Attention]:
    makers = {output: node for node in graph.node for output in node.output}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}

    def maker_of(node: "NodeProto | None", place: int, kind: str, *passed: str) -> "NodeProto | None":
        """Return the node of a kind that makes an input of ``node``, past nodes of the kinds ``passed``."""
        maker = makers.get(node.input[place]) if node is not None else None
        if maker is not None and maker.op_type in passed:
            return maker_of(maker, 0, kind, *passed)
        return maker if maker is not None and maker.op_type == kind else None

    for last in [node for node in graph.node if node.op_type == "Reshape"]:
        mixed = maker_of(last, 0, "MatMul", "Transpose")
        softmax = maker_of(mixed, 0, "Softmax")
        scores = maker_of(softmax, 0, "MatMul", "Add", "Div", "Mul")
        places = ((scores, 0), (scores, 1), (mixed, 1))
        sources = [maker_of(node, place, _PRODUCT, "Transpose", "Reshape") for node, place in places]
        products = tuple(product for product in sources if product is not None)
        inputs = {(product.input[0], shapes[product.input[1]]) for product in products}
        if softmax is not None and len(products) == len(places) and len(inputs) == 1:
            yield _Attention(products, softmax, last)


def _fuse(graph: "GraphProto", attention: _Attention, heads: int) -> None:
    from onnx import TensorProto, helper, numpy_helper

    output = attention.last.output[0]
    values, _, scale, _, zero = attention.products[0].input[:5]
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    names = [f"{output}{suffix}" for suffix in ("_weights", "_bias", "_scales", "_weights_zero")]
    for place, name in zip((1, 6, 3), names, strict=False):
        parts = [numpy_helper.to_array(tensors[product.input[place]]) for product in attention.products]
        graph.initializer.append(numpy_helper.from_array(np.concatenate(parts, axis=-1), name))
    graph.initializer.append(numpy_helper.from_array(np.array(0, dtype=np.int8), names[3]))
    if not any(_MASK in node.output for node in graph.node):
        graph.node.insert(
            0, helper.make_node("Cast", ["attention_mask"], [_MASK], _MASK, to=TensorProto.INT32)
        )
    node = helper.make_node(
        "QAttention",
        [values, *names[:2], scale, names[2], _MASK, zero, names[3]],
        [output],
        f"{output}_fused",
        domain="com.microsoft",
        num_heads=heads,
        mask_filter_value=float(np.finfo(np.float32).min),
    )
    replace_node(graph, attention.last, [node])
