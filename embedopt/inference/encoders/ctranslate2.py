"""CTranslate2, which quantises activations with one scale for each row."""

from pathlib import Path

import numpy as np

from embedopt.errors import ArtifactError, UnsupportedModelError
from embedopt.inference.artifacts.source_model import is_trusted, open_source_model, save_text_files
from embedopt.inference.backend import Backend
from embedopt.inference.encoder import FloatArray, IntArray
from embedopt.inference.replicas import Forward

_MODULES = frozenset({"Transformer", "Pooling", "Normalize", "Dropout"})


def convert(source: Path, target: Path, *, quantization: str) -> None:
    """Convert the sentence-transformers folder ``source``.

    Raises:
        UnsupportedModelError: the model does more than mean pooling, which is all that :func:`open_forwards`
            computes.
    """
    import ctranslate2
    from sentence_transformers.sentence_transformer.modules import Pooling

    model = open_source_model(source)
    modules = [type(module).__name__ for module in model]
    poolings = [module.pooling_mode for module in model if isinstance(module, Pooling)]
    if poolings != ["mean"] or set(modules) - _MODULES or model.truncate_dim:
        cut = f", cut to {model.truncate_dim} components" if model.truncate_dim else ""
        raise UnsupportedModelError(
            f"the model is made of {', '.join(modules)}, pooling by {poolings}{cut}; wanted mean pooling "
            "and nothing more: leave the CTranslate2 backend out"
        )
    converter = ctranslate2.converters.TransformersConverter(str(source), trust_remote_code=is_trusted())
    converter.convert(str(target), quantization=quantization, force=True)
    save_text_files(model, target)


def open_forwards(backend: Backend, folder: Path, replicas: int, threads: int) -> list[Forward]:
    """Open an artifact of :func:`convert`.

    Raises:
        ArtifactError: on this CPU, CTranslate2 computes in another number type than the row's.
    """
    import ctranslate2

    compute_type = str(backend.open_options["compute_type"])
    encoder = ctranslate2.Encoder(
        str(folder), compute_type=compute_type, inter_threads=replicas, intra_threads=threads
    )
    if encoder.compute_type != compute_type:
        raise ArtifactError(
            f"CTranslate2 computes {backend.name} in {encoder.compute_type} on this CPU; "
            f"wanted {compute_type}: leave it out"
        )

    def forward(ids: IntArray, mask: IntArray) -> FloatArray:
        output = encoder.forward_batch(
            ctranslate2.StorageView.from_array(ids.astype(np.int32)),
            ctranslate2.StorageView.from_array((mask > 0).sum(axis=1, dtype=np.int32)),
        )
        states = np.asarray(output.last_hidden_state)
        sums = np.einsum("nld,nl->nd", states, (mask == 1).astype(np.float32))
        pooled: FloatArray = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return pooled

    return [forward] * replicas
