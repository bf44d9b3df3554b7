"""The hardware is described by what decides which setting is the fastest."""

from typing import Any

import cpuinfo
import pytest

from embedopt.inference import hardware
from embedopt.inference.hardware import Hardware, this_hardware


def test_the_cpu_is_looked_at_once_and_the_threads_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def look() -> dict[str, Any]:
        looks.append(1)
        return {"brand_raw": "Test CPU", "flags": ["avx2", "fpu"]}

    hardware._cpu.cache_clear()
    monkeypatch.setattr(cpuinfo, "get_cpu_info", look)
    monkeypatch.setattr(hardware, "usable_cores", lambda: 4)
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(this_hardware())
    hardware._cpu.cache_clear()
    assert found == [
        Hardware(cpu="Test CPU", instruction_sets=("avx2",), cores=4, threads=threads) for threads in (1, 3)
    ]
    assert looks == [1]
