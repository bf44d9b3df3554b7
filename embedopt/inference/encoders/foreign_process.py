"""A function, class or object of a project, called in a process of the project's own interpreter."""

import base64
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from embedopt.errors import MeasureError
from embedopt.inference.backend import Backend
from embedopt.inference.encoder import FloatArray, closed_error
from embedopt.inference.foreign import START_S, ForeignEncoder, interpreter, source_folders, start_worker


class ForeignProcess(ForeignEncoder):
    """Calls a project's code in a process of its own interpreter.

    During a call of ``encode`` its ``clock`` runs only while the code does.

    Raises:
        MeasureError: the code can't be opened, or gives no embeddings.
    """

    def __init__(self, backend: Backend, folder: Path) -> None:
        assert backend.project is not None
        options = backend.open_options
        self._timeout_s = float(options["timeout_s"])
        self._outside_s = self._code_s = 0.0
        self._lock = threading.Lock()  # one call at a time: the process has one thread for them
        python = interpreter(backend.project, str(options.get("python", "")))
        self._process = start_worker(backend, python)
        self.pid = self._process.pid
        try:
            self._open(backend)
            super().__init__(backend, folder)
        except BaseException:
            self._process.close()
            raise

    def _open(self, backend: Backend) -> None:
        call = str(backend.open_options["call"])
        self._process.write({"do": "open", "call": call, "folders": source_folders(backend)}, START_S)
        answer = self._process.read(START_S)
        if "error" in answer:
            raise MeasureError(
                f"{backend.name} can't open {call}: {answer['error']}; wanted module:name of what embeds: "
                f"check call, python and source of [tool.embedopt.targets.{backend.name}]"
            )

    def clock(self) -> float:
        """Return seconds, without those in which texts and embeddings are checked and handed over."""
        return time.perf_counter() - self._outside_s

    @override
    def encode(
        self, texts: Sequence[str], batch_size: int | None = None, *, prompt: str | None = None
    ) -> FloatArray:
        # The checks of texts and embeddings are ours, and not part of the code's time either.
        started_s, code_s = time.perf_counter(), self._code_s
        vectors = super().encode(texts, batch_size, prompt=prompt)
        self._outside_s += (time.perf_counter() - started_s) - (self._code_s - code_s)
        return vectors

    @override
    def files(self) -> dict[str, Any]:
        """Return the file of the declared ``module``, and all ``files`` that its process has imported.

        Raises:
            MeasureError: those of a child process can't be seen.
        """
        try:
            return self._answer({"do": "files"})
        except _CodeError as error:
            raise MeasureError(f"{self.name} can't show its files: {error}") from None

    @override
    def _ask(self, texts: list[str]) -> FloatArray:
        try:
            answer = self._answer({"do": "encode", "texts": texts})
        except _CodeError as error:
            raise MeasureError(
                f"{self.name} failed on a list of {len(texts)} texts: {error}; wanted their embeddings: "
                f"mend it, or leave {self.name} out"
            ) from None
        values = np.frombuffer(base64.b64decode(answer["float32"]), dtype="<f4")
        vectors: FloatArray = values.reshape(answer["shape"])
        return vectors

    def _answer(self, request: dict[str, object]) -> dict[str, Any]:
        with self._lock:
            if self._closed:
                raise closed_error(self.name)
            self._process.write(request, self._timeout_s)
            answer = self._process.read(self._timeout_s)
            if "error" in answer:
                raise _CodeError(answer["error"])
            result: dict[str, Any] = answer["ok"]
            self._code_s += result.get("seconds", 0.0)
        return result

    @override
    def _release(self) -> None:
        with self._lock:
            self._process.close()


class _CodeError(Exception):
    """The project's code raised an error; the message describes it."""
