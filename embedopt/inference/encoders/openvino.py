"""OpenVINO, in the precision that the row names: by default it picks one by itself."""

import sys
from pathlib import Path

import numpy as np

from embedopt.errors import ArtifactError
from embedopt.inference.artifacts.layout import MODEL_FILE as ONNX_FILE
from embedopt.inference.artifacts.layout import copy_without_graph
from embedopt.inference.artifacts.quantization_texts import quantization_inputs
from embedopt.inference.backend import Backend
from embedopt.inference.encoder import FloatArray, IntArray
from embedopt.inference.replicas import Forward

# As if it was not installed: OpenVINO and nncf then send nothing, and keep no id in the user's home.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: not to be imported

_MODEL_FILE = "model.xml"
_PRECISION = "INFERENCE_PRECISION_HINT"


def convert(source: Path, target: Path) -> None:
    """Convert an artifact of ``export.onnx_fp32``."""
    import openvino

    _save(openvino.convert_model(source / ONNX_FILE), source, target)


def static_int8(source: Path, target: Path) -> None:
    """Quantise an artifact of ``export.onnx_fp32`` with nncf; the scales of activations are fixed now."""
    import nncf
    import openvino

    samples = quantization_inputs(source)
    model = nncf.quantize(
        openvino.convert_model(source / ONNX_FILE),
        nncf.Dataset(samples),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        fast_bias_correction=True,
        subset_size=len(samples),
    )
    _save(model, source, target)


def _save(model: object, source: Path, target: Path) -> None:
    import openvino

    openvino.save_model(model, target / _MODEL_FILE, compress_to_fp16=False)
    copy_without_graph(source, target)


def open_forwards(backend: Backend, folder: Path, replicas: int, threads: int) -> list[Forward]:
    """Open an artifact of this module.

    Raises:
        ArtifactError: on this CPU, OpenVINO computes in another precision than the row's.
    """
    import openvino

    options = {"NUM_STREAMS": replicas, "INFERENCE_NUM_THREADS": replicas * threads, **backend.open_options}
    model = openvino.Core().compile_model(folder / _MODEL_FILE, "CPU", options)
    expected, precision = backend.open_options[_PRECISION], model.get_property(_PRECISION).to_string()
    if precision != expected:
        raise ArtifactError(
            f"OpenVINO computes {backend.name} in {precision} on this CPU; wanted {expected}: leave it out"
        )
    return [_forward(model) for _ in range(replicas)]


def _forward(model: object) -> Forward:
    request = model.create_infer_request()  # type: ignore[attr-defined]  # OpenVINO ships no types

    def forward(ids: IntArray, mask: IntArray) -> FloatArray:
        # Copied: the next call writes into the same memory.
        embeddings = request.infer({"input_ids": ids, "attention_mask": mask})[0]
        return np.array(embeddings, dtype=np.float32)

    return forward
