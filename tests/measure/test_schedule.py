"""About how long a run takes."""

import re
from pathlib import Path

import pytest

from embedopt.measure.schedule import QUESTIONS, Step, seconds_left, step_of

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_step_of_a_test_says_what_is_measured_of_which_backend() -> None:
    step = step_of("test_latency", {"encoder": "onnx-int8", "batch_size": 8}, "full")
    assert (step.backend, step.question) == ("onnx-int8", "latency, batch 8")
    assert step.seconds == QUESTIONS["test_latency"].seconds["full"]


def test_a_benchmark_of_another_suite_counts_a_second() -> None:
    assert step_of("test_mine", {}, "quick") == Step(backend="", question="test_mine", seconds=1.0)


def test_the_time_left_is_the_tables_before_anything_is_done() -> None:
    steps = [Step(backend="", question="", seconds=seconds) for seconds in (10.0, 20.0, 30.0)]
    assert seconds_left(steps, 0, 0.0) == 60.0


def test_the_time_left_follows_what_was_done_on_a_slower_machine() -> None:
    """Ten seconds of the table are trusted beside the ten that took thirty."""
    steps = [Step(backend="", question="", seconds=seconds) for seconds in (10.0, 20.0, 30.0)]
    assert seconds_left(steps, 1, 30.0) == pytest.approx(50.0 * (30 + 10) / (10 + 10))
    assert seconds_left(steps, 3, 500.0) == 0.0


def test_each_benchmark_of_the_suite_has_its_seconds() -> None:
    """The gate has a budget of its own, and the soak is as long as its option says."""
    sources = [file.read_text(encoding="utf8") for file in BENCHMARKS.glob("test_*.py")]
    functions = {name for source in sources for name in re.findall(r"^def (test_\w+)", source, re.MULTILINE)}
    assert functions - {"test_against", "test_soak"} == set(QUESTIONS)
