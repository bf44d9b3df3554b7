"""Notes the file of each module that a target's server or child process imports.

``foreign_worker`` puts this folder first in PYTHONPATH: each Python that it starts, of version 3.8 or newer,
imports this file before all others. Nothing of ours runs once a module is imported.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from typing import Any


def _note(notes: str, line: bytes) -> None:
    """Append to the file of this name, which is opened each time: a server may close what it inherits."""
    descriptor = os.open(notes, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, line + b"\n")
    finally:
        os.close(descriptor)


def _note_imports(notes: str, loader: Any) -> None:
    get_code = loader.get_code

    def noting(self: Any, name: str) -> Any:
        with contextlib.suppress(FileNotFoundError):  # the reader has ended
            _note(notes, os.fsencode(self.path))
        return get_code(self, name)

    loader.get_code = noting


def main() -> None:
    """Note imports from now on, then import the environment's own module of this name.

    If the notes can't be written, ``foreign_worker`` says that imports can't be seen.
    """
    with contextlib.suppress(OSError):
        notes = os.environ["EMBEDOPT_IMPORT_NOTES"]
        with open("/proc/self/auxv", "rb") as auxv:  # of this program: others have other addresses in it
            _note(notes, b"auxv " + auxv.read().hex().encode())
        for loader in (SourceFileLoader, SourcelessFileLoader):
            _note_imports(notes, loader)
    own = sys.modules.pop("sitecustomize")
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != folder]
    with contextlib.suppress(ImportError):
        importlib.import_module("sitecustomize")  # the environment's own
    sys.modules.setdefault("sitecustomize", own)


main()
