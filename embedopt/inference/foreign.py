"""Base of the encoders that call a project's own code: its answers are checked, and never changed."""

import shutil
import sys
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from embedopt.errors import MeasureError
from embedopt.inference.artifacts.layout import TOKENIZER_FILE
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backend import Backend
from embedopt.inference.encoder import CallPlan, Encoder, FloatArray, IntArray
from embedopt.line_process import LineProcess

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WORKER = Path(__file__).with_name("foreign_worker.py")
# Runs the file as a script, but keeps the project's folder first in sys.path, where ours would be.
_RUN_WORKER = f"import runpy; runpy.run_path({str(_WORKER)!r}, run_name='__main__')"
# To import and open a model, or to start a server, takes minutes on a slow machine.
START_S = 600.0
_FIRST_TEXT = "forklift driver, nights"
_SHOWN_CHARACTERS = 40


class ForeignEncoder(Encoder):
    """An encoder that a project declares: a call with several texts is one call of its code.

    Embeddings are as the code gives them, normalised or not.

    Args:
        backend: the declared row.
        folder: the run's model, whose tokenizer counts the tokens of texts.
    """

    def __init__(self, backend: Backend, folder: Path) -> None:
        self.name, self.dim = backend.name, 0
        self._folder = folder
        self.dim = self._encode([_FIRST_TEXT], None).shape[1]

    def files(self) -> dict[str, Any]:
        """Return the ``files`` that the code was imported from; empty where they are out of reach."""
        return {}

    @abstractmethod
    def _ask(self, texts: list[str]) -> FloatArray:
        """Return what the code answers for texts, unchecked."""

    @override
    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        return self._checked_answer(texts, self._ask(texts))

    def _checked_answer(self, texts: list[str], vectors: FloatArray) -> FloatArray:
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
        return self._encode([prompt + text for text in texts], batch_size)

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


def start_worker(backend: Backend, python: str = sys.executable) -> LineProcess:
    """Start ``foreign_worker.py`` in the project's folder, with an interpreter."""
    assert backend.project is not None
    hint = f"raise timeout_s of [tool.embedopt.targets.{backend.name}], or leave it out"
    return LineProcess(backend.name, [python, "-c", _RUN_WORKER], backend.project, hint=hint)


def source_folders(backend: Backend) -> list[str]:
    """Return the folders of a project from which its modules are imported."""
    assert backend.project is not None
    return [str(backend.project / str(backend.open_options["source"])), str(backend.project)]


def interpreter(project: Path, name: str) -> str:
    """Return the path of an interpreter: a path from the project's folder or a command; this one if empty.

    Links are not resolved: the python of a virtual environment is one, whose place selects the environment.

    Raises:
        MeasureError: it can't be run.
    """
    if not name:
        return sys.executable
    path = shutil.which(str(project / name)) or (shutil.which(name) if "/" not in name else None)
    if path is None:
        raise MeasureError(
            f"python = {name!r} can't be run in {project}; wanted an interpreter: make the project's "
            "environment, or correct the path"
        )
    return path
