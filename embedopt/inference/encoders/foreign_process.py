"""A function, class or object of a project, called in a process of the project's own interpreter."""

import base64
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from embedopt.errors import MeasureError
from embedopt.inference.backend import Backend
from embedopt.inference.encoder import FloatArray, closed_error
from embedopt.inference.foreign import ForeignEncoder
from embedopt.line_process import LineProcess

_WORKER = Path(__file__).with_name("foreign_worker.py")
# As a file is run by its path, but for the first place of sys.path: it is the project's folder, not ours.
_START = f"import runpy; runpy.run_path({str(_WORKER)!r}, run_name='__main__')"
# A model is imported and opened: minutes on a slow machine.
_OPEN_S = 600.0


class ForeignProcess(ForeignEncoder):
    """Calls a project's code, of which ``clock`` tells the time.

    That clock stands still while texts and embeddings pass between the processes.

    Raises:
        MeasureError: the code can't be opened, or gives no embeddings.
    """

    def __init__(self, backend: Backend, folder: Path) -> None:
        assert backend.project is not None
        options = backend.open_options
        self._timeout_s = float(options.get("timeout_s", 60))
        self._outside_s = 0.0
        self._lock = threading.Lock()  # one call at a time: the process has one thread for them
        self._process = LineProcess(
            backend.name,
            [interpreter(backend.project, str(options.get("python", ""))), "-c", _START],
            backend.project,
            hint=f"raise timeout_s of [tool.embedopt.targets.{backend.name}], or leave it out",
        )
        self.pid = self._process.pid
        try:
            self._open(backend)
            super().__init__(backend, folder)
        except BaseException:
            self._process.close()
            raise

    def _open(self, backend: Backend) -> None:
        assert backend.project is not None
        call, source = str(backend.open_options["call"]), str(backend.open_options.get("source", "src"))
        folders = [str(backend.project / source), str(backend.project)]
        self._process.write({"do": "open", "call": call, "folders": folders}, _OPEN_S)
        answer = self._process.read(_OPEN_S)
        if "error" in answer:
            raise MeasureError(
                f"{backend.name} can't open {call}: {answer['error']}; wanted module:name of what embeds: "
                f"check call, python and source of [tool.embedopt.targets.{backend.name}]"
            )

    def clock(self) -> float:
        """Return seconds that pass while the project's code runs, and in this process."""
        return time.perf_counter() - self._outside_s

    def files(self) -> dict[str, Any]:
        """Return the file of the declared ``module``, all imported ``files``, and Python's ``prefix``."""
        return self._answer({"do": "files"})

    @override
    def _ask(self, texts: list[str]) -> FloatArray:
        try:
            answer = self._answer({"do": "encode", "texts": texts})
        except _CodeError as error:
            raise MeasureError(
                f"{self.name} failed on {len(texts)} texts: {error}; wanted their embeddings: mend it, or "
                f"leave {self.name} out"
            ) from None
        values = np.frombuffer(base64.b64decode(answer["float32"]), dtype="<f4")
        vectors: FloatArray = values.reshape(answer["shape"])
        return vectors

    def _answer(self, request: dict[str, object]) -> dict[str, Any]:
        with self._lock:
            if self._closed:
                raise closed_error(self.name)
            started_s = time.perf_counter()
            self._process.write(request, self._timeout_s)
            answer = self._process.read(self._timeout_s)
            if "error" in answer:
                raise _CodeError(answer["error"])
            result: dict[str, Any] = answer["ok"]
            self._outside_s += time.perf_counter() - started_s - result.get("seconds", 0.0)
        return result

    @override
    def _release(self) -> None:
        with self._lock:
            self._process.close()


class _CodeError(Exception):
    """The project's code raised an error, which is the message."""


def interpreter(project: Path, name: str) -> str:
    """Return the path of an interpreter: of this one without a name, a path from the project, or a command.

    Links are kept: the python of a virtual environment is one, and its place selects the environment.

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


def open_target(backend: Backend, folder: Path) -> ForeignProcess:
    """Open a declared row, see :class:`ForeignProcess`."""
    return ForeignProcess(backend, folder)
