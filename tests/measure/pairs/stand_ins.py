"""Workers that tests control: a client that computes its times, and scripts that run as real processes."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil

from embedopt.measure.pairs.worker_client import Checkout, RefusedError, WorkerClient
from embedopt.measure.worker import pack
from tests.fakes import FakeClock

HELLO = '{"protocol": 1, "root": ROOT, "backends": ["torch-fp32", "fake"]}'
# A minimal worker; BODY answers the requests.
_SCRIPT = """
import json, os, sys, time
ROOT = json.dumps(os.getcwd())
print({hello!r}.replace("ROOT", ROOT), flush=True)
for line in sys.stdin:
    request = json.loads(line)
{body}
"""


class FakeClient(WorkerClient):
    """A client without a process: a call takes ``call_s`` plus its share of extra work, on a fake clock."""

    backends: tuple[str, ...] = ("torch-fp32", "fake")
    requests: tuple[str, ...] = ("load", "time", "accuracy", "vectors", "one_batch", "load_test")
    held_against_none: frozenset[str] = frozenset()
    defaults: dict[str, str] = {"default": "fake"}  # noqa: RUF012  # never changed

    def __init__(
        self, clock: FakeClock, call_s: float = 0.1, log: list[str] | None = None, name: str = ""
    ) -> None:
        self.clock = clock
        self.call_s = call_s
        self.load_s = 1.0
        self.scores: dict[str, float] = {"cosine_mean": 1.0}
        self.vectors = np.eye(3, dtype=np.float32)
        self.timed = np.eye(2, 3, dtype=np.float32)
        self.keeps_results = False
        self.refuses: str | None = None
        self.log = [] if log is None else log
        self.name = name
        self.texts: list[list[str]] = []
        self.closed = 0
        self.batch_sizes: list[int | None] = []
        self.idle_s = self.hidden_s = 0.0
        self.resident_bytes = self.peak_bytes = 100_000_000
        self.kept_bytes = 0
        self.others_share = self.machine_s = 0.0
        self.latencies_ms: list[float | None] = [10.0]
        self.rates_per_s: list[float] = []
        self._sent: tuple[str, dict[str, Any]] | None = None

    def ask(self, do: str, **values: Any) -> dict[str, Any]:
        self.send(do, **values)
        return self.receive()

    def send(self, do: str, **values: Any) -> None:
        self.log.append(f"{self.name} {do}")
        self._sent = do, values

    def receive(self) -> dict[str, Any]:
        assert self._sent is not None
        do, values = self._sent
        if self.refuses in (do, f"{do} {values.get('backend')}"):
            raise RefusedError(f"{self.name}: can't")
        if do == "load":
            self.clock.advance(self.load_s)
            return {"load_s": self.load_s, "disk_bytes": 1000}
        if do == "accuracy":
            return dict(self.scores)
        if do == "vectors":
            return pack(self.vectors)
        if do == "one_batch":
            return pack(self.vectors[: len(values["texts"])])
        if do == "files":
            return {}
        if do == "timed":
            return pack(self.timed)
        if do == "load_test":
            self.rates_per_s.append(values["rate_per_s"])
            seconds = len(values["texts"]) / values["rate_per_s"]
            self.waited_s = self.hidden_s + seconds
            self.clock.advance(seconds)
            return {"seconds": seconds, "latencies_ms": self.latencies_ms}
        is_kept = self.keeps_results and values["texts"] in self.texts
        self.texts.append(values["texts"])
        self.batch_sizes.append(values["batch_size"])
        self.resident_bytes += self.kept_bytes
        own_s = self.call_s * (0.1 if is_kept else 1.0)
        seconds = own_s * (1.0 + values["extra"])
        self.clock.advance(seconds)
        self.machine_s += self.others_share * seconds
        self.waited_s = self.idle_s + seconds
        return {"seconds": seconds, "own_s": own_s}

    def memory_bytes(self) -> tuple[int, int]:
        return self.resident_bytes, self.peak_bytes

    def cpu_s(self) -> tuple[float, float]:
        return self.machine_s, 0.0  # the machine's as the base sees it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed += 1


def has_group_ended(group: int) -> bool:
    """Say whether no process of a group is left; one that was just killed may take a moment to end."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == group:
                left.append(process)
    _, alive = psutil.wait_procs(left, timeout=10)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def make_checkout(folder: Path, body: str = "    pass", hello: str = HELLO) -> Checkout:
    """Write the module ``script`` into ``folder``, a worker whose answers ``body`` makes."""
    (folder / "script.py").write_text(_SCRIPT.format(hello=hello, body=body), encoding="utf8")
    return Checkout(name="head", root=folder, python=sys.executable)
