"""Client of one worker process: starts it, sends it requests, and kills it at the end, whatever happens."""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from embedopt.errors import MeasureError
from embedopt.line_process import LineProcess
from embedopt.measure.footprint import peak_rss_bytes, processes_of, resident_bytes
from embedopt.measure.worker import PROTOCOL

if TYPE_CHECKING:
    from psutil import Process

WORKER = "embedopt.measure.worker"
# "load" may build an artifact, "accuracy" encodes the whole corpus, and "load_test" sends at the backend's
# own rate: minutes on a slow machine.
LONG_S = 900.0
# Enough to start a process that imports this package only, and for a call with the 64 texts of "many texts"
# to a model that encodes one text in two seconds.
SHORT_S = 300.0
_LONG = frozenset({"load", "accuracy", "vectors", "one_batch", "load_test"})

# Environment variables that a worker does not get. Without the first three, threads spin as briefly as OpenMP
# makes them by default, and a worker answers once they sleep. Threads that never spin fall asleep within a
# call, and two of them may wake on one core: a call of torch-fp32 with 32 texts took 96 to 172 ms with
# OMP_WAIT_POLICY=PASSIVE and GOMP_SPINCOUNT=0, 85 to 119 ms without. With PYTHONSAFEPATH, Python would not
# import the checkout that a worker runs in. With PYTHONDONTWRITEBYTECODE, a fresh checkout is compiled at
# each start, and one that was used before is not: the base of identical code took 3 % more memory to open.
_LEFT_OUT = frozenset(
    {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE"}
)
# Make a worker keep the memory that a call has freed. By default glibc adapts, as it runs, which freed blocks
# it returns to the system at once (mallopt(3)), and the outcome differs by chance: two processes of the same
# code, torch-fp32 with 32 texts, differed by 6.0 % (standard deviation of 7 pairs), with these by 0.7 %.
_KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # the largest that glibc accepts
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


class ForeignWorkerError(MeasureError):
    """The worker of another checkout is missing or speaks another protocol: nothing can be compared."""


class RefusedError(MeasureError):
    """A worker answered a request with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """The code of base or head.

    Attributes:
        name: ``base`` or ``head``, for messages.
        root: folder of the project that is measured.
        installed: whether the project holds no embedopt, so that the installed one measures it.
    """

    name: str
    root: Path
    python: str
    installed: bool = False


class WorkerClient:
    """Client of one live worker; a context manager that leaves no process behind.

    The first line and the answer to a timed call are overdue after ``short_s`` seconds.

    Attributes:
        waited_s: seconds from sending the last request to receiving its answer.

    Raises:
        ForeignWorkerError: the checkout has no worker, or one with another protocol.
        MeasureError: the worker died, hung or wrote rubbish.
    """

    def __init__(self, checkout: Checkout, short_s: float = SHORT_S, module: str = WORKER) -> None:
        # Where the file is missing, python -m would run the worker of an editable install of another commit.
        is_own = module == WORKER and not checkout.installed
        if is_own and not (checkout.root / WORKER.replace(".", "/")).with_suffix(".py").is_file():
            raise ForeignWorkerError(f"{checkout.name} has no {WORKER}: compare with a newer commit")
        self._checkout = checkout
        self._short_s = self._timeout_s = short_s
        self._sent_s = self.waited_s = 0.0
        self._members: set[Process] = set()
        # With -P, none of the project's own modules can stand in for one that embedopt imports.
        safe = ["-P"] if checkout.installed else []
        self._process = LineProcess(
            f"the worker of {checkout.name}",
            [checkout.python, *safe, "-m", module, str(time.monotonic())],
            checkout.root,
            hint="try the same backend with pytest benchmarks/ on that commit",
            environment=_environment(),
        )
        try:
            hello = self._process.read(short_s)
            self.backends = self._check_hello(hello)
            # An older worker, which lacks these fields, has no such backends, names no defaults and answers
            # the first three requests only.
            self.held_against_none = frozenset(hello.get("held_against_none", ()))
            self.defaults: dict[str, str] = hello.get("defaults", {})
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
        if not self._checkout.installed and Path(hello["root"]) != self._checkout.root.resolve():
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
        self._sent_s = time.perf_counter()
        self._process.write({"do": do, **values}, self._timeout_s)

    def receive(self) -> dict[str, Any]:
        """Wait for the answer to the request that was sent.

        Raises:
            RefusedError: the worker answered with an error.
            MeasureError: the worker died, hung or wrote rubbish.
        """
        answer = self._process.read(self._timeout_s)
        self.waited_s = time.perf_counter() - self._sent_s
        if "error" in answer:
            raise RefusedError(f"{self._checkout.name}: {answer['error']}")
        result: dict[str, Any] = answer["ok"]
        return result

    def memory_bytes(self) -> tuple[int, int]:
        """Return the resident memory of the worker and all that it started, and its largest so far."""
        processes = processes_of(self._process.pid)
        return sum(map(resident_bytes, processes)), sum(map(peak_rss_bytes, processes))

    def cpu_s(self) -> tuple[float, float]:
        """Return the CPU seconds so far of the whole machine, stolen ones too, and of the worker.

        The worker's include those of all processes that it has started, ended ones too.
        """
        import psutil  # the command line imports this module where psutil is missing

        for pid in processes_of(self._process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                self._members.add(psutil.Process(pid))
        self._members = {member for member in self._members if member.is_running()}
        times = psutil.cpu_times()
        idle_s = times.idle + getattr(times, "iowait", 0.0)
        # Linux counts the time of guests in that of users, too.
        guests_s = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        own_s = 0.0
        for member in self._members:
            with contextlib.suppress(psutil.NoSuchProcess):
                # Its own, and those of its children that have ended.
                own_s += sum(member.cpu_times()[:4])
        return sum(times) - idle_s - guests_s, own_s

    def close(self) -> None:
        """Kill the worker and all that it started; closing it again does nothing."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _environment() -> dict[str, str]:
    return {name: value for name, value in (_KEPT_MEMORY | os.environ).items() if name not in _LEFT_OUT}
