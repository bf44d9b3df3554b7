"""A child process that answers lines of JSON: each answer has a deadline, and no process is left behind.

When it dies, hangs or writes rubbish, its whole process group is killed and an error says in one line what
happened.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from embedopt.errors import MeasureError, last_line

_CHUNK_BYTES = 1 << 16


class LineProcess:
    """Starts a command in a folder and speaks with it through its standard input and output.

    Args:
        name: what the process is, for messages.
        hint: what to do when it gives no answer.
        environment: environment variables; None for those of this process.

    Attributes:
        pid: number of the process, which leads a process group of its own.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        *,
        hint: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._name, self._hint = name, hint
        self._pending = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process, in close()
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is not for it, and its process group can be killed whole
        )
        self.pid = self._process.pid

    def write(self, values: Mapping[str, object], timeout_s: float) -> None:
        """Write a line.

        Raises:
            MeasureError: the process has died or hangs.
        """
        assert self._process.stdin is not None
        pipe, deadline_s = self._process.stdin.fileno(), time.monotonic() + timeout_s
        os.set_blocking(pipe, False)
        data = memoryview(json.dumps(values).encode() + b"\n")
        try:
            while data:
                if not select.select([], [pipe], [], max(0.0, deadline_s - time.monotonic()))[1]:
                    raise self._overdue(timeout_s)
                data = data[os.write(pipe, data[:_CHUNK_BYTES]) :]
        except BrokenPipeError:
            raise self._dead() from None

    def read(self, timeout_s: float) -> dict[str, Any]:
        """Wait for a line: an object with ``ok``, ``error`` or ``protocol``.

        Raises:
            MeasureError: the process died, hung or wrote rubbish.
        """
        assert self._process.stdout is not None
        pipe, deadline_s = self._process.stdout.fileno(), time.monotonic() + timeout_s
        chunks = [self._pending]
        while b"\n" not in chunks[-1]:
            if not select.select([pipe], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
                raise self._overdue(timeout_s)
            chunks.append(os.read(pipe, _CHUNK_BYTES))
            if not chunks[-1]:
                raise self._dead()
        line, _, self._pending = b"".join(chunks).partition(b"\n")
        return self._parse(line)

    def _parse(self, line: bytes) -> dict[str, Any]:
        try:
            values = json.loads(line)
        except ValueError:
            values = None
        if not isinstance(values, dict) or not {"protocol", "ok", "error"} & values.keys():
            shown = line[:60].decode(errors="replace")
            raise MeasureError(
                f"{self._name} wrote {shown!r}; wanted a line of JSON: "
                "does something in its environment print at the start of Python?"
            )
        return values

    def _overdue(self, timeout_s: float) -> MeasureError:
        self.kill()
        return MeasureError(f"{self._name} gave no answer for {timeout_s:g} s; it was killed: {self._hint}")

    def _dead(self) -> MeasureError:
        code = self._process.wait()
        return MeasureError(f"{self._name} ended with {code}: {self.last_error()}")

    def last_error(self) -> str:
        """Return the last line that the process, or one that it started, wrote to standard error."""
        written = os.pread(self._errors.fileno(), os.fstat(self._errors.fileno()).st_size, 0)
        return last_line(written.decode(errors="replace"))

    def kill(self) -> None:
        """Kill the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Kill the process group; closing it again does nothing."""
        self.kill()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
