"""``embedopt calibrate`` on samples that an earlier run has saved."""

import json
import signal
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from loky.process_executor import ShutdownExecutorError

from embedopt.cli import calibrate as cli_calibrate
from embedopt.cli.app import main
from embedopt.errors import RecordError
from embedopt.evidence import SlowdownSamples
from embedopt.judge.gate.drawn_runs import Drawing
from embedopt.measure.machine import this_machine
from embedopt.measure.pairs.known_slowdowns import SamplingPlan
from embedopt.measure.pairs.process_pair import cells_of
from embedopt.measure.pairs.worker_client import WorkerClient
from embedopt.schema import to_json
from tests.inference.projects import make_project
from tests.slowdowns import make_samples

CELLS = cells_of(["onnx-int8"], [1])


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Samples of one backend at batch size 1."""
    drawing = partial(Drawing, resamples=2, runs=10, other_tool_runs=20)
    monkeypatch.setattr(cli_calibrate, "Drawing", drawing)
    (tmp_path / "samples.json").write_text(json.dumps(to_json(make_samples(CELLS))), encoding="utf8")
    return tmp_path / "samples.json"


def test_samples_are_judged_without_collecting_more(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = samples.read_bytes()
    cells = ["--backends", "onnx-int8", "--batch-sizes", "1"]
    assert main(["calibrate", "--resume", str(samples), "--budget", "0", *cells]) == 0
    out, err = capsys.readouterr()
    rows = [line.split()[2:] for line in out.splitlines() if line.startswith("onnx-int8 batch 1")]
    variance, drawn, drawn_equivalent, drawn_unanswered, *simulated_rows = rows
    simulated, simulated_more, simulated_equivalent, simulated_unanswered = simulated_rows
    assert variance == ["1", "12", "0.09%", "+0.00%", "+-", "0.02%", "100%", "0%", "0%", "0%", "0.0%"]
    assert drawn == ["1", "0", "(0-24.2)", "100", "(75.8-100)"]
    assert drawn_equivalent == ["1", "100", "0"]
    assert simulated[1:] == [*["0", "(0-16.1)"] * 2, "95", "(75.1-99.2)"]
    assert simulated_more[1:] == ["100", "(83.9-100)"] * 3
    assert "\N{HORIZONTAL ELLIPSIS}" not in out  # nothing is cut off
    assert simulated_equivalent == ["1", "100", "100", "5", *["0"] * 3]
    assert (drawn_unanswered, simulated_unanswered) == (["1", "0", "0"], ["1", *["0"] * 6])
    assert this_machine().hardware_class in out.splitlines()
    assert "drawing runs with a slow-down of 0%\n" in err
    assert samples.read_bytes() == before


def test_runs_are_drawn_that_take_the_named_seconds(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the 70 s before the first pair, nothing is left of 70 s: all runs end without a decision."""
    for seconds, ending_with_5 in (("70", "100"), ("600", "0")):
        options = ["--resume", str(samples), "--budget", "0", "--against-budget", seconds]
        assert main(["calibrate", *options]) == 0
        runs = [line for line in capsys.readouterr().out.splitlines() if line.startswith("any in a run")]
        assert runs[-1].split()[4] == ending_with_5


def test_a_run_that_fails_does_not_wait_for_what_is_drawn(
    samples: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn: list[Future[None]] = []

    def fail(*arguments: Any) -> None:
        *_, executor = arguments
        drawn.append(executor.submit(signal.pause))
        raise RecordError("broken samples")

    monkeypatch.setattr(cli_calibrate, "error_rates", fail)
    assert main(["calibrate", "--resume", str(samples), "--budget", "0"]) == 2
    assert "broken samples" in capsys.readouterr().err
    assert isinstance(drawn[0].exception(), ShutdownExecutorError)


def test_samples_of_each_hardware_class_have_rates_of_their_own(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is collected here, so no rate is of this machine."""
    content = json.loads(samples.read_text(encoding="utf8"))
    both = [content | {"hardware_class": name} for name in ("one CPU", "another CPU")]
    samples.write_text(json.dumps(both), encoding="utf8")
    assert main(["calibrate", "--resume", str(samples), "--budget", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith("CPU")] == ["one CPU", "another CPU"]


def test_a_target_of_a_project_is_measured_with_known_slow_downs(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[SamplingPlan] = []

    def collect(
        start: Callable[[], WorkerClient], plan: SamplingPlan, samples: SlowdownSamples, *_: object
    ) -> SlowdownSamples:
        plans.append(plan)
        with start() as client:
            client.ask("load", **plan.work.opening("shop", of_base=True))
            times = [
                client.ask("time", backend="shop", texts=["a"], batch_size=1, extra=extra)["seconds"]
                for extra in (0.0, 1e4)
            ]
        assert times[1] > times[0]
        return samples

    project = make_project(tmp_path / "project")
    (project / "benchmarks" / "corpus").mkdir(parents=True)
    (project / "benchmarks" / "corpus" / "own.jsonl").write_text('{"text": "a lamp"}', encoding="utf8")
    monkeypatch.chdir(project / "src")
    monkeypatch.setattr(cli_calibrate, "collect_samples", collect)
    assert main(["calibrate", "--resume", str(samples), "--backends", "shop", "--batch-sizes", "1"]) == 0
    [plan] = plans
    assert (plan.work.texts, plan.cells) == (("a lamp",), cells_of(["shop"], [1]))


def test_without_samples_nothing_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--budget", "0", "-o", str(tmp_path / "x.json")]) == 2
    assert "no cell has 6 process pairs of identical sides" in capsys.readouterr().err
