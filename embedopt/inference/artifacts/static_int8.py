"""Static INT8: activations have one fixed scale a tensor, so an embedding does not depend on its batch.

The weights are chosen so that it does not depend on the CPU either. A CPU without VNNI adds the products of
two activations with two weights in 16 bits, which saturate: so the sum of such a pair of weights is kept at
128 or less in magnitude (255 * 128 < 2^15). Of several scales a channel gets the one with the least error,
weighted by how large the activations are. The mean error of rounding is added to the bias, if there is one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedopt.errors import ArtifactError
from embedopt.inference.artifacts.attention import with_fused_attention
from embedopt.inference.artifacts.graph import replace_node, save_graph, session_of
from embedopt.inference.artifacts.layout import copy_without_graph
from embedopt.inference.artifacts.quantization_texts import quantization_inputs
from embedopt.inference.artifacts.quantize import open_graph, quantize_tables
from embedopt.inference.artifacts.smooth import products_by_input, smooth

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_Floats = NDArray[np.float64]
_PAIR_LIMIT = 128
# Largest magnitudes that a channel's weights are scaled to. A small one makes the steps coarse, a large one
# has more pairs cut.
_LEVELS = (*range(48, 128, 4), 127)
_INT8_SUFFIX = "_int8"
_SUMS = frozenset({"ReduceSum", "ReduceL2"})
_SMALL_BYTES = 1024


@dataclass(slots=True)
class _Observed:
    """Statistics of a tensor of activations: its limits, and its sums over all tokens by channel."""

    low: float = 0.0
    high: float = 0.0
    tokens: int = 0
    total: _Floats | float = 0.0
    squares: _Floats | float = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
        self.low, self.high = min(self.low, float(rows.min())), max(self.high, float(rows.max()))
        self.tokens += len(rows)
        self.total = self.total + rows.sum(axis=0)
        self.squares = self.squares + np.square(rows).sum(axis=0)


def static_int8(source: Path, target: Path) -> str | None:
    """Quantise weights and activations to 8 bits with scales that are fixed now.

    Args:
        source: an artifact of ``export.onnx_fp32``.
        target: an empty folder.

    Returns:
        What could not be done, in a line; None if all was done.

    Raises:
        ArtifactError: the graph has no product with constant weights.
    """
    from onnx import helper

    copy_without_graph(source, target)
    model = open_graph(source)
    if not products_by_input(model.graph):
        raise ArtifactError(
            "the graph has no matrix product with constant weights, so nothing can be quantised: "
            "leave the INT8 backends out for this model"
        )
    sum_in_float64(model)
    smooth(model, source)
    quantize_tables(model.graph)
    products = products_by_input(model.graph)
    with_bias = [
        has_bias
        for name, observed in _observe(model, source, list(products)).items()
        for has_bias in _quantize_products(model.graph, name, products[name], observed)
    ]
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model = with_fused_attention(model, source)
    save_graph(model, target, apart=True)
    return _what_was_left(model, with_bias)


def _what_was_left(model: "ModelProto", with_bias: Sequence[bool]) -> str | None:
    kinds = [node.op_type for node in model.graph.node]
    without, single = with_bias.count(False), kinds.count("Softmax")
    notes = []
    if without:
        notes.append(f"{without} of {len(with_bias)} products have no bias to put inside")
    if single:
        layers = single + kinds.count("QAttention")
        notes.append(f"the attention of {single} of {layers} layers does not fit into one node")
    return "; ".join(notes) or None


def _observe(model: "ModelProto", source: Path, names: Sequence[str]) -> Mapping[str, _Observed]:
    observed = {name: _Observed() for name in names}
    with session_of(model, names) as session:
        for inputs in quantization_inputs(source):
            for name, values in zip(names, session.run(names, inputs), strict=True):
                observed[name].add(values)
    return observed


def round_weights(weights: _Floats, squares: _Floats) -> tuple[_Floats, _Floats]:
    """Round weights to whole numbers, with a scale for each output channel.

    Args:
        weights: ``(inputs, outputs)``.
        squares: ``(inputs,)``, mean square of each input's activation.

    Returns:
        Whole numbers ``(inputs, outputs)`` from -127 to 127, the sum of those of inputs ``2 i`` and
        ``2 i + 1`` at most 128 in magnitude, and scales ``(outputs,)``.
    """
    largest = np.maximum(np.abs(weights).max(axis=0), np.finfo(np.float32).tiny)
    best, best_scale = np.zeros_like(weights), largest
    least = np.full(weights.shape[1], np.inf)
    for level in _LEVELS:
        scale = largest / level
        rounded = _limit_pairs(np.rint(weights / scale))
        error = (np.square(weights - rounded * scale) * squares[:, None]).sum(axis=0)
        better = error < least
        least, best_scale = np.where(better, error, least), np.where(better, scale, best_scale)
        best = np.where(better, rounded, best)
    return best, best_scale


def _limit_pairs(values: _Floats) -> _Floats:
    """Where the sum of a pair of rows exceeds the limit, take half of the excess from each of the two.

    Numbers of opposite signs need no limit: no activation is negative, so their products partly cancel.
    """
    padded = np.pad(values, ((0, len(values) % 2), (0, 0)))
    pairs = padded.reshape(-1, 2, padded.shape[1])
    magnitudes = np.abs(pairs)
    half = np.maximum(np.abs(pairs.sum(axis=1)) - _PAIR_LIMIT, 0.0) / 2
    limited = magnitudes - np.stack([np.ceil(half), np.floor(half)], axis=1)
    result: _Floats = (np.sign(padded) * limited.reshape(padded.shape))[: len(values)]
    return result


def _quantize_products(
    graph: "GraphProto", name: str, nodes: Sequence["NodeProto"], observed: _Observed
) -> list[bool]:
    """Quantise the tensor ``name`` once, and multiply it with the weights of ``nodes`` in int8.

    Returns:
        For each node, whether the model's own bias is inside the product.
    """
    from onnx import helper, numpy_helper

    scale = max((observed.high - observed.low) / 255, float(np.finfo(np.float32).tiny))
    zero = np.clip(np.rint(-observed.low / scale), 0, 255)
    names = [f"{name}{suffix}" for suffix in ("_scale", "_zero", _INT8_SUFFIX)]
    graph.initializer.append(numpy_helper.from_array(np.array(scale, dtype=np.float32), names[0]))
    graph.initializer.append(numpy_helper.from_array(np.array(zero, dtype=np.uint8), names[1]))
    first = min(index for index, node in enumerate(graph.node) if node in nodes)
    graph.node.insert(first, helper.make_node("QuantizeLinear", [name, *names[:2]], [names[2]], names[2]))
    return [_quantize_product(graph, node, names, observed) for node in nodes]


def _quantize_product(
    graph: "GraphProto", node: "NodeProto", activation: Sequence[str], observed: _Observed
) -> bool:
    from onnx import helper, numpy_helper

    scale, zero, values = activation
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    weights = numpy_helper.to_array(tensors[node.input[1]]).astype(np.float64)
    rounded, scales = round_weights(weights, np.asarray(observed.squares) / observed.tokens)
    scales = scales.astype(np.float32)
    bias = (np.asarray(observed.total) / observed.tokens) @ (weights - rounded * scales)
    output = node.output[0]
    addition = _bias_addition(graph, output, weights.shape[1])
    if addition is None:
        # Without a bias, an input of 0 has to give 0: such a model embeds a text of padding alone as 0.
        bias = np.zeros_like(bias)
    else:
        [own] = [each for each in addition.input if each != output]
        bias = bias + numpy_helper.to_array(tensors[own])
        output = addition.output[0]
        graph.node.remove(addition)
        if not any(own in other.input for other in graph.node):
            graph.initializer.remove(tensors[own])
    made = [f"{node.input[1]}{suffix}" for suffix in (_INT8_SUFFIX, "_scale", "_bias")]
    graph.initializer.append(numpy_helper.from_array(rounded.astype(np.int8), made[0]))
    graph.initializer.append(numpy_helper.from_array(scales, made[1]))
    graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), made[2]))
    graph.initializer.remove(tensors[node.input[1]])
    product = helper.make_node(
        "MatMulIntegerToFloat",
        [values, made[0], scale, made[1], zero, "", made[2]],
        [output],
        f"{node.output[0]}{_INT8_SUFFIX}",
        domain="com.microsoft",
    )
    replace_node(graph, node, [product])
    return addition is not None


def _bias_addition(graph: "GraphProto", output: str, channels: int) -> "NodeProto | None":
    """Return the node that adds a constant vector to a product, if it is the product's only use."""
    vectors = {tensor.name for tensor in graph.initializer if list(tensor.dims) == [channels]}
    uses = [node for node in graph.node if output in node.input]
    is_bias = len(uses) == 1 and uses[0].op_type == "Add" and not vectors.isdisjoint(uses[0].input)
    return uses[0] if is_bias else None


