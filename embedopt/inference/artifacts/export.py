"""Exports of a PyTorch model to ONNX, with pooling and normalisation inside the graph."""

from pathlib import Path

import numpy as np

from embedopt.errors import ArtifactError
from embedopt.inference.artifacts.layout import MODEL_FILE, graph_inputs
from embedopt.inference.artifacts.source_model import open_model, open_source_model, save_text_files
from embedopt.inference.encoder import FloatArray

_OUTPUT = "sentence_embedding"
# Texts on which a fresh export is compared with the model: of unequal length, empty, beyond ASCII, and one
# that is longer than any model's limit.
_PROBES = (
    "forklift driver, nights",
    "",
    "Wir suchen eine Köchin für unser Café in Zürich, 80 %",
    "welding " * 600,
)
_LARGEST_EXPORT_ERROR = 1e-4


def onnx_fp32(source: Path, target: Path) -> None:
    """Export the sentence-transformers folder ``source`` into ``target``.

    The graph takes ``input_ids`` and ``attention_mask``, each ``(n, length) int64``, and returns one
    ``(n, dim) float32``, L2-normalised, with the pooling that the model's own configuration names.

    Raises:
        ArtifactError: the graph's embeddings differ from the model's.
    """
    from optimum.exporters.onnx import export
    from optimum.exporters.onnx.model_configs import SentenceTransformersTransformerOnnxConfig
    from sentence_transformers.sentence_transformer.modules import Normalize

    # Eager attention exports to fewer nodes than the fused one, which computes shapes at every step.
    model = open_source_model(source, attn_implementation="eager")
    expected = model.encode(list(_PROBES), normalize_embeddings=True, show_progress_bar=False)
    if not any(isinstance(module, Normalize) for module in model):
        model.append(Normalize())
    config = SentenceTransformersTransformerOnnxConfig(model[0].config, task="feature-extraction")
    export(model, config, target / MODEL_FILE)
    _drop_other_outputs(target / MODEL_FILE)
    save_text_files(model, target)
    _check_export(target, np.asarray(expected))


def sentence_transformers_onnx(source: Path, target: Path) -> None:
    """Export with sentence-transformers' own ONNX backend, as its users do."""
    model_kwargs = {"provider": "CPUExecutionProvider", "export": True}
    model = open_model(source, backend="onnx", model_kwargs=model_kwargs)
    # A model card would be looked up on the hub.
    model.save_pretrained(str(target), create_model_card=False)


def _drop_other_outputs(file: Path) -> None:
    import onnx

    model = onnx.load(file)
    embeddings = [output for output in model.graph.output if output.name == _OUTPUT]
    del model.graph.output[:]
    model.graph.output.extend(embeddings)
    onnx.save(model, file)


def _check_export(folder: Path, expected: FloatArray) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / MODEL_FILE, providers=["CPUExecutionProvider"])
    [inputs] = graph_inputs(folder, [_PROBES])
    error = float(np.abs(session.run(None, inputs)[0] - expected).max())
    if error > _LARGEST_EXPORT_ERROR:
        raise ArtifactError(
            f"the exported graph differs from the model by {error:.1e} in a component; wanted at most "
            f"{_LARGEST_EXPORT_ERROR:.0e}: leave the ONNX backends out for this model"
        )
