"""Smoothing: makes a graph easier to quantise without changing what it computes.

Activations share one scale per tensor, so a few channels with values far larger than the others' cost all of
them resolution. Such a channel is divided by a factor, and its row of the weights multiplied by the same
factor (SmoothQuant, https://arxiv.org/abs/2211.10438, with a rule of our own for the factors).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedopt.inference.artifacts.graph import session_of
from embedopt.inference.artifacts.quantization_texts import quantization_inputs
from embedopt.inference.encoder import FloatArray

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

# A channel keeps values up to three times the reach of the median channel; a tensor in which no channel
# reaches four times as far is left alone. Of limits from 2 to 4, these kept the worst cosine highest.
_REACH = 3.0
_OUTLIER = 4.0


def smooth(model: "ModelProto", source: Path) -> None:
    """Divide the outlying channels of the inputs of matrix products, in place.

    Args:
        model: the graph in ``source``.
        source: an artifact of ``export.onnx_fp32``.
    """
    products = products_by_input(model.graph)
    for name, reach in _reaches(model, source, list(products)).items():
        # Channels that are always zero say nothing of the others: where most are, the median would be zero.
        median = np.median(reach[reach > 0]) if reach.any() else np.inf
        if reach.max() >= _OUTLIER * median:
            factors = np.maximum(reach / (_REACH * median), 1.0).astype(np.float32)
            _divide(model.graph, name, products[name], factors)


def products_by_input(graph: "GraphProto") -> dict[str, list["NodeProto"]]:
    """Return the products of an activation with weights that no other node uses, by the activation's name."""
    weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    uses = [name for node in graph.node for name in node.input]
    products: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            products.setdefault(node.input[0], []).append(node)
    return {
        name: nodes
        for name, nodes in products.items()
        if all(uses.count(node.input[1]) == 1 for node in nodes)
    }


def _reaches(model: "ModelProto", source: Path, names: Sequence[str]) -> Mapping[str, FloatArray]:
    """Return the reach of each channel of the named tensors, ``(channels,)`` each: its largest magnitude."""
    reaches: dict[str, FloatArray] = {}
    with session_of(model, names) as session:
        for inputs in quantization_inputs(source):
            for name, value in zip(names, session.run(names, inputs), strict=True):
                reach = np.abs(value).max(axis=tuple(range(value.ndim - 1)))
                reaches[name] = np.maximum(reach, reaches.get(name, reach))
    return reaches


def _divide(graph: "GraphProto", name: str, products: Sequence["NodeProto"], factors: FloatArray) -> None:
    """Divide the channels of the tensor ``name``, and multiply the weights of its ``products`` to match."""
    from onnx import helper, numpy_helper

    divided, inverse = f"{name}_smoothed", f"{name}_smoothing"
    graph.initializer.append(numpy_helper.from_array(1.0 / factors, inverse))
    first = min(index for index, node in enumerate(graph.node) if node in products)
    graph.node.insert(first, helper.make_node("Mul", [name, inverse], [divided], divided))
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for product in products:
        tensor = weights[product.input[1]]
        scaled = numpy_helper.to_array(tensor) * factors[:, None]
        tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
        product.input[0] = divided
