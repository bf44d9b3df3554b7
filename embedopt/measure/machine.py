"""The properties of this machine that affect times and scores."""

import dataclasses
import platform
from functools import cache

from embedopt.conditions import Machine
from embedopt.inference.artifacts.store import library_versions
from embedopt.inference.backends import BACKENDS
from embedopt.inference.hardware import this_hardware


@cache
def this_machine() -> Machine:
    """Describe the machine that this process runs on."""
    peers = {name for row in BACKENDS.values() for name in row.packages if name not in row.missing_packages}
    return Machine(
        **dataclasses.asdict(this_hardware()),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        libraries=library_versions(sorted(peers)),
    )
