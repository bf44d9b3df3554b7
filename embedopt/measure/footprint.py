"""Size on disk, cold start and peak memory of a backend, measured in a process of its own.

``python -m embedopt.measure.footprint`` is that process. Records and psutil, which it does not need, are
imported by the functions that use them, so that only the backend is weighed.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from embedopt.errors import MeasureError, last_line
from embedopt.inference.artifacts.store import disk_bytes
from embedopt.inference.artifacts.weights import Weights
from embedopt.inference.backend import NO_MODEL, Backend
from embedopt.inference.backends import get_backend
from embedopt.inference.loading import open_encoder

if TYPE_CHECKING:
    from embedopt.records import Footprint

_TIMEOUT_S = 120
_PROCESSES = Path("/proc")


def measure_footprint(backend: Backend, folder: Path, weights: Weights, texts: Sequence[str]) -> "Footprint":
    """Open ``backend`` from ``folder`` in a fresh process and encode ``texts`` there.

    Raises:
        MeasureError: the process failed or hung.
    """
    from embedopt.records import Footprint

    if backend.project:
        return _declared_footprint(backend, folder, weights, texts)
    cold_start = _start_process(backend, folder, weights.trust_remote_code, texts)
    return Footprint(
        disk_bytes=disk_bytes(folder) if backend.build else weights.disk_bytes,
        load_s=cold_start["load_s"],
        peak_rss_bytes=int(cold_start["peak_rss_bytes"]),
    )


def _declared_footprint(
    backend: Backend, folder: Path, weights: Weights, texts: Sequence[str]
) -> "Footprint":
    """Measure the processes that a declared row starts; without any, there is nothing to measure."""
    from embedopt.records import Footprint

    started_s = time.monotonic()
    with open_encoder(backend, folder) as encoder:
        load_s = time.monotonic() - started_s
        encoder.encode(texts)
        processes = [] if encoder.pid is None else processes_of(encoder.pid)
        return Footprint(
            disk_bytes=None if backend.model == NO_MODEL else weights.disk_bytes,
            load_s=load_s if processes else None,
            peak_rss_bytes=sum(map(peak_rss_bytes, processes)) or None,
        )


def processes_of(pid: int) -> list[int]:
    """Return a process and all that it has started, by number."""
    import psutil

    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def resident_bytes(pid: int | None = None) -> int:
    """Return the resident memory of a process, or of this one."""
    import psutil

    return int(psutil.Process(pid).memory_info().rss)


def _start_process(
    backend: Backend, folder: Path, trust_remote_code: bool, texts: Sequence[str]
) -> dict[str, float]:
    settings = json.dumps([dict(backend.settings), dict(backend.throughput_settings)])
    arguments = (backend.name, settings, str(folder), json.dumps(trust_remote_code), str(time.monotonic()))
    does, content = f"opens {backend.name}", json.dumps(list(texts))
    return run_measurement(__name__, does, content, *arguments, timeout_s=_TIMEOUT_S)


def run_measurement(
    module: str, does: str, content: str, *arguments: str, timeout_s: float | None = None
) -> dict[str, float]:
    """Run a module of ours in a fresh process, and return the JSON that it prints.

    Args:
        module: name of the module.
        does: what the process does, for the error.
        content: its standard input.
        arguments: its arguments.
        timeout_s: seconds that it may take; None for any.

    Raises:
        MeasureError: the process failed or hung.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            input=content,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise MeasureError(
            f"the process that {does} took over {timeout_s} s; wanted a few seconds: is the disk busy?"
        ) from None
    except subprocess.CalledProcessError as error:
        ended = f"the process that {does} ended with {error.returncode}"
        raise MeasureError(f"{ended}: {last_line(error.stderr)}") from None
    values: dict[str, float] = json.loads(done.stdout)
    return values


def main(argv: list[str]) -> None:
    """Open a backend, encode the JSON list of texts on standard input, and print the measurements as JSON.

    Args:
        argv: backend, settings in latency and in throughput mode as JSON, folder of the artifact, whether the
            model's code may run as JSON, ``time.monotonic()`` at its start.
    """
    name, settings, folder, trust, started_s = argv
    latency, throughput = json.loads(settings)
    backend = replace(get_backend(name).with_settings(latency), throughput_settings=throughput)
    texts = json.load(sys.stdin)
    with open_encoder(backend, Path(folder), trust_remote_code=json.loads(trust)) as encoder:
        encoder.encode(texts[:1])
        load_s = time.monotonic() - float(started_s)
        encoder.encode(texts)
        print(json.dumps({"load_s": load_s, "peak_rss_bytes": peak_rss_bytes()}))


def peak_rss_bytes(pid: int | None = None) -> int:
    """Return the largest resident memory that a process, or this one, has had.

    Where there is no /proc, as on macOS, it is the memory that the process has now.
    """
    if not _PROCESSES.exists():
        return resident_bytes(pid)
    # Not getrusage: its maximum includes the memory of the process that forked this one.
    status = (_PROCESSES / str(pid or "self") / "status").read_text(encoding="utf8")
    [kilobytes] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(kilobytes)


if __name__ == "__main__":
    main(sys.argv[1:])
