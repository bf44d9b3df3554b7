"""CTranslate2, whose activations are quantised row by row."""

from pathlib import Path

import numpy as np

from embedopt.errors import ArtifactError
from embedopt.inference.artifacts.export import load_sentence_transformer, quiet, text_settings, tokenizer_of
from embedopt.inference.backends import Backend, Mode
from embedopt.inference.encoder import FloatArray, IntArray
from embedopt.inference.pipeline import TOKENIZER_FILE, Pipeline
from embedopt.inference.threads import replicas_and_threads


def convert(source: Path, target: Path, *, quantization: str) -> None:
    """Convert the sentence-transformers folder ``source``.

    Raises:
        ArtifactError: the model does not take the mean of its tokens; the runtime leaves pooling to us.
    """
    import ctranslate2
    from sentence_transformers.sentence_transformer.modules import Pooling

    with quiet():
        model = load_sentence_transformer(source)
        poolings = [str(module.pooling_mode) for module in model if isinstance(module, Pooling)]
        if poolings != ["mean"]:
            raise ArtifactError(
                f"the model pools by {poolings}; wanted mean: leave the CTranslate2 backend out"
            )
        ctranslate2.converters.TransformersConverter(str(source)).convert(
            str(target), quantization=quantization, force=True
        )
    tokenizer_of(model).save(str(target / TOKENIZER_FILE), pretty=False)
    text_settings(model).save(target)


def load(backend: Backend, folder: Path, mode: Mode) -> Pipeline:
    """Load an artifact of :func:`convert`.

    Raises:
        ArtifactError: CTranslate2 computes in another type than the row's on this CPU.
    """
    import ctranslate2

    replicas, threads = replicas_and_threads(mode)
    wanted = str(backend.load_options["compute_type"])
    encoder = ctranslate2.Encoder(
        str(folder), compute_type=wanted, inter_threads=replicas, intra_threads=threads
    )
    if encoder.compute_type != wanted:
        raise ArtifactError(
            f"CTranslate2 computes {backend.name} in {encoder.compute_type} on this CPU; wanted {wanted}: "
            "leave it out"
        )

    def forward(ids: IntArray, mask: IntArray) -> FloatArray:
        output = encoder.forward_batch(
            ctranslate2.StorageView.from_array(ids.astype(np.int32)),
            ctranslate2.StorageView.from_array(mask.sum(axis=1, dtype=np.int32)),
        )
        states = np.asarray(output.last_hidden_state)
        sums = np.einsum("nld,nl->nd", states, mask.astype(np.float32))
        pooled: FloatArray = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return pooled

    return Pipeline.of_artifact(backend, folder, [forward] * replicas)
