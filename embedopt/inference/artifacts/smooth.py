"""Makes a graph easier to quantise without changing what it computes.

Activations share one scale per tensor, so the few channels that reach far beyond the others take the
resolution away from all of them. Such a channel is divided by how far it reaches, and its row of the
weights multiplied by the same (SmoothQuant, https://arxiv.org/abs/2211.10438, with a rule of our own for
the factors).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedopt.inference.backends import get_backend
from embedopt.inference.encoder import FloatArray, IntArray
from embedopt.inference.pipeline import Pipeline

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

# A channel may reach three times as far as the median one; an input in which none reaches four times as
# far is left alone. Of limits from 2 to 4, these kept the worst cosine highest.
_REACH = 3.0
_OUTLIER = 4.0


def smooth(model: "ModelProto", source: Path) -> None:
    """Divide the outlying channels of the inputs of matrix products, in place.

    Args:
        model: the graph of the artifact ``source``.
        source: an artifact of ``export.onnx_fp32``, which says how to read texts.
    """
    products = _products_by_input(model.graph)
    for name, reach in _reaches(model, source, list(products)).items():
        if reach.max() >= _OUTLIER * np.median(reach):
            factors = np.maximum(reach / (_REACH * np.median(reach)), 1.0).astype(np.float32)
            _divide(model.graph, name, products[name], factors)


def _products_by_input(graph: "GraphProto") -> dict[str, list["NodeProto"]]:
    """Return the products of an activation with weights of their own, by the activation's name."""
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
    """Return the largest magnitude of each channel of the named tensors, ``(channels,)`` each."""
    import onnx
    import onnxruntime

    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    observed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(observed.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = [value.name for value in session.get_inputs()]
    reaches: dict[str, FloatArray] = {}

    def observe(ids: IntArray, mask: IntArray) -> FloatArray:
        embeddings, *values = session.run(None, dict(zip(inputs, (ids, mask), strict=True)))
        for name, value in zip(names, values, strict=True):
            reach = np.abs(value).max(axis=tuple(range(value.ndim - 1)))
            reaches[name] = np.maximum(reach, reaches.get(name, reach))
        return np.asarray(embeddings)

    with Pipeline.of_artifact(get_backend("onnx-fp32"), source, [observe]) as encoder:
        encoder.encode(quantization_texts(), batch_size=1)
    return reaches


def quantization_texts() -> list[str]:
    """Return texts of no corpus, so that no embedding is judged on what its recipe was made with."""
    return Path(__file__).with_name("quantization_texts.txt").read_text(encoding="utf8").splitlines()


def _divide(graph: "GraphProto", name: str, products: Sequence["NodeProto"], factors: FloatArray) -> None:
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
