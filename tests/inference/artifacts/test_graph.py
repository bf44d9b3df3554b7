"""A graph of more than 2 GiB keeps its weights in a second file: here the limit is lowered."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from embedopt.errors import MissingPackageError
from embedopt.inference.artifacts import graph as graph_module
from embedopt.inference.artifacts.graph import session_of
from embedopt.inference.artifacts.layout import MODEL_FILE, graph_inputs
from embedopt.inference.artifacts.store import ArtifactStore, disk_bytes
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backends import BACKENDS
from embedopt.inference.loading import load_encoder

_TEXTS = ["nurse, night shift", "java and python", ""]


@pytest.mark.parametrize(
    "name",
    ["onnx-fp32", "onnx-int8", "onnx-int8-per-tensor", "onnx-int8-block", "openvino-bf16", "openvino-int8"],
)
def test_a_large_graph_is_built_opened_and_weighed(
    tiny_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its embeddings are those of the same graph in one file; nothing of another artifact is beside it."""
    model = str(tiny_model())
    try:
        with load_encoder(name, model=model, cache_dir=tmp_path / "one file") as encoder:
            expected = encoder.encode_as_one_batch(_TEXTS)
    except MissingPackageError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(graph_module, "LARGEST_BYTES", 1000)
    folder = ArtifactStore(tmp_path / "two files").get(BACKENDS[name], resolve_weights(model))
    with load_encoder(name, model=model, cache_dir=tmp_path / "two files") as encoder:
        np.testing.assert_allclose(encoder.encode_as_one_batch(_TEXTS), expected, atol=1e-6)
    graphs = {file.name for file in folder.iterdir() if file.name.startswith(MODEL_FILE)}
    if name.startswith("onnx"):
        assert len(graphs) == 2
    else:
        assert graphs == set()
    assert disk_bytes(folder) == sum(
        file.stat().st_size for file in folder.iterdir() if file.name != "manifest.json"
    )


def test_a_graph_in_memory_is_opened_with_any_of_its_tensors(outlier_artifact: Path) -> None:
    model = onnx.load(outlier_artifact / MODEL_FILE)
    names = [
        model.graph.output[0].name,
        next(node.output[0] for node in model.graph.node if node.op_type == "MatMul"),
    ]
    [inputs] = graph_inputs(outlier_artifact, [_TEXTS])
    with session_of(model, names) as session:
        embeddings, product = session.run(None, inputs)
    assert embeddings.shape == (3, 32)
    assert product.shape[::2] == (3, 32)
    assert all(len(tensor.raw_data) > 0 for tensor in model.graph.initializer)
