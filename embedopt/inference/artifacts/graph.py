"""ONNX graphs of any size: a protobuf message, in a file or in memory, holds 2 GiB at most.

The tensors of a larger graph stand in a file of their own beside it, or are handed to the session as arrays.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from embedopt.inference.artifacts.layout import MODEL_FILE

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto
    from onnxruntime import InferenceSession

# Largest size of the weights in one message; the rest of the 2 GiB is for the nodes.
LARGEST_BYTES = 2**31 - 2**26
# Smaller tensors stay in the message: ONNX Runtime reads shapes before it gets the arrays.
_SMALL_BYTES = 1024


def is_large(model: "ModelProto") -> bool:
    """Return whether the weights in ``model`` do not fit into one message."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer) > LARGEST_BYTES


def save_graph(model: "ModelProto", folder: Path, *, apart: bool = False) -> None:
    """Write the graph of an artifact; a large one, or any with ``apart``, has its weights in a second file.

    Sessions map that file: weights that they use unchanged are in memory once for all processes.
    """
    import onnx

    data = folder / f"{MODEL_FILE}_data"
    onnx.save(
        model,
        folder / MODEL_FILE,
        save_as_external_data=apart or is_large(model),
        location=data.name,
        size_threshold=_SMALL_BYTES,
    )
    if data.exists():
        data.chmod((folder / MODEL_FILE).stat().st_mode)  # onnx lets only its owner read it


def replace_node(graph: "GraphProto", old: "NodeProto", new: Sequence["NodeProto"]) -> None:
    """Replace a node of a graph by others, which stand where it stood."""
    index = list(graph.node).index(old)
    graph.node.remove(old)
    for node in reversed(new):
        graph.node.insert(index, node)


@contextlib.contextmanager
def session_of(model: "ModelProto", names: Sequence[str]) -> Iterator["InferenceSession"]:
    """Open a graph that is in memory, with the tensors called ``names`` as its outputs."""
    import onnx
    from onnx import helper, numpy_helper
    from onnxruntime import InferenceSession, OrtValue, SessionOptions

    used = {name for node in model.graph.node for name in node.input}  # a session refuses arrays of others
    handed = [one for one in model.graph.initializer if one.name in used and len(one.raw_data) > _SMALL_BYTES]
    names_handed = {tensor.name for tensor in handed}
    graph = helper.make_graph(
        model.graph.node,
        model.graph.name,
        model.graph.input,
        [onnx.ValueInfoProto(name=name) for name in names],
        [_without_data(one) if one.name in names_handed else one for one in model.graph.initializer],
    )
    options = SessionOptions()
    # The session reads their memory as long as it lives.
    values = [OrtValue.ortvalue_from_numpy(numpy_helper.to_array(tensor)) for tensor in handed]
    options.add_external_initializers([tensor.name for tensor in handed], values)
    message = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    yield InferenceSession(message.SerializeToString(), options, providers=["CPUExecutionProvider"])
    del values


def _without_data(tensor: "TensorProto") -> "TensorProto":
    from onnx import TensorProto
    from onnx.external_data_helper import set_external_data

    empty = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=b"0")
    set_external_data(empty, "memory")
    empty.ClearField("raw_data")
    return empty
