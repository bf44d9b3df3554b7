"""About how long a run takes."""

import re
from pathlib import Path
from typing import Any

from embedopt.measure.options import Options
from embedopt.measure.pairs.gate_run import GatePlan
from embedopt.measure.schedule import QUESTIONS, Schedule, Step, plan_steps
from tests.fakes import FakeClock

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def _options(**values: Any) -> Options:
    return Options(backends=(), batch_sizes=(), profile="full", corpus=Path(), **values)


def test_a_step_says_what_is_measured_of_which_backend() -> None:
    [step] = plan_steps([("test_latency", {"encoder": "onnx-int8", "batch_size": 8})], _options())
    assert step == Step(
        backend="onnx-int8",
        question="latency",
        seconds=QUESTIONS["test_latency"].seconds["full"],
        batch_size=8,
    )


def test_a_benchmark_of_another_suite_counts_a_second() -> None:
    assert plan_steps([("test_mine", {})], _options()) == (
        Step(backend="", question="test_mine", seconds=1.0),
    )


def test_the_soak_takes_what_its_option_says_and_the_gate_its_budget_once() -> None:
    against = GatePlan(
        ref="main",
        head=Path(),
        budget_s=300.0,
        backends=(),
        batch_sizes=(),
        invariance={"invariance_texts": 1, "invariance_rounds": 1},
    )
    options = _options(soak_s=60.0, against=against)
    steps = plan_steps([("test_against", {}), ("test_against", {}), ("test_soak", {})], options)
    assert [step.seconds for step in steps] == [300.0, 0.0, 60.0]


def _schedule(clock: FakeClock) -> Schedule:
    steps = [Step(backend="", question="", seconds=seconds) for seconds in (10.0, 20.0, 30.0)]
    return Schedule(steps, clock)


def test_the_time_left_is_the_tables_before_anything_is_done() -> None:
    assert _schedule(FakeClock()).left_s == 60.0


def test_the_time_left_shrinks_within_a_step_but_not_below_what_comes_later() -> None:
    clock = FakeClock()
    schedule = _schedule(clock)
    clock.advance(4.0)
    assert schedule.left_s == 56.0
    clock.advance(40.0)
    assert schedule.left_s == 50.0


def test_the_time_left_follows_a_slower_machine() -> None:
    """Ten seconds of the table are trusted beside the ten that took thirty."""
    clock = FakeClock()
    schedule = _schedule(clock)
    clock.advance(30.0)
    schedule.finish_step()
    assert schedule.left_s == 50.0 * (30 + 10) / (10 + 10)
    for _ in range(2):
        schedule.finish_step()
    assert (schedule.done, schedule.left_s) == (3, 0.0)


def test_each_benchmark_of_the_suite_has_its_seconds() -> None:
    sources = [file.read_text(encoding="utf8") for file in BENCHMARKS.glob("test_*.py")]
    functions = {name for source in sources for name in re.findall(r"^def (test_\w+)", source, re.MULTILINE)}
    assert functions == set(QUESTIONS)
