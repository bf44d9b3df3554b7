"""Runs a team's own embedding code in its own interpreter, and times it there.

``foreign_process`` starts this file by its path in a process of the team's Python. It is written for Python
3.8 and newer, and imports the standard library alone, so its packages can't clash with the team's. Requests
come on standard input and answers go to standard output, each one line of JSON. What the code prints goes to
standard error.
"""

from __future__ import annotations

import array
import asyncio
import base64
import contextlib
import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Any, Callable, Iterator, Mapping, Sequence, TextIO

# Programs that run others elsewhere, where their files can't be seen.
_HIDING = frozenset({"docker", "docker-compose", "kubectl", "nerdctl", "podman", "podman-remote", "ssh"})
_WANTED = "wanted (n, dim) numbers, such as a numpy array or a list of lists"


class Target:
    """The code that embeds: ``call`` names a function, a class that is made once, or an object."""

    def __init__(self, call: str) -> None:
        self._children = Children()
        module_name, _, names = call.partition(":")
        value: Any = importlib.import_module(module_name)
        for name in names.split("."):
            value = getattr(value, name)
        if isinstance(value, type):
            value = value()
        self._embed: Callable[[Sequence[str]], Any] = getattr(value, "encode", value)
        if not callable(self._embed):
            raise TypeError(f"{call} is a {type(value).__name__}; wanted what can be called, or has encode()")
        self._module = module_name
        self._loop = asyncio.new_event_loop()

    def encode(self, texts: Sequence[str]) -> dict[str, Any]:
        """Return the embeddings of texts and the seconds that they took.

        An answer that is computed while it is read, as a coroutine's or a generator's, is timed to its end.
        """
        answer, seconds = timed(self._embed, texts)
        if inspect.isawaitable(answer):
            answer, more_s = timed(self._loop.run_until_complete, answer)
            seconds += more_s
        if hasattr(answer, "__next__"):
            answer, more_s = timed(list, answer)
            seconds += more_s
        return {"seconds": seconds, **pack(answer)}

    def files(self) -> dict[str, Any]:
        """Return the file of the named module, and the files that this and its child processes loaded."""
        files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
        del files["__main__"]  # this one
        imported = {os.path.realpath(file) for file in files.values() if file}
        return {"module": files[self._module], "files": sorted(imported | self._children.files())}


def timed(function: Callable[[Any], Any], argument: Any) -> tuple[Any, float]:
    """Return what a function returns, and the seconds that it took."""
    started_s = time.perf_counter()
    result = function(argument)
    return result, time.perf_counter() - started_s


def pack(answer: Any) -> dict[str, Any]:
    """Return ``(n, dim)`` numbers as JSON values: their shape, and the floats in base64.

    Raises:
        TypeError: they are not rows of numbers, all of one length.
    """
    if hasattr(answer, "detach"):  # a tensor of torch
        answer = answer.detach().cpu()
        with contextlib.suppress(RuntimeError, TypeError):  # without numpy, or a type that it lacks
            answer = answer.numpy()
    try:
        view = memoryview(answer)
        if view.format == "f" and view.shape and len(view.shape) == 2:
            return _packed(list(view.shape), view.tobytes())
    except (TypeError, ValueError, BufferError):  # no buffer, as a list
        pass
    shape, values = _flat(answer)
    return _packed(shape, values.tobytes())


def _flat(answer: Any) -> tuple[list[int], array.array[float]]:
    try:
        rows = [array.array("f", _plain(row)) for row in _plain(answer)]
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"the answer is a {type(answer).__name__}, {error}; {_WANTED}") from None
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise TypeError(f"the answer has rows of {lengths[0]} to {lengths[-1]} numbers; {_WANTED}")
    values = array.array("f")
    for row in rows:
        values.extend(row)
    return [len(rows), *lengths], values


def _plain(values: Any) -> Any:
    """Return an array of another library as plain values; anything else as it is."""
    if isinstance(values, (str, bytes, Mapping)):
        raise TypeError("which is no sequence of numbers")
    return values.tolist() if hasattr(values, "tolist") else values


def _packed(shape: Sequence[int], data: bytes) -> dict[str, Any]:
    if sys.byteorder == "big":
        swapped = array.array("f", data)
        swapped.byteswap()
        data = swapped.tobytes()
    return {"shape": shape, "float32": base64.b64encode(data).decode("ascii")}


def describe(error: BaseException) -> str:
    """Return an error of the code in one line, with the file and line that raised it where one is known."""
    message = (str(error).strip().splitlines() or ["no message"])[0]
    places = list(_places(error))
    return f"{type(error).__name__}: {message}" + (f" ({places[-1]})" if places else "")


