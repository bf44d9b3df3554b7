"""Gate runs that are drawn from pairs whose true difference is known."""

import dataclasses
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import stats

from embedopt.errors import RecordError
from embedopt.evidence import Cell, ProcessPair, SlowdownSample, SlowdownSamples
from embedopt.judge.gate.drawn_runs import Drawing, simulated
from embedopt.judge.gate.error_rates import GATE, ErrorRate, error_rates
from embedopt.judge.gate.other_tools import OTHER_TOOLS
from embedopt.judge.gate.settings import GateSettings

SETTINGS = GateSettings()
CELLS = tuple(Cell(backend="onnx-int8", batch_size=size) for size in (1, 8, 32))


def _sample(cell: Cell, slowdown: float, pairs: int = 30) -> SlowdownSample:
    """Pairs that spread by 1 %; times also vary by 5 % from pair to pair, alike on both sides of a pair."""
    rng = np.random.default_rng(cell.batch_size)
    made = []
    for _ in range(pairs):
        ratio = math.log1p(slowdown) + rng.normal(0.0, 0.01)
        base = 10.0 * math.exp(rng.normal(0.0, 0.05)) * np.exp(rng.normal(0.0, 0.02, 30))
        head = base * math.exp(ratio)
        made.append(ProcessPair(log_ratio=ratio, base_ms=tuple(base), head_ms=tuple(head), seconds=0.6))
    return SlowdownSample(cell=cell, slowdown=slowdown, pairs=tuple(made))


def _collected(*samples: SlowdownSample) -> SlowdownSamples:
    return SlowdownSamples(
        hardware_class="Test CPU",
        samples=samples,
        seconds=5.0 * sum(len(sample.pairs) for sample in samples),
        survey_s=70.0,
    )


def _by_rule(rates: Sequence[ErrorRate], slowdown: float, cell: Cell | None) -> dict[str, float]:
    return {rate.rule: rate.share for rate in rates if (rate.slowdown, rate.cell) == (slowdown, cell)}


def test_the_gate_is_right_where_the_rules_of_other_tools_are_not() -> None:
    samples = [_sample(cell, slowdown) for cell in CELLS for slowdown in (0.0, 0.05)]
    rates = error_rates(_collected(*samples), SETTINGS, Drawing(resamples=10, runs=10, other_tool_runs=50))
    false_alarms, detections = _by_rule(rates, 0.0, None), _by_rule(rates, 0.05, CELLS[2])
    assert list(false_alarms) == [GATE, *OTHER_TOOLS]
    assert (false_alarms[GATE], detections[GATE]) == (0.0, 1.0)
    for rule in OTHER_TOOLS:
        assert false_alarms[rule] > SETTINGS.level
        assert detections[rule] < 1.0


def test_alarms_are_counted_for_each_cell() -> None:
    """Only the slowed cell has alarms."""
    samples = [_sample(cell, 0.0) for cell in CELLS] + [_sample(CELLS[0], 0.2)]
    steps: list[str] = []
    rates = error_rates(
        _collected(*samples), SETTINGS, Drawing(resamples=2, runs=10, other_tool_runs=5), steps.append
    )
    assert steps == ["drawing runs with a slow-down of 0%", "drawing runs with a slow-down of 20%"]
    gate = [(rate.slowdown, rate.cell, rate.alarms, rate.draws) for rate in rates if rate.rule == GATE]
    identical = [(0.0, cell, 0, 20) for cell in (*CELLS, None)]
    assert gate == [*identical, (0.2, CELLS[0], 20, 20)]
    assert [rate.equivalent for rate in rates if rate.rule == GATE] == [20, 20, 20, 0, 0]


