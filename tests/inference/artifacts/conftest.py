"""An artifact that the tests of the recipes share."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from embedopt.inference.artifacts.export import onnx_fp32
from embedopt.inference.artifacts.layout import MODEL_FILE
from embedopt.inference.artifacts.store import quiet


@pytest.fixture(scope="package")
def outlier_artifact(tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, exported, with values in channel 5 of its embeddings far larger than in the others."""
    folder = tmp_path_factory.mktemp("artifact")
    with quiet():
        onnx_fp32(tiny_model(), folder)
    model = onnx.load(folder / MODEL_FILE)
    [gamma] = [
        tensor for tensor in model.graph.initializer if tensor.name.endswith("embeddings.LayerNorm.weight")
    ]
    values = numpy_helper.to_array(gamma).copy()
    values[5] = 100.0
    gamma.CopyFrom(numpy_helper.from_array(values, gamma.name))
    onnx.save(model, folder / MODEL_FILE)
    return folder
