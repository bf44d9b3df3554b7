"""Records are read back as they were written, and refuse unknown fields by name."""

import dataclasses
import json

import pytest

from embedopt.errors import RecordError
from embedopt.judge.history.saved_runs import run_from_json
from embedopt.records import Accuracy, Footprint, Latency, LoadPoint, LoadTest, Throughput
from embedopt.schema import from_json, metrics, to_json
from tests.runs import make_load, make_run


def test_a_run_is_read_back_as_it_was_written() -> None:
    run = make_run()
    assert run_from_json(json.loads(json.dumps(to_json(run)))) == run


def test_a_run_from_before_settings_of_throughput_mode_is_read() -> None:
    values = to_json(make_run())
    for info in values["backends"].values():
        del info["throughput_settings"]
    assert run_from_json(values).backends["onnx-int8"].throughput_settings == {}


def test_load_tests_are_read_back_and_a_run_from_before_them_is_read() -> None:
    run = make_run(load=make_load())
    values = json.loads(json.dumps(to_json(run)))
    assert run_from_json(values) == run
    del values["load"]
    assert run_from_json(values) == make_run()


def test_an_interval_is_read_back() -> None:
    latency = Latency(backend="a", batch_size=1, calls=9, p50_ms=1.5, p50_ci_ms=(1.0, 2.0))
    assert from_json(Latency, json.loads(json.dumps(to_json(latency)))) == latency


def test_an_unknown_field_is_refused_by_name() -> None:
    values = to_json(make_run())
    values["accuracy"]["onnx-int8"]["cosine_best"] = 1.0
    with pytest.raises(RecordError, match=r"Run record: accuracy\.onnx-int8\.cosine_best: unexpected"):
        run_from_json(values)


def test_a_missing_field_is_refused_by_name() -> None:
    values = to_json(make_run())
    del values["machine"]["cpu"]
    with pytest.raises(RecordError, match=r"Run record: machine\.cpu: .*required"):
        run_from_json(values)


@pytest.mark.parametrize("values", [{"schema": 99}, {}, [], "text"])
def test_another_schema_is_refused(values: object) -> None:
    with pytest.raises(RecordError, match="wanted 1: read it with the embedopt that wrote it"):
        run_from_json(values)  # type: ignore[arg-type]  # what is tested


def test_every_metric_has_a_unit_and_a_direction() -> None:
    assert metrics(Footprint) == {
        "disk_bytes": ("bytes", "lower"),
        "load_s": ("s", "lower"),
        "peak_rss_bytes": ("bytes", "lower"),
    }
    for kind in (Latency, Accuracy, Throughput, Footprint, LoadTest, LoadPoint):
        floats = {item.name for item in dataclasses.fields(kind) if item.type == "float | None"}
        assert floats - set(metrics(kind)) <= {"seconds", "promise_ms", "generator_cpu"}


def test_the_hardware_class_names_cpu_instruction_sets_cores_and_threads() -> None:
    machine = make_run().machine
    assert machine.hardware_class == "Test CPU | avx2+vnni | 2 cores | 2 threads"
    bare = dataclasses.replace(machine, instruction_sets=())
    assert bare.hardware_class == "Test CPU | none | 2 cores | 2 threads"
