"""A run that commit f0c97f6 saved, before modules were moved and renamed: it is read as the same records.

The suite of that commit ran in its ``quick`` profile with the tiny model of these tests, two backends and
``--against HEAD``. Raw samples, most of the CPU's description and the machine's names were removed.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from embedopt.evidence import Cell, ExactPair
from embedopt.judge.history.saved_runs import SavedRun, read_file
from embedopt.records import Latency, Throughput
from embedopt.schema import to_json

_FILE = Path(__file__).parent / "data" / "run_of_the_old_house.json"


@pytest.fixture(scope="module")
def saved() -> SavedRun:
    return read_file(_FILE)[0]


def test_its_record_of_the_run_is_read(saved: SavedRun) -> None:
    assert saved.run is not None
    assert list(saved.run.backends) == ["torch-fp32", "onnx-int8"]
    assert saved.run.backends["onnx-int8"].base == "onnx-fp32"
    assert saved.run.accuracy["onnx-int8"].cosine_min == 0.9987540664622482
    assert saved.run.footprint["onnx-int8"].disk_bytes == 94884
    assert list(saved.run.load["onnx-int8"]) == ["none", "window", "adaptive"]
    assert saved.run.throughput["torch-fp32"] == Throughput(
        batch_size=32,
        in_order_per_s=3915.2908807593026,
        texts_per_s=3094.489783873535,
        in_order_padding=0.0,
        padding=0.0,
        seconds=0.4808547139998609,
        replicas=1,
    )


def test_its_latencies_are_read(saved: SavedRun) -> None:
    assert saved.latencies[0] == Latency(
        backend="torch-fp32",
        batch_size=1,
        calls=200,
        p50_ms=1.5953659999468073,
        p50_ci_ms=(1.5868479999880947, 1.615912000033859),
        p95_ms=2.222055099957742,
        p95_ci_ms=(1.9334129999606375, 2.477792000036061),
        texts_per_s=600.351676403754,
    )


def test_its_evidence_for_the_gate_is_read(saved: SavedRun) -> None:
    assert saved.run is not None
    gate_run = saved.run.against
    assert gate_run is not None
    cold_start = next(known for known in gate_run.cells if known.cell.metric == "load_s")
    assert cold_start.cell == Cell(backend="torch-fp32", batch_size=0, metric="load_s")
    assert cold_start.log_ratios == (-0.056043006122901584, 0.0474115894826006, 0.08422617187771064)
    assert gate_run.exact[0] == ExactPair(backend="torch-fp32", metric="disk_bytes", base=99041, head=99041)


def test_its_record_is_written_back_as_it_was(saved: SavedRun) -> None:
    """Fields that were added later are null."""
    assert saved.run is not None
    values = read_file(_FILE)[1]["embedopt"]
    assert _without_new_nulls(json.loads(json.dumps(to_json(saved.run))), values) == values


def _without_new_nulls(new: Any, old: Any) -> Any:
    """Return ``new`` without those keys of its objects that ``old`` lacks and whose value is None."""
    if isinstance(new, dict) and isinstance(old, dict):
        return {
            key: _without_new_nulls(value, old.get(key))
            for key, value in new.items()
            if key in old or value is not None
        }
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        return [_without_new_nulls(*items) for items in zip(new, old, strict=True)]
    return new
