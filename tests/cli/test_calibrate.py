"""``embedopt calibrate`` on samples that an earlier run has saved."""

import json
from pathlib import Path

import numpy as np
import pytest

from embedopt.cli import calibrate as cli_calibrate
from embedopt.cli.app import main
from embedopt.evidence import ProcessPair, SlowdownSample, SlowdownSamples
from embedopt.judge.gate.error_rates import Drawing
from embedopt.measure.machine import this_machine
from embedopt.measure.pairs.process_pair import cells_of
from embedopt.schema import to_json

CELLS = cells_of(["onnx-int8"], [1])


def _pair(log_ratio: float) -> ProcessPair:
    base_ms = tuple(5.0 + 0.01 * (call % 3) for call in range(20))
    return ProcessPair(
        log_ratio=log_ratio,
        base_ms=base_ms,
        head_ms=tuple(call_ms * float(np.exp(log_ratio)) for call_ms in base_ms),
    )


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve pairs for each slow-down with little noise: 20 % is always detected, 0 % never."""
    monkeypatch.setattr(cli_calibrate, "Drawing", lambda: Drawing(runs=20, other_tool_runs=20))
    pairs = {
        (cell, slowdown): tuple(_pair(np.log1p(slowdown) + 0.001 * (number % 3 - 1)) for number in range(12))
        for cell in CELLS
        for slowdown in ((0.0, 0.2) if cell.metric == "latency" else (0.0,))
    }
    collected = SlowdownSamples(
        hardware_class=this_machine().hardware_class,
        samples=tuple(
            SlowdownSample(cell=cell, slowdown=slowdown, pairs=measured)
            for (cell, slowdown), measured in pairs.items()
        ),
        seconds=100.0,
    )
    (tmp_path / "samples.json").write_text(json.dumps(to_json(collected)), encoding="utf8")
    return tmp_path / "samples.json"


def test_samples_are_judged_without_collecting_more(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = samples.read_bytes()
    cells = ["--backends", "onnx-int8", "--batch-sizes", "1"]
    assert main(["calibrate", "--resume", str(samples), "--budget", "0", *cells]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.startswith("onnx-int8")]
    assert rows == [
        ["onnx-int8", "batch", "1", "0", "(0-16.1)", "100", "(83.9-100)"],
        ["onnx-int8", "load", "0", "(0-16.1)", "-"],
    ]
    assert samples.read_bytes() == before


def test_samples_of_another_machine_are_refused(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = samples.read_text(encoding="utf8").replace(this_machine().hardware_class, "another")
    samples.write_text(elsewhere, encoding="utf8")
    assert main(["calibrate", "--resume", str(samples), "--budget", "0"]) == 2
    assert "samples.json has samples of another; wanted those of this machine, " in capsys.readouterr().err
