"""Hardware is described by what decides which settings are the fastest."""

from typing import Any

import cpuinfo
import pytest

from embedopt.inference import hardware
from embedopt.inference.hardware import Hardware, this_hardware


def test_the_cpu_is_read_once_and_the_threads_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def read_cpu() -> dict[str, Any]:
        reads.append(1)
        return {"brand_raw": "Test CPU", "flags": ["avx2", "fpu"]}

    hardware._cpu.cache_clear()
    monkeypatch.setattr(cpuinfo, "get_cpu_info", read_cpu)
    monkeypatch.setattr(hardware, "usable_cores", lambda: 4)
    descriptions = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        descriptions.append(this_hardware())
    hardware._cpu.cache_clear()
    assert descriptions == [
        Hardware(cpu="Test CPU", instruction_sets=("avx2",), cores=4, threads=threads) for threads in (1, 3)
    ]
    assert reads == [1]


@pytest.mark.parametrize(
    ("value", "expected"), [("3", 3), ("2,1", 2), (" 6 ", 6), ("", 4), ("0", 4), ("many", 4)]
)
def test_threads_are_those_of_openmp_or_one_for_each_core(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    monkeypatch.setattr(hardware, "usable_cores", lambda: 4)
    assert hardware.thread_count() == expected


@pytest.mark.parametrize(
    ("threads", "latency", "throughput"),
    [("3", (1, 3), (3, 1)), ("8", (1, 8), (4, 1)), ("1", (1, 1), (1, 1))],
)
def test_throughput_has_a_replica_for_each_thread_but_no_more_than_cores(
    monkeypatch: pytest.MonkeyPatch, threads: str, latency: tuple[int, int], throughput: tuple[int, int]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr(hardware, "usable_cores", lambda: 4)
    assert hardware.replicas_and_threads("latency") == latency
    assert hardware.replicas_and_threads("throughput") == throughput
