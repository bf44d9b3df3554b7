"""Findings gather what several benchmarks measured into the record of a run."""

import math
from pathlib import Path

import pytest

from embedopt.errors import MeasureError
from embedopt.measure.findings import Findings
from embedopt.records import Accuracy, Footprint, LoadTest, SideBySideCase, Throughput
from tests.measure.sessions import make_session


def test_results_of_several_benchmarks_on_one_backend_are_merged(tmp_path: Path) -> None:
    findings = Findings(make_session(tmp_path))
    name = "onnx-int8-dynamic"
    findings.add(name, Accuracy(texts=3, cosine_mean=0.99))
    findings.add(name, Accuracy(batch_invariance_min=0.98))
    findings.add(name, Footprint(disk_bytes=7))
    findings.add("torch-fp32", Throughput(texts_per_s=5.0))
    run = findings.run()
    assert run.accuracy == {name: Accuracy(texts=3, cosine_mean=0.99, batch_invariance_min=0.98)}
    assert run.footprint == {name: Footprint(disk_bytes=7)}
    assert run.throughput == {"torch-fp32": Throughput(texts_per_s=5.0)}
    assert run.corpus.texts == 3
    assert run.backends[name].base == "onnx-fp32"
    assert run.backends[name].settings["per_channel"] is True
    assert run.hardware_class == run.machine.hardware_class


def test_load_tests_are_kept_by_backend_and_way_of_batching(tmp_path: Path) -> None:
    findings = Findings(make_session(tmp_path))
    findings.add_load_test("onnx-int8", "none", LoadTest(highest_per_s=400.0))
    findings.add_load_test("onnx-int8", "adaptive", LoadTest(highest_per_s=500.0))
    findings.add_load_test("onnx-int8", "adaptive", LoadTest(soak_growth_bytes=7))
    assert findings.run().load == {
        "onnx-int8": {
            "none": LoadTest(highest_per_s=400.0),
            "adaptive": LoadTest(highest_per_s=500.0, soak_growth_bytes=7),
        }
    }


def test_a_run_without_measurements_is_known(tmp_path: Path) -> None:
    """Scores are measurements without times; load tests and turns have times of their own."""
    empty, scored, loaded, turned = (Findings(make_session(tmp_path)) for _ in range(4))
    scored.add("onnx-int8", Accuracy(cosine_mean=0.99))
    loaded.add_load_test("onnx-int8", "none", LoadTest(highest_per_s=400.0))
    turned.turns["short"] = SideBySideCase(
        texts=1, mean_tokens=3.0, turns={}, roofline_per_s={}, operations_per_token=1, default="onnx-int8"
    )
    cases = (empty, scored, loaded, turned)
    assert [findings.has_measurements for findings in cases] == [False, True, True, True]
    assert [findings.has_own_times for findings in cases] == [False, False, True, True]


def test_a_figure_that_is_no_finite_number_is_an_error_and_the_others_are_kept(tmp_path: Path) -> None:
    findings = Findings(make_session(tmp_path))
    advice = "; wanted finite numbers: look for embeddings that are not finite, or are all the same"
    with pytest.raises(MeasureError) as failed:
        findings.add("onnx-int8", Accuracy(texts=3, cosine_mean=math.nan, cosine_min=0.5))
    assert str(failed.value) == f"onnx-int8: cosine_mean is nan{advice}"
    assert findings.run().accuracy["onnx-int8"].cosine_min == 0.5
    with pytest.raises(MeasureError) as failed:
        findings.add_load_test("onnx-int8", "none", LoadTest(highest_per_s=4.0, worst_cosine=math.inf))
    assert str(failed.value) == f"onnx-int8 none: worst_cosine is inf{advice}"
