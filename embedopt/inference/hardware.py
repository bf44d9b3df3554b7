"""What hardware is this, as far as it decides which settings are the fastest?"""

from dataclasses import dataclass
from functools import cache

from embedopt.inference.threads import thread_count, usable_cores

# The instruction sets that pick a different kernel, by the name of the flag that shows each.
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
    """The CPU by its name, the instruction sets that pick a kernel, usable cores, and threads of a call."""

    cpu: str
    instruction_sets: tuple[str, ...]
    cores: int
    threads: int


def this_hardware() -> Hardware:
    """Describe the hardware as this process may use it. The first call takes some 0.2 s."""
    cpu, instruction_sets = _cpu()
    return Hardware(cpu=cpu, instruction_sets=instruction_sets, cores=usable_cores(), threads=thread_count())


@cache
def _cpu() -> tuple[str, tuple[str, ...]]:
    import cpuinfo

    info = cpuinfo.get_cpu_info()
    flags = set(info.get("flags", ()))
    return _cpu_name(info), tuple(name for flag, name in _INSTRUCTION_SETS.items() if flag in flags)


def _cpu_name(info: dict[str, object]) -> str:
    # A cloud's brand string may be as bare as "AMD EPYC": family and model tell its generations apart.
    name = str(info.get("brand_raw") or info.get("arch_string_raw") or "unknown CPU").strip()
    if "family" in info and "model" in info:
        return f"{name} (family {info['family']} model {info['model']})"
    return name
