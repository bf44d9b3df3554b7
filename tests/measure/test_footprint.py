"""A footprint comes from a process of its own, and a failing process is one clear line."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embedopt.errors import MeasureError
from embedopt.inference.artifacts.store import ArtifactStore
from embedopt.inference.artifacts.weights import Weights, resolve_weights
from embedopt.inference.backends import BACKENDS
from embedopt.measure import footprint as footprint_module
from embedopt.measure.footprint import measure_footprint, peak_rss_bytes
from tests.models import make_own_code_model


@pytest.mark.parametrize("name", ["torch-fp32", "onnx-fp32"])
def test_a_footprint_is_the_size_of_the_files_and_the_memory_of_the_process(
    tiny_model: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    """A process without torch takes far less memory than one with it."""
    weights = resolve_weights(str(tiny_model()))
    folder = ArtifactStore(tmp_path).get(BACKENDS[name], weights)
    footprint = measure_footprint(BACKENDS[name], folder, weights, ["welder", "nurse"])
    files = (
        [*weights.files.values()]
        if name == "torch-fp32"
        else [file for file in folder.iterdir() if file.name != "manifest.json"]
    )
    assert footprint.disk_bytes == sum(file.stat().st_size for file in files)
    assert footprint.load_s is not None
    assert footprint.load_s > 0
    assert footprint.peak_rss_bytes is not None
    assert (footprint.peak_rss_bytes > 250e6) == (name == "torch-fp32")


def test_the_process_imports_no_records() -> None:
    """Their libraries would be weighed with every backend."""
    source = "import sys, embedopt.measure.footprint; print({'pydantic', 'psutil'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_process_that_fails_is_one_line(tmp_path: Path) -> None:
    weights = resolve_weights()
    with pytest.raises(MeasureError) as caught:
        measure_footprint(BACKENDS["onnx-fp32"], tmp_path, weights, ["a"])
    assert str(caught.value).startswith("the process that opens onnx-fp32 ended with 1: ")
    assert "\n" not in str(caught.value)


def test_a_process_that_hangs_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint_module, "_TIMEOUT_S", 0)
    with pytest.raises(MeasureError, match="the process that opens onnx-fp32 took over 0 s"):
        measure_footprint(BACKENDS["onnx-fp32"], tmp_path, resolve_weights(), ["a"])


def test_resident_memory_grows_with_an_array() -> None:
    """In a process of its own: that of the tests gives memory of earlier tests back at any time."""
    source = """
from embedopt.measure.footprint import resident_bytes
before = resident_bytes()
held = b"1" * 40_000_000
print(resident_bytes() - before > 30_000_000)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_without_proc_the_memory_of_now_stands_for_the_peak(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on macOS."""
    monkeypatch.setattr(footprint_module, "_PROCESSES", tmp_path / "missing")
    monkeypatch.setattr(footprint_module, "resident_bytes", lambda pid: 1 if pid is None else 10 * pid)
    assert (peak_rss_bytes(), peak_rss_bytes(7)) == (1, 70)


def test_code_of_the_model_runs_in_the_process_if_it_is_trusted(
    tiny_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    model, row = make_own_code_model(tiny_model(), tmp_path / "model"), BACKENDS["torch-fp32"]
    trusted = resolve_weights(str(model), trust_remote_code=True)
    assert measure_footprint(row, model, trusted, ["welder"]).disk_bytes == trusted.disk_bytes
    with pytest.raises(MeasureError, match=r"with 1: .*WeightsError: .* needs Python code that comes with"):
        measure_footprint(row, model, Weights("m", model), ["welder"])
