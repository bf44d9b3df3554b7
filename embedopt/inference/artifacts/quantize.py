"""INT8 recipes: each function quantises the ONNX graph of one artifact into the folder of another."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedopt.errors import UnsupportedModelError
from embedopt.inference.artifacts.graph import is_large, replace_node, save_graph
from embedopt.inference.artifacts.layout import MODEL_FILE, copy_without_graph
from embedopt.inference.artifacts.smooth import smooth
from embedopt.inference.artifacts.source_model import open_model

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

# Smaller tables are left to the library, which gives a table one scale.
_TABLE_ROWS = 256
_INT8_PRODUCTS = frozenset({"MatMulInteger", "MatMulNBits", "ConvInteger"})


def dynamic_int8(source: Path, target: Path, *, per_channel: bool, smoothing: bool = False) -> None:
    """Quantise weights to signed 8 bits now and activations to unsigned 8 bits at run time.

    Activations share one scale per tensor, so an embedding depends on the other texts of its batch.

    Args:
        source: an artifact of ``export.onnx_fp32``.
        target: an empty folder.
        per_channel: one weight scale for each output channel instead of one for the matrix.
        smoothing: first divide outlying channels (``smooth.smooth``), and give each row of a table of
            embeddings a scale of its own.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    copy_without_graph(source, target)
    model = open_graph(source)
    quantized: list[str] = []
    if smoothing:
        smooth(model, source)
        quantized = quantize_tables(model.graph)
    quantize_dynamic(
        model,
        target / MODEL_FILE,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
        nodes_to_exclude=quantized,
        use_external_data_format=is_large(model),
    )
    _check_products(onnx.load(target / MODEL_FILE, load_external_data=False).graph)


def open_graph(source: Path) -> "ModelProto":
    """Return the graph of an artifact in the form that every recipe quantises.

    MatMul stands in place of Gemm, and constants in place of their copies.
    """
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel

    model = onnx.load(source / MODEL_FILE)
    ONNXModel(model).replace_gemm_with_matmul()
    _use_constants_themselves(model.graph)
    return model


def _use_constants_themselves(graph: "GraphProto") -> None:
    """Remove the nodes that copy a constant: of equal biases, an export writes one, and copies it."""
    constants = {tensor.name for tensor in graph.initializer}
    copies = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "Identity" and node.input[0] in constants
    }
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in copies:
                node.input[index] = copies[name].input[0]
    for name in {output.name for output in graph.output} & copies.keys():
        del copies[name]
    for copy in copies.values():
        graph.node.remove(copy)


def _check_products(graph: "GraphProto") -> None:
    if not any(node.op_type in _INT8_PRODUCTS for node in graph.node):
        kinds = sorted({node.op_type for node in graph.node if node.op_type in {"Conv", "Gemm", "MatMul"}})
        raise UnsupportedModelError(
            f"none of the model's products ({', '.join(kinds) or 'it has none'}) could be quantised; wanted "
            "products with constant weights: leave this backend out for this model"
        )


def quantize_tables(graph: "GraphProto") -> list[str]:
    """Give each row of the large tables of embeddings its own scale; return the names of the new nodes."""
    from onnx import numpy_helper

    uses = [name for node in graph.node for name in node.input]
    tables = {tensor.name: tensor for tensor in graph.initializer if tensor.dims[:1] >= [_TABLE_ROWS]}
    added = []
    for lookup in [node for node in graph.node if node.op_type == "Gather" and node.input[0] in tables]:
        table = lookup.input[0]
        if uses.count(table) > 1:
            continue
        rows = numpy_helper.to_array(tables[table])
        scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / 127, np.finfo(np.float32).tiny)
        values = np.rint(rows / scales).astype(np.int8)
        graph.initializer.remove(tables[table])
        for array, suffix in ((values, "int8"), (scales, "scale")):
            graph.initializer.append(numpy_helper.from_array(array, f"{table}_{suffix}"))
        nodes = _quantized_lookup(lookup)
        replace_node(graph, lookup, nodes)
        added += [node.name for node in nodes]
    return added


def _quantized_lookup(lookup: "NodeProto") -> list["NodeProto"]:
    """Return nodes that look up a row and its scale, and multiply them. Each is named like its output."""
    from onnx import TensorProto, helper

    table, ids, output = lookup.input[0], lookup.input[1], lookup.output[0]
    nodes = [
        helper.make_node(kind, inputs, [made], made)
        for kind, inputs, made in (
            ("Gather", [f"{table}_int8", ids], f"{output}_int8"),
            ("Cast", [f"{output}_int8"], f"{output}_cast"),
            ("Gather", [f"{table}_scale", ids], f"{output}_scale"),
            ("Mul", [f"{output}_cast", f"{output}_scale"], output),
        )
    ]
    nodes[1].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
    return nodes


def blockwise_int8(source: Path, target: Path, *, block_size: int) -> None:
    """Quantise weights and, in the kernel, activations to 8 bits with a scale for each block of a row.

    A row's scales depend on that row alone, so an embedding is the same in any batch.
    """
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    copy_without_graph(source, target)
    # Accuracy level 4 is the kernel that multiplies in int8.
    quantizer = MatMulNBitsQuantizer(
        open_graph(source), bits=8, block_size=block_size, is_symmetric=True, accuracy_level=4
    )
    quantizer.process()
    quantizer.model.topological_sort()
    save_graph(quantizer.model.model, target)
    _check_products(quantizer.model.graph())


def sentence_transformers_int8(source: Path, target: Path, *, quantization_config: str) -> None:
    """Quantise with sentence-transformers' own function, as its users do."""
    from sentence_transformers.backend import export_dynamic_quantized_onnx_model

    model_kwargs = {"file_name": "onnx/model.onnx", "provider": "CPUExecutionProvider"}
    model = open_model(source, backend="onnx", model_kwargs=model_kwargs)
    export_dynamic_quantized_onnx_model(model, quantization_config, str(target))
    copy_without_graph(source, target)
