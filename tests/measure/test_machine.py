"""A machine is described by what decides a time or a score."""

import importlib.metadata
from typing import Any

import cpuinfo
import pytest

from embedopt.inference import hardware
from embedopt.measure.machine import this_machine


@pytest.fixture(autouse=True)
def _empty_caches() -> None:
    this_machine.cache_clear()
    hardware._cpu.cache_clear()


def _pretend(monkeypatch: pytest.MonkeyPatch, **info: Any) -> None:
    monkeypatch.setattr(cpuinfo, "get_cpu_info", lambda: info)
    monkeypatch.setattr(hardware, "usable_cores", lambda: 4)
    monkeypatch.setattr(hardware, "logical_cores", lambda: 8)


def test_instruction_sets_are_those_that_select_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")
    flags = ["fpu", "avx2", "avx512f", "avx512_vnni", "amx_tile"]
    _pretend(monkeypatch, brand_raw="AMD EPYC", family=25, model=17, flags=flags)
    assert this_machine().hardware_class == (
        "AMD EPYC (family 25 model 17) | avx2+avx512+vnni+amx | 8 cores | 3 threads"
    )


def test_a_cpu_without_name_and_flags_has_its_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    _pretend(monkeypatch, arch_string_raw="aarch64")
    assert this_machine().hardware_class == "aarch64 | none | 8 cores | 4 threads"


def test_a_quota_is_part_of_the_hardware_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    _pretend(monkeypatch, arch_string_raw="aarch64")
    monkeypatch.setattr(hardware, "usable_cores", lambda: 1)
    monkeypatch.setattr(hardware, "cpu_quota", lambda: 0.5)
    assert this_machine().hardware_class == "aarch64 | none | 8 cores | quota 0.5 | 1 threads"


def test_a_machine_names_the_versions_of_its_libraries() -> None:
    assert this_machine().libraries["onnxruntime"] == importlib.metadata.version("onnxruntime")
