"""PyTorch to ONNX by Optimum, with pooling and normalisation inside the graph."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedopt.errors import ArtifactError
from embedopt.inference.encoder import FloatArray
from embedopt.inference.encoders.onnxruntime import MODEL_FILE
from embedopt.inference.pipeline import TOKENIZER_FILE, TextSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

_OUTPUT = "sentence_embedding"
# Compared with the model's own answers right after the export: of unequal length, empty, beyond ASCII,
# and one that every model has to cut off.
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
    ``(n, dim) float32``, L2-normalised, whatever pooling the model's own configuration asks for.

    Raises:
        ArtifactError: the graph's answers differ from the model's, or the model can't be expressed.
    """
    import onnx
    from optimum.exporters.onnx import export
    from optimum.exporters.onnx.model_configs import SentenceTransformersTransformerOnnxConfig
    from sentence_transformers.sentence_transformer.modules import Normalize

    with quiet():
        # Plain attention exports to fewer nodes than the fused one, which asks for shapes at every step.
        model = load_sentence_transformer(source, attn_implementation="eager")
        expected = model.encode(list(_PROBES), normalize_embeddings=True, show_progress_bar=False)
        if not any(isinstance(module, Normalize) for module in model):
            model.append(Normalize())
        file = target / MODEL_FILE
        export(
            model, SentenceTransformersTransformerOnnxConfig(model[0].config, task="feature-extraction"), file
        )
        graph = onnx.load(file)
        outputs = [output for output in graph.graph.output if output.name == _OUTPUT]
        del graph.graph.output[:]
        graph.graph.output.extend(outputs)
        onnx.save(graph, file)
    tokenizer_of(model).save(str(target / TOKENIZER_FILE), pretty=False)
    text_settings(model).save(target)
    _check_export(target, np.asarray(expected))


def sentence_transformers_onnx(source: Path, target: Path) -> None:
    """Export with sentence-transformers' own ONNX backend, as its users do."""
    from sentence_transformers import SentenceTransformer

    with quiet():
        model_kwargs = {"provider": "CPUExecutionProvider", "export": True}
        model = SentenceTransformer(str(source), device="cpu", backend="onnx", model_kwargs=model_kwargs)
        # A model card would be looked up on the hub.
        model.save_pretrained(str(target), create_model_card=False)


def load_sentence_transformer(folder: Path, **model_kwargs: object) -> "SentenceTransformer":
    """Load a model folder on the CPU; ``model_kwargs`` are of transformers' ``from_pretrained``."""
    from sentence_transformers import SentenceTransformer

    model: SentenceTransformer = SentenceTransformer(str(folder), device="cpu", model_kwargs=model_kwargs)
    model.eval()
    return model


def tokenizer_of(model: "SentenceTransformer") -> "Tokenizer":
    """Return a copy of the Rust tokenizer inside ``model``.

    Raises:
        ArtifactError: the model has only a slow tokenizer.
    """
    from tokenizers import Tokenizer

    rust = getattr(model.tokenizer, "backend_tokenizer", None)
    if rust is None:
        raise ArtifactError(
            f"the model's tokenizer is {type(model.tokenizer).__name__}, without a tokenizer.json; "
            "wanted one that the tokenizers library can load: convert it with transformers' AutoTokenizer"
        )
    return Tokenizer.from_str(rust.to_str())


def text_settings(model: "SentenceTransformer") -> TextSettings:
    """Read what ``model`` says about its texts."""
    dim = model.get_embedding_dimension()
    assert dim is not None
    return TextSettings(
        dim=dim,
        max_length=model.max_seq_length,
        pad_id=model.tokenizer.pad_token_id or 0,
        prompt=model.prompts.get(model.default_prompt_name or "") or "",
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what the exporters tell their own developers, and undo their ``logging.basicConfig``."""
    root = logging.getLogger()
    handlers, level, disabled = root.handlers[:], root.level, logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)


def _check_export(folder: Path, expected: FloatArray) -> None:
    from embedopt.inference.backends import get_backend
    from embedopt.inference.encoders.onnxruntime import load

    with load(get_backend("onnx-fp32"), folder, "latency") as encoder:
        error = float(np.abs(encoder.encode(_PROBES) - expected).max())
    if error > _LARGEST_EXPORT_ERROR:
        raise ArtifactError(
            f"the exported graph differs from the model by {error:.1e} in a component; wanted at most "
            f"{_LARGEST_EXPORT_ERROR:.0e}: leave the ONNX backends out for this model"
        )
