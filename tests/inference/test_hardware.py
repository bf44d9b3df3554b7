"""Hardware is described by what decides which settings are the fastest."""

import os
from pathlib import Path
from typing import Any

import cpuinfo
import loky
import pytest

from embedopt.inference import hardware
from embedopt.inference.backends import BACKENDS
from embedopt.inference.hardware import Hardware, this_hardware


def test_the_cpu_is_read_once_and_the_threads_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def read_cpu() -> dict[str, Any]:
        reads.append(1)
        return {"brand_raw": "Test CPU", "flags": ["avx2", "fpu"]}

    hardware._cpu.cache_clear()
    monkeypatch.setattr(cpuinfo, "get_cpu_info", read_cpu)
    monkeypatch.setattr(hardware, "logical_cores", lambda: 4)
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


@pytest.mark.parametrize(("limit", "expected"), [("1", 1), ("3", 3), ("9", 4), ("0", 4), ("", 4)])
def test_threads_are_no_more_than_openmp_starts(
    monkeypatch: pytest.MonkeyPatch, limit: str, expected: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setenv("OMP_THREAD_LIMIT", limit)
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


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "400000 100000"}, None),  # all four cores
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, 1.5),
        (
            "0::/moved",
            {"cpu.max": "300000 100000"},
            3.0,
        ),  # the path of the host
        ("3:cpu,cpuacct:/", {"cpu,cpuacct/cpu.cfs_quota_us": "-1"}, None),
        (
            "4:memory:/a\n3:cpu,cpuacct:/a",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "200000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            2.0,
        ),
    ],
)
def test_the_quota_is_the_lowest_of_the_control_groups(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    groups: str,
    files: dict[str, str],
    expected: float | None,
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n", encoding="utf8")
    (tmp_path / "groups").write_text(f"{groups}\n", encoding="utf8")
    monkeypatch.setattr(hardware, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(hardware, "_GROUP_ROOT", tmp_path)
    monkeypatch.setattr(hardware, "logical_cores", lambda: 4)
    assert hardware.cpu_quota() == expected


@pytest.mark.parametrize(("quota", "expected"), [(None, 2), (0.5, 1), (1.5, 2), (3.0, 2)])
def test_usable_cores_are_physical_ones_within_the_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    counts = {(("only_physical_cores", True),): 2}
    monkeypatch.setattr(loky, "cpu_count", lambda **options: counts[tuple(options.items())])
    monkeypatch.setattr(hardware, "cpu_quota", lambda: quota)
    assert hardware.usable_cores() == expected


def test_threads_spin_only_without_a_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    row, peer = BACKENDS["onnx-int8"], BACKENDS["ct2-int8"]
    monkeypatch.setattr(hardware, "cpu_quota", lambda: None)
    assert hardware.fitted(row) is row
    monkeypatch.setattr(hardware, "cpu_quota", lambda: 1.5)
    assert hardware.fitted(row) == row.with_settings({"session.intra_op.allow_spinning": "0"})
    assert hardware.fitted(peer) is peer


def test_the_tokenizer_gets_no_more_threads_than_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("RAYON_NUM_THREADS", "")  # restored after the test
    monkeypatch.delenv("RAYON_NUM_THREADS")
    hardware.limit_tokenizer_threads()
    assert os.environ["RAYON_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    hardware.limit_tokenizer_threads()
    assert os.environ["RAYON_NUM_THREADS"] == "3"  # the user's own number stays
