"""``embedopt calibrate`` on samples that an earlier run has saved."""

import json
from pathlib import Path

import pytest

from embedopt.cli import calibrate as cli_calibrate
from embedopt.cli.app import main
from embedopt.judge.gate.error_rates import Drawing
from embedopt.measure.machine import this_machine
from embedopt.measure.pairs.process_pair import cells_of
from embedopt.schema import to_json
from tests.slowdowns import make_samples

CELLS = cells_of(["onnx-int8"], [1])


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Samples of one backend at batch size 1."""
    monkeypatch.setattr(cli_calibrate, "Drawing", lambda: Drawing(runs=20, other_tool_runs=20))
    (tmp_path / "samples.json").write_text(json.dumps(to_json(make_samples(CELLS))), encoding="utf8")
    return tmp_path / "samples.json"


def test_samples_are_judged_without_collecting_more(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = samples.read_bytes()
    cells = ["--backends", "onnx-int8", "--batch-sizes", "1"]
    assert main(["calibrate", "--resume", str(samples), "--budget", "0", *cells]) == 0
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines() if line.startswith("onnx-int8")]
    assert rows == [
        ["onnx-int8", "batch", "1", "0", "(0-16.1)", "100", "(83.9-100)"],
        ["onnx-int8", "load", "0", "(0-16.1)", "-"],
    ]
    assert "drawing runs with a slow-down of 0%\n" in err
    assert samples.read_bytes() == before


def test_samples_of_another_machine_are_refused(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = samples.read_text(encoding="utf8").replace(this_machine().hardware_class, "another")
    samples.write_text(elsewhere, encoding="utf8")
    assert main(["calibrate", "--resume", str(samples), "--budget", "0"]) == 2
    assert "samples.json has samples of another; wanted those of this machine, " in capsys.readouterr().err
