"""sentence-transformers as its users call it: the reference, and its own ONNX backend."""

import gc
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from embedopt.inference.backends import Backend
from embedopt.inference.encoder import Encoder, FloatArray, IntArray

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_DEFAULT_BATCH_SIZE = 32  # the library's own


class SentenceTransformerEncoder(Encoder):
    """``SentenceTransformer.encode(texts, normalize_embeddings=True)``, nothing tuned."""

    def __init__(self, name: str, model: "SentenceTransformer") -> None:
        dim = model.get_embedding_dimension()
        assert dim is not None
        self.name = name
        self.dim = dim
        self._model: SentenceTransformer | None = model
        # Its tokenizer sets padding anew on each call and refuses to when another thread is in it.
        self._lock = threading.Lock()

    @override
    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        with self._lock:
            embeddings = self._opened().encode(
                texts,
                batch_size=batch_size or _DEFAULT_BATCH_SIZE,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        return np.asarray(embeddings, dtype=np.float32)

    @override
    def _plan(self, texts: list[str], batch_size: int | None) -> list[IntArray]:
        # The library sorts by characters, the longest first, with numpy's default sort.
        order = np.argsort([-len(text) for text in texts])
        size = batch_size or _DEFAULT_BATCH_SIZE
        return [order[start : start + size] for start in range(0, len(order), size)]

    @override
    def _token_counts(self, texts: list[str]) -> IntArray:
        counts = np.empty(len(texts), dtype=np.int64)
        with self._lock:
            model = self._opened()
            prompt = model.prompts.get(model.default_prompt_name or "")
            for start in range(0, len(texts), _DEFAULT_BATCH_SIZE):
                chunk = texts[start : start + _DEFAULT_BATCH_SIZE]
                mask = model.preprocess(list(chunk), prompt=prompt)["attention_mask"]
                counts[start : start + len(chunk)] = mask.sum(dim=1)
        return counts

    def _opened(self) -> "SentenceTransformer":
        if self._model is None:
            raise self._closed_error()
        return self._model

    @override
    def _release(self) -> None:
        self._model = None
        gc.collect()  # the model is in reference cycles, and holds a thread pool until they are found


def load_torch(backend: Backend, folder: Path) -> SentenceTransformerEncoder:
    """Load the weights as ``SentenceTransformer(folder)`` does."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformerEncoder(backend.name, SentenceTransformer(str(folder), device="cpu"))


def load_onnx(backend: Backend, folder: Path) -> SentenceTransformerEncoder:
    """Load an artifact of ``export.sentence_transformers_onnx`` or of the library's INT8 made from it."""
    from sentence_transformers import SentenceTransformer

    [file] = (folder / "onnx").glob("*.onnx")
    model_kwargs = {"file_name": f"onnx/{file.name}", "provider": "CPUExecutionProvider"}
    model = SentenceTransformer(str(folder), device="cpu", backend="onnx", model_kwargs=model_kwargs)
    return SentenceTransformerEncoder(backend.name, model)