def _places(error: BaseException) -> Iterator[str]:
    """Yield the lines of the project that the error passed through; where there are none, of other code."""
    folder = os.getcwd() + os.sep
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    frames = [(file, line) for file, line in frames if not file.startswith("<") and file != __file__]
    own = [(file, line) for file, line in frames if file.startswith(folder) and "site-packages" not in file]
    outside = [] if isinstance(error, (ImportError, SyntaxError)) else frames  # the machinery of import
    for file, line in own or outside:
        yield f"{file[len(folder) :] if file.startswith(folder) else file}:{line}"


class Server:
    """A server that a command starts; it writes to standard error, and ends with this process."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        os.environ.update(environment)  # PATH also decides where the command is looked for
        self._children = Children()
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def ended(self) -> dict[str, Any]:
        """Return the exit code of the command; None while it runs."""
        return {"code": self._process.poll()}

    def files(self) -> dict[str, Any]:
        """Return the files that its processes have imported, mapped, or got as an argument.

        Raises:
            RuntimeError: they can't be seen, see :class:`Children`.
        """
        return {"files": sorted(self._children.files())}


class Children:
    """The processes that this one starts from now on; they note what they import."""

    def __init__(self) -> None:
        self._notes = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as this process
        os.environ["EMBEDOPT_IMPORT_NOTES"] = f"/proc/{os.getpid()}/fd/{self._notes.fileno()}"
        paths = [os.path.join(os.path.dirname(__file__), "import_notes"), os.environ.get("PYTHONPATH")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))

    def files(self) -> set[str]:
        """Return the files that they have imported, mapped, or got as an argument.

        Raises:
            RuntimeError: one runs Python and does not note its imports, or runs others out of sight; or the
                system has no /proc.
        """
        noted = os.pread(self._notes.fileno(), os.fstat(self._notes.fileno()).st_size, 0).splitlines()
        files = {os.fsdecode(line) for line in noted if not line.startswith(b"auxv ")}
        for process in _group():
            program = os.path.basename(os.path.realpath(process + "/exe"))
            if program in _HIDING:
                raise RuntimeError(f"{program} hides the files that run: start the server itself")
            if program.startswith("python") and _mark_of(process) not in {None, *noted}:
                raise RuntimeError(
                    "the files that it imports can't be seen: start Python without -E and -I, and "
                    "child processes by spawn, not fork"
                )
            files.update(_files_of(process))
        return set(map(os.path.realpath, files))


def _group() -> list[str]:
    """Return the folders in /proc of the other processes in this one's group."""
    try:
        names = os.listdir("/proc")
    except FileNotFoundError:
        raise RuntimeError("which files ran is seen on Linux only: run the gate there") from None
    folders = []
    for name in names:
        with contextlib.suppress(ValueError, ProcessLookupError):
            if int(name) != os.getpid() and os.getpgid(int(name)) == os.getpgrp():
                folders.append("/proc/" + name)
    return folders


def _mark_of(process: str) -> bytes | None:
    """Return the line that a process adds to the notes before it notes imports; None where it has ended.

    Its forks have the same line. A process that goes on as another program has another line.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(process + "/auxv", "rb") as auxv:
        return b"auxv " + auxv.read().hex().encode()
    return None


def _files_of(process: str) -> set[str]:
    """Return the files that a process has mapped, as its program, and those that its arguments name."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        with open(process + "/maps", "rb") as maps:
            names = [os.fsdecode(line.split(None, 5)[5].rstrip(b"\n")) for line in maps if b" /" in line]
        with open(process + "/cmdline", "rb") as command:
            folder = os.readlink(process + "/cwd")
            names += [os.path.join(folder, os.fsdecode(part)) for part in command.read().split(b"\0") if part]
        return set(filter(os.path.isfile, names))
    return set()


def answer_to(opened: list[Any], request: dict[str, Any]) -> dict[str, Any]:
    """Carry out a request: ``open`` code or ``start`` a server first, then any method of what was opened."""
    do = request.pop("do")
    if do == "open":
        sys.path[:0] = request["folders"]
        opened.append(Target(request["call"]))
        return {"python": "{}.{}.{}".format(*sys.version_info)}
    if do == "start":
        opened.append(Server(**request))
        return {"pid": opened[0]._process.pid}
    result: dict[str, Any] = getattr(opened[0], do)(**request)
    return result


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer each line of ``requests`` with a line in ``answers``, until the requests end."""
    opened: list[Any] = []
    for line in requests:
        try:
            answer: dict[str, Any] = {"ok": answer_to(opened, json.loads(line))}
        except BaseException as error:  # SystemExit, too: whatever the code raises is its answer
            traceback.print_exc()
            answer = {"error": describe(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    """Answer the process that started this one until standard input ends, then end this process' group.

    Only answers reach standard output.
    """
    requests = os.fdopen(os.dup(0), encoding="utf8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf8")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    with requests, answers:
        serve(requests, answers)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
