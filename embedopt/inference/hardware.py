"""The CPU that this process runs on, and how many threads a call gets."""

import os
from dataclasses import dataclass
from functools import cache

from embedopt.inference.backend import Mode

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What decides which settings are the fastest.

    Attributes:
        cpu: model name.
        instruction_sets: those for which runtimes have kernels of their own.
        cores: number of cores that this process may use.
        threads: number of threads that a call uses.
    """

    cpu: str
    instruction_sets: tuple[str, ...]
    cores: int
    threads: int


def this_hardware() -> Hardware:
    """Describe the hardware as this process may use it. The first call takes about 0.2 s."""
    cpu, instruction_sets = _cpu()
    return Hardware(cpu=cpu, instruction_sets=instruction_sets, cores=usable_cores(), threads=thread_count())


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count() -> int:
    """Return ``OMP_NUM_THREADS``, which torch obeys too, or else the number of usable cores."""
    # OpenMP accepts a list with one number for each level of nesting; the first is ours.
    value = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(value) if value.isdecimal() and int(value) > 0 else usable_cores()


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
    # In a cloud the brand may be as bare as "AMD EPYC": family and model tell the generations apart.
    name = str(info.get("brand_raw") or info.get("arch_string_raw") or "unknown CPU").strip()
    if "family" in info and "model" in info:
        return f"{name} (family {info['family']} model {info['model']})"
    return name
