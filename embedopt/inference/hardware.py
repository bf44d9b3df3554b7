"""The CPU that this process runs on, and how many threads a call gets."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from embedopt.inference.backend import Backend, Mode

# Instruction sets for which runtimes have kernels of their own, by CPU flag.
_INSTRUCTION_SETS = {
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "vnni",
    "avx_vnni": "avx-vnni",
    "avx512_bf16": "bf16",
    "amx_tile": "amx",
    "asimd": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "sve": "sve",
}

_SPINNING = "session.intra_op.allow_spinning"
_GROUPS, _GROUP_ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# Quota and period, in control groups of version 2 and 1.
_QUOTA_FILES = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What decides which settings are the fastest.

    Attributes:
        cpu: model name.
        instruction_sets: those for which runtimes have kernels of their own.
        cores: number of logical cores that this process may run on.
        quota: cores whose time its control groups grant; None without a limit below ``cores``.
        threads: number of threads that a call uses.
    """

    cpu: str
    instruction_sets: tuple[str, ...]
    cores: int
    quota: float | None = None
    threads: int


def has_vnni(instruction_sets: Sequence[str]) -> bool:
    """Return whether the CPU has VNNI, which adds 8-bit products exactly; x86 without it saturates."""
    return any(name.endswith("vnni") for name in instruction_sets)


def this_hardware() -> Hardware:
    """Describe the hardware as this process may use it. The first call takes about 0.2 s."""
    cpu, instruction_sets = _cpu()
    return Hardware(
        cpu=cpu,
        instruction_sets=instruction_sets,
        cores=logical_cores(),
        quota=cpu_quota(),
        threads=thread_count(),
    )


def usable_cores() -> int:
    """Return the number of physical cores whose time this process may use."""
    import loky

    cores: int = loky.cpu_count(only_physical_cores=True)
    return min(cores, math.ceil(cpu_quota() or cores))


def cpu_quota() -> float | None:
    """Return the cores whose time the control groups grant; None without a limit below the logical cores."""
    groups = _GROUPS.read_text(encoding="utf8") if _GROUPS.exists() else ""
    quota = min(_quotas(groups, _GROUP_ROOT), default=math.inf)
    return quota if quota < logical_cores() else None


def _quotas(groups: str, root: Path) -> Iterator[float]:
    """Yield the quotas of the control groups in ``/proc/self/cgroup``, and of the groups above them."""
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        mount = root / controllers  # none are named in version 2
        own = mount / path.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(mount):
                yield from _quota_of(folder)


def _quota_of(group: Path) -> Iterator[float]:
    for names in _QUOTA_FILES:
        files = [group / name for name in names]
        if all(file.exists() for file in files):
            quota, period = " ".join(file.read_text(encoding="utf8") for file in files).split()
            if quota.isdecimal():  # else "max" or -1
                yield int(quota) / int(period)


def fitted(backend: Backend) -> Backend:
    """Return the row; under a CPU quota without spinning threads, which would use it up."""
    if cpu_quota() is None or _SPINNING not in backend.settings:
        return backend
    return backend.with_settings({_SPINNING: "0"})


def limit_tokenizer_threads() -> None:
    """Let the tokenizers library, before its first use, start no more threads than a call gets."""
    os.environ.setdefault("RAYON_NUM_THREADS", str(thread_count()))


def logical_cores() -> int:
    """Return the number of logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count() -> int:
    """Return ``OMP_NUM_THREADS``, which torch obeys too, or else the cores, but at most the limit below."""
    threads = _openmp_number("OMP_NUM_THREADS") or usable_cores()
    return min(threads, openmp_limit() or threads)


def openmp_limit() -> int | None:
    """Return ``OMP_THREAD_LIMIT``, beyond which OpenMP starts no threads, whatever it is asked for."""
    return _openmp_number("OMP_THREAD_LIMIT")


def _openmp_number(variable: str) -> int | None:
    # OpenMP accepts a list with one number for each level of nesting; the first is ours.
    value = os.environ.get(variable, "").split(",")[0].strip()
    return int(value) if value.isdecimal() and int(value) > 0 else None


def replicas_and_threads(mode: Mode) -> tuple[int, int]:
    """Return how many replicas of a model a mode has, and how many threads each replica uses."""
    threads = thread_count()
    return (1, threads) if mode == "latency" else (min(threads, usable_cores()), 1)


@cache
def _cpu() -> tuple[str, tuple[str, ...]]:
    import cpuinfo

    info = cpuinfo.get_cpu_info()
    flags = set(info.get("flags", ()))
    return _cpu_name(info), tuple(name for flag, name in _INSTRUCTION_SETS.items() if flag in flags)


def _cpu_name(info: dict[str, object]) -> str:
    # In a cloud the brand may be just "AMD EPYC": family and model show the generation.
    name = str(info.get("brand_raw") or info.get("arch_string_raw") or "unknown CPU").strip()
    if "family" in info and "model" in info:
        return f"{name} (family {info['family']} model {info['model']})"
    return name
