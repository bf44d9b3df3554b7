"""sentence-transformers as its users call it, on PyTorch (the reference) or on its own ONNX backend."""

import gc
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from embedopt.errors import UnsupportedModelError, first_line
from embedopt.inference.artifacts.probes import finite
from embedopt.inference.artifacts.source_model import open_model
from embedopt.inference.backend import Backend
from embedopt.inference.encoder import CallPlan, Encoder, FloatArray, IntArray, closed_error

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_DEFAULT_BATCH_SIZE = 32  # the library's own


class SentenceTransformerEncoder(Encoder):
    """``SentenceTransformer.encode(texts, normalize_embeddings=True)``, not tuned in any way."""

    def __init__(self, name: str, model: "SentenceTransformer") -> None:
        dim = model.get_embedding_dimension()
        assert dim is not None
        self.name = name
        self.dim = dim
        self._model: SentenceTransformer | None = model
        # The tokenizer's padding is set on each call, which fails while another thread is tokenizing.
        self._lock = threading.Lock()

    @override
    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        return self._library_encode(texts, batch_size, None)

    @override
    def _encode_prompted(self, texts: list[str], batch_size: int | None, prompt: str) -> FloatArray:
        return self._library_encode(texts, batch_size, prompt)

    def _library_encode(self, texts: list[str], batch_size: int | None, prompt: str | None) -> FloatArray:
        with self._lock:
            model = self._open_model()
            try:
                embeddings = model.encode(
                    texts,
                    prompt=None if prompt is None else model.prompts.get(prompt, prompt),
                    batch_size=batch_size or _DEFAULT_BATCH_SIZE,
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
            except Exception as error:  # of the library, of any class
                raise UnsupportedModelError(
                    f"{self.name} can't embed these {len(texts)} texts: {type(error).__name__}: "
                    f"{first_line(error)}; wanted a model that embeds texts: mend it, or correct --model"
                ) from error
        return np.asarray(embeddings, dtype=np.float32)

    @override
    def _plan(self, texts: list[str], batch_size: int | None) -> CallPlan:
        # The library sorts texts by number of characters, the longest first, with numpy's default sort.
        order = np.argsort([-len(text) for text in texts])
        size = batch_size or _DEFAULT_BATCH_SIZE
        return CallPlan([order[start : start + size] for start in range(0, len(order), size)])

    @override
    def _token_counts(self, texts: list[str]) -> IntArray:
        counts = np.empty(len(texts), dtype=np.int64)
        with self._lock:
            model = self._open_model()
            prompt = model.prompts.get(model.default_prompt_name or "")
            for start in range(0, len(texts), _DEFAULT_BATCH_SIZE):
                chunk = texts[start : start + _DEFAULT_BATCH_SIZE]
                features = model.preprocess(list(chunk), prompt=prompt)
                lengths = (
                    np.diff(features["offsets"], append=len(features["input_ids"]))  # of a StaticEmbedding
                    if "offsets" in features
                    else features["attention_mask"].sum(dim=1)
                )
                counts[start : start + len(chunk)] = lengths
        return counts

    def _open_model(self) -> "SentenceTransformer":
        if self._model is None:
            raise closed_error(self.name)
        return self._model

    @override
    def _release(self) -> None:
        self._model = None
        gc.collect()  # the model is in reference cycles, and keeps a thread pool until they are collected


def open_torch(backend: Backend, folder: Path) -> SentenceTransformerEncoder:
    """Open the weights as ``SentenceTransformer(folder)`` does.

    Raises:
        UnsupportedModelError: the library can't embed texts with the model.
        WeightsError: the model gives NaN.
    """
    encoder = SentenceTransformerEncoder(backend.name, open_model(folder))
    finite(encoder.encode(["welder, nights", ""]))
    return encoder


def open_onnx(backend: Backend, folder: Path) -> SentenceTransformerEncoder:
    """Open an artifact of ``export.sentence_transformers_onnx``, or the library's INT8 version of it."""
    [file] = (folder / "onnx").glob("*.onnx")
    model_kwargs = {"file_name": f"onnx/{file.name}", "provider": "CPUExecutionProvider"}
    model = open_model(folder, backend="onnx", model_kwargs=model_kwargs)
    return SentenceTransformerEncoder(backend.name, model)