def test_a_confirmation_that_the_budget_does_not_cover_leaves_the_cell_without_an_answer() -> None:
    """A pair takes 4 s to start and 2 s a cell: 6 of two cells are 48 s, 4 fresh ones of one are 24 s."""

    def sample(cell: Cell, slowdown: float) -> SlowdownSample:
        ratios = [math.log1p(slowdown) + spread for spread in (-0.01, 0.006, -0.004, 0.01, 0.004, -0.006)]
        pairs = [
            ProcessPair(log_ratio=ratio, base_ms=(1000.0,), head_ms=(1000.0,), seconds=2.0)
            for ratio in ratios
        ]
        return SlowdownSample(cell=cell, slowdown=slowdown, pairs=tuple(pairs))

    samples = (sample(CELLS[0], 0.0), sample(CELLS[1], 0.0), sample(CELLS[0], 0.2))
    collected = SlowdownSamples(
        hardware_class="Test CPU", samples=samples, seconds=6 * 4.0 + 3 * 6 * 2.0, survey_s=10.0
    )
    counted = []
    for budget in (81.9, 82.1):
        drawing = Drawing(resamples=2, runs=5, other_tool_runs=0, budget_s=budget)
        *_, slowed = error_rates(collected, SETTINGS, drawing)
        counted.append((slowed.alarms, slowed.unanswered))
    assert counted == [(0, 10), (10, 0)]


def test_a_run_that_decides_nothing_is_without_an_answer() -> None:
    """Six pairs take all of the budget and vary too much for a verdict."""
    pairs = [ProcessPair(log_ratio=ratio, base_ms=(1.0,), head_ms=(1.0,)) for ratio in (-0.2, 0.2) * 3]
    sample = SlowdownSample(cell=CELLS[0], slowdown=0.0, pairs=tuple(pairs))
    collected = SlowdownSamples(hardware_class="Test CPU", samples=(sample,), seconds=6 * 10.0, survey_s=0.0)
    drawing = Drawing(resamples=1, runs=10, other_tool_runs=0, budget_s=61.0)
    cell, run = error_rates(collected, SETTINGS, drawing)
    assert (cell.alarms, cell.equivalent, cell.unanswered) == (0, 0, 0)
    assert (run.alarms, run.equivalent, run.unanswered) == (0, 0, 10)


def test_the_same_seed_draws_the_same_runs_one_slow_down_after_the_other_or_at_once() -> None:
    collected = _collected(*(_sample(cell, slowdown) for cell in CELLS for slowdown in (0.0, 0.03)))
    drawing = Drawing(resamples=2, runs=10, other_tool_runs=5)
    one_by_one = error_rates(collected, SETTINGS, drawing)
    with ThreadPoolExecutor(2) as executor:
        at_once = error_rates(collected, SETTINGS, drawing, executor=executor)
    assert one_by_one == at_once


def test_the_interval_of_a_share_is_wilsons() -> None:
    """No alarm in 1,000 independent draws: at most 0.38 %."""
    rate = ErrorRate(rule=GATE, slowdown=0.0, cell=None, alarms=0, draws=1000, effective_draws=1000)
    assert list(rate.interval) == pytest.approx([0.0, 0.0038], abs=1e-4)


def test_an_interval_is_over_the_pairs_however_many_runs_are_drawn_from_them() -> None:
    """Of 30 pairs, 60 runs say no more than 30 independent ones: 100 % is 88.6 % at least."""
    collected = _collected(_sample(CELLS[0], 0.0), _sample(CELLS[0], 0.2))
    rates = error_rates(collected, SETTINGS, Drawing(resamples=6, runs=10, other_tool_runs=0))
    [rate] = [rate for rate in rates if rate.slowdown]
    assert (rate.alarms, rate.draws, rate.effective_draws) == (60, 60, 30)
    assert list(rate.interval) == pytest.approx([0.8865, 1.0], abs=1e-4)


