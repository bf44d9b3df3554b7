"""What machine is this, as far as it decides a time or a score?"""

import platform
from functools import cache

import cpuinfo

from embedopt.inference.artifacts import library_versions
from embedopt.inference.spec import BACKENDS
from embedopt.inference.threads import thread_count, usable_cores
from embedopt.records import Machine

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


@cache
def this_machine() -> Machine:
    """Describe the machine that this process runs on."""
    info = cpuinfo.get_cpu_info()
    flags = set(info.get("flags", ()))
    return Machine(
        cpu=_cpu_name(info),
        instruction_sets=tuple(name for flag, name in _INSTRUCTION_SETS.items() if flag in flags),
        cores=usable_cores(),
        threads=thread_count(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        libraries=library_versions(_installed_peers()),
    )


def _installed_peers() -> list[str]:
    packages = {
        name for row in BACKENDS.values() for name in row.packages if name not in row.missing_packages
    }
    return sorted(packages)


def _cpu_name(info: dict[str, object]) -> str:
    # A cloud's brand string may be as bare as "AMD EPYC": family and model tell its generations apart.
    name = str(info.get("brand_raw") or info.get("arch_string_raw") or "unknown CPU").strip()
    if "family" in info and "model" in info:
        return f"{name} (family {info['family']} model {info['model']})"
    return name