def sum_in_float64(model: "ModelProto") -> None:
    """Make the graph compute the sums of pooling and normalisation in float64, in place.

    The order of additions depends on the padded length; in float64 it changes no bit of the float32 result.
    """
    from onnx import TensorProto, helper

    graph, floats = model.graph, _float_tensors(model)
    for node in [node for node in graph.node if node.op_type in _SUMS and node.output[0] in floats]:
        given, output = node.input[0], node.output[0]
        wide = [f"{output}_addends", f"{output}_sum"]
        node.input[0], node.output[0] = wide
        index = list(graph.node).index(node)
        graph.node.insert(
            index + 1, helper.make_node("Cast", wide[1:], [output], wide[1], to=TensorProto.FLOAT)
        )
        graph.node.insert(index, helper.make_node("Cast", [given], wide[:1], wide[0], to=TensorProto.DOUBLE))


def _float_tensors(model: "ModelProto") -> frozenset[str]:
    """Return the names of the tensors of type float32."""
    import onnx

    # Inference reads small tensors only, such as shapes; the weights may be over the 2 GiB that it takes.
    light = onnx.ModelProto()
    light.CopyFrom(model)
    for tensor in light.graph.initializer:
        if len(tensor.raw_data) > _SMALL_BYTES:
            tensor.ClearField("raw_data")
    inferred = onnx.shape_inference.infer_shapes(light).graph
    return frozenset(
        value.name
        for value in (*inferred.value_info, *inferred.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    )