def test_resamples_that_differ_widen_an_interval() -> None:
    """Pairs of two kinds: how many of each were collected decides the rate."""
    rng = np.random.default_rng(2)
    half = [
        ProcessPair(log_ratio=ratio, base_ms=(10.0,), head_ms=(10.0,))
        for ratio in (*rng.normal(0.0, 0.004, 15), *rng.normal(0.05, 0.004, 15))
    ]
    mixed = SlowdownSample(cell=CELLS[0], slowdown=0.03, pairs=tuple(half))
    rates = error_rates(
        _collected(_sample(CELLS[0], 0.0), mixed), SETTINGS, Drawing(resamples=20, runs=20, other_tool_runs=0)
    )
    [rate] = [rate for rate in rates if rate.slowdown]
    assert 0.1 < rate.share < 0.9
    assert rate.effective_draws <= 30


def test_at_the_threshold_equivalent_is_said_no_more_often_than_its_level() -> None:
    """Simulated: 1,000 runs at each spread; beyond the level by no more than chance at 99 %."""
    collected = _collected(_sample(CELLS[0], 0.0))
    rates = error_rates(
        simulated(collected, (0.02, 0.03), 6), SETTINGS, Drawing(resamples=10, runs=100, other_tool_runs=0)
    )
    identical, _, threshold, beyond = rates
    assert (threshold.slowdown, beyond.slowdown) == (0.02, 0.03)
    most = int(stats.binom.ppf(0.99, threshold.draws, SETTINGS.level))
    assert max(identical.alarms, threshold.equivalent, beyond.equivalent) <= most
    assert threshold.share > 0.9
    assert beyond.share > 0.99


def test_a_cell_with_fewer_pairs_than_a_verdict_takes_is_not_simulated() -> None:
    few = _sample(CELLS[1], 0.0)
    few = dataclasses.replace(few, pairs=few.pairs[:5])
    made = simulated(_collected(_sample(CELLS[0], 0.0), few), (), 6)
    assert [sample.cell for sample in made.samples] == [CELLS[0]]


def test_simulated_pairs_spread_as_those_collected_and_take_as_long() -> None:
    collected = _collected(_sample(CELLS[0], 0.0), _sample(CELLS[0], 0.05))
    made = simulated(collected, (0.1,), 6, pairs=4000)
    logs = {sample.slowdown: [pair.log_ratio for pair in sample.pairs] for sample in made.samples}
    real = [pair.log_ratio for pair in collected.samples[0].pairs]
    assert list(logs) == [0.0, 0.1]
    assert np.std(logs[0.0]) == pytest.approx(np.std(real, ddof=1), rel=0.05)
    assert np.mean(logs[0.1]) == pytest.approx(math.log1p(0.1), abs=0.001)
    assert made.samples[0].pairs[0].seconds == pytest.approx(0.6)


def test_what_has_too_few_pairs_is_left_out_and_named() -> None:
    steps: list[str] = []
    samples = [_sample(CELLS[0], 0.0), _sample(CELLS[0], 0.05, pairs=5), _sample(CELLS[1], 0.05)]
    drawing = Drawing(resamples=1, runs=1, other_tool_runs=0)
    rates = error_rates(_collected(*samples), SETTINGS, drawing, steps.append)
    assert [(rate.slowdown, rate.cell) for rate in rates] == [(0.0, CELLS[0]), (0.0, None)]
    assert steps[:2] == [
        "left out: onnx-int8 batch 8 has no pairs of identical sides: collect them first",
        "left out, 5% slower, with fewer than 6 pairs each: onnx-int8 batch 1 (5): collect more with "
        "--resume",
    ]


@pytest.mark.parametrize("samples", [[], [_sample(CELLS[0], 0.0, pairs=5)]], ids=["none", "five"])
def test_nothing_to_draw_from_is_an_error_in_one_line(samples: list[SlowdownSample]) -> None:
    message = "no cell has 6 process pairs of identical sides, which draws need: collect more with --budget"
    with pytest.raises(RecordError, match=message):
        error_rates(_collected(*samples), SETTINGS, Drawing())
