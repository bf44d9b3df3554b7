"""Client of one worker process: starts it, sends it requests, and kills it at the end, whatever happens.

Each answer has a deadline. When a worker dies, hangs or prints rubbish, its whole process group is killed and
an error says in one line what happened.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from embedopt.errors import MeasureError, last_line
from embedopt.measure.worker import PROTOCOL

WORKER = "embedopt.measure.worker"
# "load" may build an artifact and "accuracy" encodes the whole corpus: minutes on a slow machine.
LONG_S = 900.0
# Enough to start a process that imports this package only, and for a call with one batch.
SHORT_S = 60.0
_LONG = frozenset({"load", "accuracy", "vectors"})

# Environment variables that a worker does not get. Without the first three, threads spin as briefly as OpenMP
# makes them by default, and a worker answers once they sleep. Threads that never spin fall asleep within a
# call, and two of them may wake on one core: a call of torch-fp32 with 32 texts took 96 to 172 ms with
# OMP_WAIT_POLICY=PASSIVE and GOMP_SPINCOUNT=0, 85 to 119 ms without. With PYTHONSAFEPATH, Python would not
# import the checkout that a worker runs in.
_LEFT_OUT = frozenset({"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "PYTHONSAFEPATH"})
# Make a worker keep the memory that a call has freed. By default glibc adapts, as it runs, which freed blocks
# it returns to the system at once (mallopt(3)), and the outcome differs by chance: two processes of the same
# code, torch-fp32 with 32 texts, differed by 6.0 % (standard deviation of 7 pairs), with these by 0.7 %.
_KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # the largest that glibc accepts
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
_CHUNK_BYTES = 1 << 16


class ForeignWorkerError(MeasureError):
    """The worker of another checkout is missing or speaks another protocol: nothing can be compared."""


class RefusedError(MeasureError):
    """A worker answered a request with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """The code of base or head.

    Attributes:
        name: ``base`` or ``head``, for messages.
    """

    name: str
    root: Path
    python: str


class WorkerClient:
    """Client of one live worker; a context manager that leaves no process behind.

    The first line and the answer to a timed call are overdue after ``short_s`` seconds.

    Raises:
        ForeignWorkerError: the checkout has no worker, or one with another protocol.
        MeasureError: the worker died, hung or wrote rubbish.
    """

    def __init__(self, checkout: Checkout, short_s: float = SHORT_S, module: str = WORKER) -> None:
        # Where the file is missing, python -m would run the worker of an editable install of another commit.
        if module == WORKER and not (checkout.root / WORKER.replace(".", "/")).with_suffix(".py").is_file():
            raise ForeignWorkerError(f"{checkout.name} has no {WORKER}: compare with a newer commit")
        self._checkout = checkout
        self._short_s = self._timeout_s = short_s
        self._pending = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process, in close()
        self._process = subprocess.Popen(
            [checkout.python, "-m", module, str(time.monotonic())],
            cwd=checkout.root,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is not for it, and its process group can be killed whole
        )
        try:
            hello = self._read(short_s)
            self.backends = self._check_hello(hello)
            # Workers before this field answer the first three only.
            self.requests: tuple[str, ...] = tuple(hello.get("requests", ("load", "time", "accuracy")))
        except BaseException:
            self.close()
            raise

    def _check_hello(self, hello: dict[str, Any]) -> tuple[str, ...]:
        if hello.get("protocol") != PROTOCOL:
            raise ForeignWorkerError(
                f"{self._checkout.name} speaks protocol {hello.get('protocol')!r}, wanted {PROTOCOL}: "
                "compare with a newer commit"
            )
        if Path(hello["root"]) != self._checkout.root.resolve():
            raise ForeignWorkerError(
                f"{self._checkout.name} ran the code in {hello['root']}, wanted {self._checkout.root}: "
                f"uninstall embedopt from {self._checkout.python}, or unset PYTHONPATH"
            )
        return tuple(hello["backends"])

    def ask(self, do: str, **values: object) -> dict[str, Any]:
        """Send a request and return the answer; see :meth:`send` and :meth:`receive`."""
        self.send(do, **values)
        return self.receive()

    def send(self, do: str, **values: object) -> None:
        """Send a request whose answer :meth:`receive` returns.

        Raises:
            MeasureError: the worker has died or hangs.
        """
        self._timeout_s = LONG_S if do in _LONG else self._short_s
        self._write({"do": do, **values}, self._timeout_s)

    def receive(self) -> dict[str, Any]:
        """Wait for the answer to the request that was sent.

        Raises:
            RefusedError: the worker answered with an error.
            MeasureError: the worker died, hung or wrote rubbish.
        """
        answer = self._read(self._timeout_s)
        if "error" in answer:
            raise RefusedError(f"{self._checkout.name}: {answer['error']}")
        result: dict[str, Any] = answer["ok"]
        return result

    def _write(self, values: dict[str, object], timeout_s: float) -> None:
        assert self._process.stdin is not None
        pipe, deadline_s = self._process.stdin.fileno(), time.monotonic() + timeout_s
        os.set_blocking(pipe, False)
        data = json.dumps(values).encode() + b"\n"
        try:
            while data:
                if not select.select([], [pipe], [], max(0.0, deadline_s - time.monotonic()))[1]:
                    raise self._overdue(timeout_s)
                data = data[os.write(pipe, data[:_CHUNK_BYTES]) :]
        except BrokenPipeError:
            raise self._dead() from None

    def _read(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        pipe, deadline_s = self._process.stdout.fileno(), time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            if not select.select([pipe], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
                raise self._overdue(timeout_s)
            chunk = os.read(pipe, _CHUNK_BYTES)
            if not chunk:
                raise self._dead()
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return self._parse(line)

    def _parse(self, line: bytes) -> dict[str, Any]:
        try:
            values = json.loads(line)
        except ValueError:
            values = None
        if not isinstance(values, dict) or not {"protocol", "ok", "error"} & values.keys():
            shown = line[:60].decode(errors="replace")
            raise MeasureError(
                f"the worker of {self._checkout.name} wrote {shown!r}; wanted a line of JSON: "
                "does something in its environment print at the start of Python?"
            )
        return values

    def _overdue(self, timeout_s: float) -> MeasureError:
        return MeasureError(
            f"the worker of {self._checkout.name} gave no answer for {timeout_s:g} s; it was killed: "
            "try the same backend with pytest benchmarks/ on that commit"
        )

    def _dead(self) -> MeasureError:
        code = self._process.wait()
        self._errors.seek(0)
        last = last_line(self._errors.read().decode(errors="replace"))
        return MeasureError(f"the worker of {self._checkout.name} ended with {code}: {last}")

    def close(self) -> None:
        """Kill the worker and all that it started; closing it again does nothing."""
        with contextlib.suppress(ProcessLookupError):  # the worker has ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _environment() -> dict[str, str]:
    return {name: value for name, value in (_KEPT_MEMORY | os.environ).items() if name not in _LEFT_OUT}
