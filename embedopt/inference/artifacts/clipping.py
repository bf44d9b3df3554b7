"""How many activations exceed the fixed scales of a static INT8 graph, and are clipped."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embedopt.inference.artifacts.graph import session_of
from embedopt.inference.artifacts.layout import MODEL_FILE, graph_inputs


def clipped_share(folder: Path, texts: Sequence[str]) -> float:
    """Return the share of quantised activations that lie outside the range of their 8 bits.

    Each text is encoded alone, as padding would be counted otherwise.

    Args:
        folder: an artifact of ``static_int8.static_int8``.
        texts: at least one text.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(folder / MODEL_FILE)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    names = [node.input[0] for node in nodes]
    scales, zeros = (
        [float(numpy_helper.to_array(constants[node.input[place]])) for node in nodes] for place in (1, 2)
    )
    clipped = total = 0
    with session_of(model, names) as session:
        for inputs in graph_inputs(folder, [[text] for text in texts]):
            for values, scale, zero in zip(session.run(names, inputs), scales, zeros, strict=True):
                steps = np.rint(values / np.float32(scale)) + zero
                clipped += int(np.count_nonzero((steps < 0) | (steps > 255)))
                total += steps.size
    return clipped / total
