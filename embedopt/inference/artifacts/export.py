"""Exports of a PyTorch model to ONNX, with pooling and normalisation inside the graph."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from embedopt.errors import UnsupportedModelError, WeightsError
from embedopt.inference.artifacts import probes
from embedopt.inference.artifacts.graph import save_graph
from embedopt.inference.artifacts.layout import MODEL_FILE
from embedopt.inference.artifacts.source_model import (
    open_model,
    open_source_model,
    rust_tokenizer,
    save_text_files,
)

_OUTPUT = "sentence_embedding"


def onnx_fp32(source: Path, target: Path) -> None:
    """Export the sentence-transformers folder ``source`` into ``target``.

    The graph takes ``input_ids`` and ``attention_mask``, each ``(n, length) int64``, and returns one
    ``(n, dim) float32``, L2-normalised, with the pooling that the model's own configuration names.

    Raises:
        UnsupportedModelError: the model's texts can't be tokenized apart from it.
    """
    from optimum.exporters.onnx import export
    from optimum.exporters.onnx.model_configs import SentenceTransformersTransformerOnnxConfig
    from optimum.utils import DEFAULT_DUMMY_SHAPES
    from sentence_transformers.sentence_transformer.modules import Normalize

    # Eager attention exports to fewer nodes than the fused one, which computes shapes at every step.
    model = open_source_model(source, attn_implementation="eager")
    save_text_files(model, target)
    if model.truncate_dim or not any(isinstance(module, Normalize) for module in model):
        normalize = Normalize()
        normalize.register_forward_pre_hook(partial(_cut, model.truncate_dim))
        model.append(normalize)
    config = SentenceTransformersTransformerOnnxConfig(model[0].config, task="feature-extraction")
    tokens = DEFAULT_DUMMY_SHAPES["sequence_length"]  # of the texts that it traces the model with
    shapes = {"sequence_length": min(tokens, model.max_seq_length or tokens)}
    export(model, config, target / MODEL_FILE, input_shapes=shapes)
    _drop_other_outputs(target)


def _cut(dim: int | None, _: object, features: Sequence[dict[str, Any]]) -> None:
    features[0][_OUTPUT] = features[0][_OUTPUT][:, :dim]


def sentence_transformers_onnx(source: Path, target: Path) -> None:
    """Export with sentence-transformers' own ONNX backend, as its users do."""
    original = open_source_model(source)
    rust_tokenizer(original)
    probes.write(original, target)
    model_kwargs = {"provider": "CPUExecutionProvider", "export": True}
    try:
        model = open_model(source, backend="onnx", model_kwargs=model_kwargs)
    except WeightsError as error:  # it reads tensors that the model above does without, such as a decoder's
        raise UnsupportedModelError(
            "sentence-transformers' ONNX backend asks for tensors that the model does without; wanted an "
            "export of its own parts: leave the backend out for this model"
        ) from error
    model.max_seq_length = original.max_seq_length
    # A model card would be looked up on the hub.
    model.save_pretrained(str(target), create_model_card=False)


def _drop_other_outputs(folder: Path) -> None:
    import onnx

    # The exporter has put the weights of a large graph into a second file: they stay there.
    model = onnx.load(folder / MODEL_FILE, load_external_data=False)
    embeddings = [output for output in model.graph.output if output.name == _OUTPUT]
    del model.graph.output[:]
    model.graph.output.extend(embeddings)
    save_graph(model, folder)
