"""What encoders of other people's code share: their answers are checked, and never changed."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from embedopt.errors import MeasureError
from embedopt.inference.artifacts.layout import TOKENIZER_FILE
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backend import Backend
from embedopt.inference.encoder import CallPlan, Encoder, FloatArray, IntArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FIRST_TEXT = "forklift driver, nights"
_SHOWN_CHARACTERS = 40


class ForeignEncoder(Encoder):
    """An encoder that a project declares: a call with several texts is one call of its code.

    Embeddings are as the code gives them, normalised or not.

    Args:
        backend: the declared row.
        folder: the run's model, whose tokenizer tells how long texts are.
    """

    def __init__(self, backend: Backend, folder: Path) -> None:
        self.name, self.dim = backend.name, 0
        self._folder = folder
        self._prompts: Mapping[str, object] = {
            "query": backend.open_options.get("queries", ""),
            "document": backend.open_options.get("documents", ""),
        }
        self.dim = self._encode([_FIRST_TEXT], None).shape[1]

    @abstractmethod
    def _ask(self, texts: list[str]) -> FloatArray:
        """Return the answer of the code to texts, unchecked."""

    @override
    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        vectors = self._ask(texts)
        if vectors.shape != (len(texts), self.dim or vectors.shape[-1]) or not vectors.size:
            raise MeasureError(
                f"{self.name} gave numbers of shape {vectors.shape} for {len(texts)} texts; wanted "
                f"({len(texts)}, {self.dim or 'dim'}), an embedding for each text: mend it, or leave "
                f"{self.name} out"
            )
        if not np.isfinite(vectors).all():
            text = texts[int(np.argmin(np.isfinite(vectors).all(axis=1)))][:_SHOWN_CHARACTERS]
            raise MeasureError(
                f"{self.name} gave NaN or infinity for {text!r}; wanted numbers: mend it, or leave "
                f"{self.name} out"
            )
        return vectors

    @override
    def _encode_prompted(self, texts: list[str], batch_size: int | None, prompt: str) -> FloatArray:
        before = self._prompts.get(prompt, prompt)
        return self._encode([f"{before}{text}" for text in texts], batch_size)

    @override
    def _plan(self, texts: list[str], batch_size: int | None) -> CallPlan:
        return CallPlan([np.arange(len(texts))])

    @override
    def _token_counts(self, texts: list[str]) -> IntArray:
        encodings = self._tokenizer.encode_batch_fast(texts)
        return np.asarray([len(encoding.ids) for encoding in encodings], dtype=np.int64)

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        from tokenizers import Tokenizer

        folders = (self._folder, resolve_weights().path)
        files = [file for folder in folders if (file := folder / TOKENIZER_FILE).is_file()]
        tokenizer = Tokenizer.from_file(str(files[0]))
        tokenizer.no_padding()
        return tokenizer
