"""The answers of a worker, and that nothing else reaches its standard output."""

import gc
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedopt.errors import UsageError
from embedopt.inference.artifacts.store import ArtifactStore
from embedopt.inference.artifacts.weights import Weights
from embedopt.inference.backends import BACKENDS
from embedopt.measure import worker as worker_module
from embedopt.measure.load_test import open_loop
from embedopt.measure.load_test.open_loop import Traffic
from embedopt.measure.worker import PROTOCOL, Worker, hello, pack, serve, unpack, work_until
from tests.fakes import FakeClock, FakeEncoder, MoodyEncoder
from tests.models import make_model

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def worker(clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker with fake encoders, whose calls take a tenth of a second for each text."""

    def open_fake(row: Any, folder: Path, **_: object) -> FakeEncoder:
        clock.advance(2.0)
        kind = MoodyEncoder if row.name == "onnx-int8" else FakeEncoder
        return kind(row.name, lambda texts: clock.advance(0.1 * texts))

    monkeypatch.setattr(worker_module, "open_encoder", open_fake)
    monkeypatch.setattr(worker_module, "resolve_weights", lambda _, **__: Weights("tiny", tmp_path))
    monkeypatch.setattr(ArtifactStore, "get", lambda *_: tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"12345")
    monkeypatch.setattr(gc, "freeze", lambda: None)  # this process is not the worker's
    return Worker(0.5, clock)


def _load(worker: Worker, name: str) -> dict[str, Any]:
    return worker.answer({"do": "load", "backend": name, "model": None, "cache_dir": None})


def test_load_s_lasts_from_the_start_of_the_process_to_the_first_embedding(worker: Worker) -> None:
    assert _load(worker, "onnx-int8") == {"load_s": pytest.approx(0.5 + 2.0 + 0.1), "disk_bytes": 5}


def test_vectors_in_one_batch_are_those_of_no_other_cut(worker: Worker) -> None:
    """The fake's vectors depend on the first text of a batch."""
    _load(worker, "onnx-int8")
    together = worker.answer({"do": "one_batch", "backend": "onnx-int8", "texts": ["a", "b"]})
    expected = MoodyEncoder().encode_as_one_batch(["a", "b"])
    np.testing.assert_array_equal(unpack(together), expected)


def test_a_call_is_timed_without_extra_work_by_default(worker: Worker) -> None:
    _load(worker, "onnx-int8")
    request = {"do": "time", "backend": "onnx-int8", "texts": ["a", "b"], "batch_size": 2, "extra": 0.0}
    assert worker.answer(request) == {"seconds": pytest.approx(0.2), "own_s": pytest.approx(0.2)}


def test_the_vectors_of_the_last_timed_call_are_kept(worker: Worker) -> None:
    _load(worker, "onnx-int8")
    for texts in (["a"], ["b", "c"]):
        request = {"do": "time", "backend": "onnx-int8", "texts": texts, "batch_size": 2, "extra": 0.0}
        worker.answer(request)
    answer = worker.answer({"do": "timed"})
    assert answer == pack(worker._encoders["onnx-int8"].encode(["b", "c"], 2))


def test_extra_work_goes_on_until_its_end_time() -> None:
    """This clock ticks each time it is read: the work goes on until the fourth tick."""
    ticks = iter([1.0, 2.0, 3.0, 4.0])
    work_until(4.0, lambda: next(ticks))
    assert list(ticks) == []


def test_extra_work_is_a_share_of_the_call_that_it_is_added_to(
    worker: Worker, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "work_until", lambda end_s, clock_: clock.advance(end_s - clock_()))
    _load(worker, "onnx-int8")
    request = {"do": "time", "backend": "onnx-int8", "texts": ["a", "b"], "batch_size": 2, "extra": 0.05}
    assert worker.answer(request) == {"seconds": pytest.approx(0.21), "own_s": pytest.approx(0.2)}


def test_a_load_test_sends_each_text_once_at_the_rate_and_times_it_by_the_workers_clock(
    worker: Worker, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To open the batcher, 70 texts are encoded."""

    def latencies_ms(_: object, arrivals_s: Any, traffic: Traffic, **__: object) -> list[float | None]:
        clock.advance(float(arrivals_s[-1]))
        return [float(len(traffic.texts)), None]

    monkeypatch.setattr(open_loop, "latencies_ms", latencies_ms)
    _load(worker, "onnx-fp32")
    request = {"do": "load_test", "backend": "onnx-fp32", "texts": ["a", "b"], "rate_per_s": 4.0}
    answer = worker.answer({**request, "promise_ms": 50.0, "seed": 0})
    assert answer == {"latencies_ms": [2.0, None], "seconds": pytest.approx(7.0 + 0.5)}


def test_accuracy_is_measured_against_the_same_checkouts_reference(worker: Worker) -> None:
    for name in ("torch-fp32", "onnx-fp32", "onnx-int8"):
        _load(worker, name)
    texts = [f"text {number}" for number in range(8)]
    request = {"do": "accuracy", "texts": texts, "invariance_texts": 4, "invariance_rounds": 1}
    same = worker.answer({**request, "backend": "onnx-fp32"})
    assert same == {
        "cosine_mean": pytest.approx(1.0),
        "cosine_p1": pytest.approx(1.0),
        "cosine_min": pytest.approx(1.0),
        "max_abs_error": 0.0,
        "batch_invariance_min": pytest.approx(1.0),
    }
    other = worker.answer({**request, "backend": "onnx-int8"})
    assert other["cosine_min"] < 0.95
    assert other["batch_invariance_min"] < 0.95


def test_an_unknown_request_names_the_known_ones(worker: Worker) -> None:
    with pytest.raises(UsageError, match=r"unknown request 'dance'; known are: load, time, accuracy"):
        worker.answer({"do": "dance"})


def test_a_request_that_fails_is_answered_with_an_error_and_the_worker_goes_on(worker: Worker) -> None:
    requests = ['{"do": "dance"}', '{"do": "load", "backend": "x"}', '{"do": "dance"}']
    output = io.StringIO()
    serve(worker, io.StringIO("\n".join(requests)), output)
    answers = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [list(answer) for answer in answers] == [["error"]] * 3
    assert answers[1]["error"].startswith("TypeError: ")  # an argument is missing


def test_the_first_line_has_protocol_checkout_and_backends() -> None:
    assert hello() == {
        "protocol": 1,
        "root": str(ROOT),
        "backends": list(BACKENDS),
        "requests": ["load", "time", "accuracy", "vectors", "one_batch", "timed", "files", "load_test"],
        "defaults": {"default": "onnx-int8", "default-to-store": "onnx-int8"},
        "held_against_none": [],
    }


def test_a_real_worker_writes_nothing_but_answers_and_ends_with_its_standard_input(tmp_path: Path) -> None:
    """It builds an artifact of a tiny model on the way, about which libraries print messages."""
    model = make_model(tmp_path)
    load = {"do": "load", "backend": "onnx-fp32", "model": str(model), "cache_dir": str(tmp_path / "cache")}
    call = {"do": "time", "backend": "onnx-fp32", "texts": ["nurse"], "batch_size": 1, "extra": 0.0}
    done = subprocess.run(
        [sys.executable, "-m", "embedopt.measure.worker", "0"],
        input="".join(json.dumps(request) + "\n" for request in (load, call)),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    first_line, *answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert first_line["protocol"] == PROTOCOL
    assert [sorted(answer) for answer in answers] == [["ok"], ["ok"]]
    assert "building onnx-fp32" in done.stderr
