"""OpenVINO, in the precision that the row names: left alone, it picks one by itself."""

from pathlib import Path

import numpy as np

from embedopt.errors import ArtifactError
from embedopt.inference.artifacts.quantize import copy_all_but_the_graph
from embedopt.inference.artifacts.smooth import quantization_texts
from embedopt.inference.backends import Backend, Mode, get_backend
from embedopt.inference.encoder import FloatArray, IntArray
from embedopt.inference.encoders.onnxruntime import MODEL_FILE as ONNX_FILE
from embedopt.inference.pipeline import Forward, Pipeline, TextSettings
from embedopt.inference.threads import replicas_and_threads

_MODEL_FILE = "model.xml"


def convert(source: Path, target: Path) -> None:
    """Convert an artifact of ``export.onnx_fp32``."""
    import openvino

    openvino.save_model(
        openvino.convert_model(source / ONNX_FILE), target / _MODEL_FILE, compress_to_fp16=False
    )
    copy_all_but_the_graph(source, target)


def static_int8(source: Path, target: Path) -> None:
    """Quantise an artifact of ``export.onnx_fp32`` with nncf: scales of activations are settled now."""
    import nncf
    import openvino

    samples: list[dict[str, IntArray]] = []
    dim = TextSettings.load(source).dim

    def sample(ids: IntArray, mask: IntArray) -> FloatArray:
        samples.append({"input_ids": ids, "attention_mask": mask})
        return np.zeros((len(ids), dim), dtype=np.float32)

    with Pipeline.of_artifact(get_backend("onnx-fp32"), source, [sample]) as encoder:
        encoder.encode(quantization_texts(), batch_size=1)
    model = nncf.quantize(
        openvino.convert_model(source / ONNX_FILE),
        nncf.Dataset(samples),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        fast_bias_correction=True,
        subset_size=len(samples),
    )
    openvino.save_model(model, target / _MODEL_FILE, compress_to_fp16=False)
    copy_all_but_the_graph(source, target)


def load(backend: Backend, folder: Path, mode: Mode) -> Pipeline:
    """Load an artifact of this module.

    Raises:
        ArtifactError: OpenVINO computes in another precision than the row's on this CPU.
    """
    import openvino

    replicas, threads = replicas_and_threads(mode)
    wanted = str(backend.load_options["INFERENCE_PRECISION_HINT"])
    options = {"NUM_STREAMS": replicas, "INFERENCE_NUM_THREADS": replicas * threads, **backend.load_options}
    model = openvino.Core().compile_model(folder / _MODEL_FILE, "CPU", options)
    found = model.get_property("INFERENCE_PRECISION_HINT").to_string()
    if found != wanted:
        raise ArtifactError(
            f"OpenVINO computes {backend.name} in {found} on this CPU; wanted {wanted}: leave it out"
        )
    return Pipeline.of_artifact(backend, folder, [_forward(model) for _ in range(replicas)])


def _forward(model: object) -> Forward:
    request = model.create_infer_request()  # type: ignore[attr-defined]  # OpenVINO ships no types

    def forward(ids: IntArray, mask: IntArray) -> FloatArray:
        # Copied: the next call writes into the same memory.
        embeddings = request.infer({"input_ids": ids, "attention_mask": mask})[0]
        return np.array(embeddings, dtype=np.float32)

    return forward
