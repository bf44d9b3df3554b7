"""What does it weigh? Disk, memory and cold start, in a process of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from embedopt.errors import MeasureError
from embedopt.inference.artifacts.store import disk_bytes
from embedopt.inference.artifacts.weights import Weights
from embedopt.inference.backends import Backend
from embedopt.records import Footprint

_TIMEOUT_S = 120


def measure_footprint(backend: Backend, folder: Path, weights: Weights, texts: Sequence[str]) -> Footprint:
    """Load ``backend`` from ``folder`` in a fresh process and encode ``texts`` there.

    Raises:
        MeasureError: the process failed or hung. It reads its peak memory from /proc: Linux only.
    """
    start = _cold_start(backend, folder, texts)
    return Footprint(
        disk_bytes=disk_bytes(folder) if backend.build else weights.disk_bytes,
        load_s=start["load_s"],
        peak_rss_bytes=int(start["peak_rss_bytes"]),
    )


def resident_bytes() -> int:
    """Return this process's resident memory."""
    return int(psutil.Process().memory_info().rss)


def _cold_start(backend: Backend, folder: Path, texts: Sequence[str]) -> dict[str, float]:
    settings = json.dumps(dict(backend.settings))
    command = [sys.executable, "-m", "embedopt.measure.cold_start", backend.name, settings, str(folder)]
    try:
        done = subprocess.run(
            [*command, str(time.monotonic())],
            input=json.dumps(list(texts)),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise MeasureError(
            f"loading {backend.name} took over {_TIMEOUT_S} s; wanted seconds: is the disk busy?"
        ) from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise MeasureError(
            f"the process that loads {backend.name} ended with {error.returncode}: {last}"
        ) from None
    values: dict[str, float] = json.loads(done.stdout)
    return values
