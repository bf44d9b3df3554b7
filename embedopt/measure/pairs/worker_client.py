"""The driver's end of one worker: started, asked, and gone at the end, whatever happens.

Each answer has a deadline. A worker that dies, hangs or prints rubbish ends with one line that says so, and
with its whole process group killed.
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
from types import TracebackType
from typing import Any, Self

from embedopt.errors import MeasureError
from embedopt.measure.worker import PROTOCOL

WORKER = "embedopt.measure.worker"
# Loading may build an artifact, accuracy encodes the whole corpus: minutes on a slow machine.
LONG_S = 900.0
# A process that imports nothing but this package, and a call with one batch.
SHORT_S = 60.0
_LONG = frozenset({"load", "accuracy"})

# Left out, so that threads spin as briefly as OpenMP's default has it; a worker answers when they sleep.
# Threads that never spin are put to sleep within a call, and may wake two on one core: a call of torch-fp32
# with 32 texts took 96 to 172 ms with OMP_WAIT_POLICY=PASSIVE and GOMP_SPINCOUNT=0, 85 to 119 ms without.
_LEFT_OUT = frozenset({"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "PYTHONSAFEPATH"})
# A worker keeps the memory that a call has freed. By itself glibc learns as it runs which blocks to give back
# to the system at once, and what it learns is luck of the process: two processes of the same code, torch-fp32
# with 32 texts, differed by 6.0 % (standard deviation of 7 pairs), so by 0.7 % (mallopt(3)).
_KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # the largest that glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
_CHUNK_BYTES = 1 << 16


class ForeignWorkerError(MeasureError):
    """A side's code can't be driven by this one: nothing can be compared."""


class RefusedError(MeasureError):
    """A worker answered that it can't do what was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """Where a side's code is.

    Attributes:
        name: ``base`` or ``head``, in messages.
        root: the folder that holds its ``embedopt``.
        python: the interpreter that runs it.
    """

    name: str
    root: Path
    python: str


class WorkerClient:
    """One live worker; a context manager that leaves no process behind.

    Args:
        place: whose code it runs.
        short_s: seconds until the first line and the answer to a timed call are overdue.
        module: what is run, as ``python -m`` takes it.

    Raises:
        ForeignWorkerError: there is no worker, or it speaks another protocol.
        MeasureError: it died, hung or wrote rubbish.
    """

    def __init__(self, place: Checkout, short_s: float = SHORT_S, module: str = WORKER) -> None:
        # Looked for here: an editable install of another commit would serve its own for a missing one.
        if module == WORKER and not (place.root / WORKER.replace(".", "/")).with_suffix(".py").is_file():
            raise ForeignWorkerError(f"{place.name} has no {WORKER}: compare with a newer commit")
        self.place = place
        self._short_s = self._timeout_s = short_s
        self._pending = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the process
        self._process = subprocess.Popen(
            [place.python, "-m", module, str(time.monotonic())],
            cwd=place.root,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is the driver's, and a group of its own can be killed whole
        )
        try:
            self.backends = self._greeted(self._read(short_s))
        except BaseException:
            self.close()
            raise

    def _greeted(self, hello: dict[str, Any]) -> tuple[str, ...]:
        if hello.get("protocol") != PROTOCOL:
            raise ForeignWorkerError(
                f"{self.place.name} speaks protocol {hello.get('protocol')!r}, wanted {PROTOCOL}: "
                "compare with a newer commit"
            )
        if Path(hello["root"]) != self.place.root.resolve():
            raise ForeignWorkerError(
                f"{self.place.name} ran the code in {hello['root']}, wanted {self.place.root}: "
                f"uninstall embedopt from {self.place.python}, or unset PYTHONPATH"
            )
        return tuple(hello["backends"])

    def ask(self, do: str, **values: object) -> dict[str, Any]:
        """Send a request and return the answer; see :meth:`send` and :meth:`receive`."""
        self.send(do, **values)
        return self.receive()

    def send(self, do: str, **values: object) -> None:
        """Send a request whose answer :meth:`receive` returns.

        Raises:
            MeasureError: the worker is dead or hangs.
        """
        self._timeout_s = LONG_S if do in _LONG else self._short_s
        self._write({"do": do, **values}, self._timeout_s)

    def receive(self) -> dict[str, Any]:
        """Wait for the answer to what was sent.

        Raises:
            RefusedError: the worker says that it can't.
            MeasureError: it died, hung or wrote rubbish.
        """
        answer = self._read(self._timeout_s)
        if "error" in answer:
            raise RefusedError(f"{self.place.name}: {answer['error']}")
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
        return self._parsed(line)

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            values = json.loads(line)
        except ValueError:
            values = None
        if not isinstance(values, dict) or not {"protocol", "ok", "error"} & values.keys():
            shown = line[:60].decode(errors="replace")
            raise MeasureError(
                f"the worker of {self.place.name} wrote {shown!r}; wanted a line of JSON: "
                "does something in its environment print at the start of Python?"
            )
        return values

    def _overdue(self, timeout_s: float) -> MeasureError:
        return MeasureError(
            f"the worker of {self.place.name} gave no answer for {timeout_s:g} s; it was killed: "
            "try the same backend with pytest benchmarks/ on that commit"
        )

    def _dead(self) -> MeasureError:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "it said nothing"
        return MeasureError(f"the worker of {self.place.name} ended with {code}: {last}")

    def close(self) -> None:
        """Kill the worker and all that it started. Closing twice is harmless."""
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _environment() -> dict[str, str]:
    return {name: value for name, value in (_KEPT_MEMORY | os.environ).items() if name not in _LEFT_OUT}
