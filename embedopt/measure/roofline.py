"""The roofline: operations per second of plain matrix products with the model's own shapes."""

import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from embedopt.clock import Clock
from embedopt.inference.artifacts.layout import MODEL_FILE
from embedopt.inference.hardware import replicas_and_threads

Shapes = Mapping[tuple[int, int], int]
RooflinePrecision = Literal["fp32", "int8"]

# Rows of each product, as many as a batch has padded tokens.
_ROWS = 512


def product_shapes(folder: Path) -> Shapes:
    """Count an ``onnx-fp32`` artifact's products by weights, for each shape ``(inputs, outputs)``."""
    import onnx

    graph = onnx.load(folder / MODEL_FILE).graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer if len(tensor.dims) == 2}
    return Counter(
        weights[node.input[1]] for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights
    )


def operations_per_token(shapes: Shapes) -> int:
    """Return the multiplications and additions that all products by weights take for one token."""
    return sum(2 * inputs * outputs * count for (inputs, outputs), count in shapes.items())


def measure_roofline(
    shapes: Shapes, seconds: float = 1.0, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Return the operations per second of the model's matrix products alone, by precision.

    As many threads as throughput mode has replicas multiply for ``seconds`` or more in each precision. The
    rate stands for the best that the kernels of ONNX Runtime reach on these cores: the compute roof of the
    roofline model (Williams, Waterman and Patterson, https://doi.org/10.1145/1498765.1498785).
    """
    replicas, _ = replicas_and_threads("throughput")
    operations = operations_per_token(shapes) * _ROWS * replicas
    rates = {}
    with ThreadPoolExecutor(replicas, "embedopt-roofline") as pool:
        for precision in get_args(RooflinePrecision):
            products = [_Products(shapes, precision) for _ in range(replicas)]
            list(pool.map(_Products.multiply, products))  # warms up
            started_s, turns = clock(), 0
            while not turns or clock() - started_s < seconds:
                list(pool.map(_Products.multiply, products))
                turns += 1
            rates[precision] = operations * turns / (clock() - started_s)
    return rates


class _Products:
    """One session for each shape, bound to memory of its own, so that nothing but the product is timed."""

    def __init__(self, shapes: Shapes, precision: RooflinePrecision) -> None:
        self._runs = [(_bound(shape, precision), count) for shape, count in shapes.items()]

    def multiply(self) -> None:
        """Compute each product as often as the model does."""
        for (session, binding), count in self._runs:
            for _ in range(count):
                session.run_with_iobinding(binding)


def _bound(shape: tuple[int, int], precision: RooflinePrecision) -> tuple[Any, Any]:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    operator, activation_type, weight_type, product_type = {
        "fp32": ("MatMul", np.float32, np.float32, TensorProto.FLOAT),
        "int8": ("MatMulInteger", np.uint8, np.int8, TensorProto.INT32),
    }[precision]
    draw = np.random.default_rng(0)
    activations = draw.integers(0, 100, (_ROWS, shape[0])).astype(activation_type)
    weights = draw.integers(-100, 100, shape).astype(weight_type)
    graph = helper.make_graph(
        [helper.make_node(operator, ["activations", "weights"], ["product"])],
        "roofline",
        [
            helper.make_tensor_value_info(
                "activations", helper.np_dtype_to_tensor_dtype(activations.dtype), activations.shape
            )
        ],
        [helper.make_tensor_value_info("product", product_type, (_ROWS, shape[1]))],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    binding.bind_cpu_input("activations", activations)
    product = np.empty((_ROWS, shape[1]), dtype=np.int32 if precision == "int8" else np.float32)
    binding.bind_ortvalue_output("product", onnxruntime.OrtValue.ortvalue_from_numpy(product))
    return session, binding
