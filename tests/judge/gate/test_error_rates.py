"""Gate runs that are drawn from pairs whose true difference is known."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from embedopt.errors import RecordError
from embedopt.evidence import Cell, ProcessPair, SlowdownSample, SlowdownSamples
from embedopt.judge.gate.error_rates import GATE, Drawing, ErrorRate, error_rates
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
        made.append(ProcessPair(log_ratio=ratio, base_ms=tuple(base), head_ms=tuple(head)))
    return SlowdownSample(cell=cell, slowdown=slowdown, pairs=tuple(made))


def _collected(*samples: SlowdownSample) -> SlowdownSamples:
    return SlowdownSamples(
        hardware_class="Test CPU", samples=samples, seconds=5.0 * sum(len(sample.pairs) for sample in samples)
    )


def _by_rule(rates: Sequence[ErrorRate], slowdown: float, cell: Cell | None) -> dict[str, float]:
    return {rate.rule: rate.share for rate in rates if (rate.slowdown, rate.cell) == (slowdown, cell)}


def test_the_gate_is_right_where_the_rules_of_other_tools_are_not() -> None:
    samples = [_sample(cell, slowdown) for cell in CELLS for slowdown in (0.0, 0.05)]
    rates = error_rates(_collected(*samples), SETTINGS, Drawing(runs=100, other_tool_runs=50))
    false_alarms, detections = _by_rule(rates, 0.0, None), _by_rule(rates, 0.05, CELLS[2])
    assert list(false_alarms) == [GATE, *OTHER_TOOLS]
    assert (false_alarms[GATE], detections[GATE]) == (0.0, 1.0)
    for rule in OTHER_TOOLS:
        assert false_alarms[rule] > 0.0
        assert detections[rule] < 1.0


def test_alarms_are_counted_for_each_cell() -> None:
    """Only the slowed cell has alarms."""
    samples = [_sample(cell, 0.0) for cell in CELLS] + [_sample(CELLS[0], 0.2)]
    steps: list[str] = []
    rates = error_rates(_collected(*samples), SETTINGS, Drawing(runs=20, other_tool_runs=5), steps.append)
    assert steps == ["drawing runs with a slow-down of 0%", "drawing runs with a slow-down of 20%"]
    gate = [(rate.slowdown, rate.cell, rate.alarms, rate.draws) for rate in rates if rate.rule == GATE]
    identical = [(0.0, cell, 0, 20) for cell in (*CELLS, None)]
    assert gate == [*identical, (0.2, CELLS[0], 20, 20)]


def test_a_budget_that_ends_before_the_confirmation_fails_nothing() -> None:
    """A pair takes 4 s to start and 2 s a cell: 6 of two cells are 48 s, 6 fresh ones of one are 36 s."""

    def sample(cell: Cell, slowdown: float) -> SlowdownSample:
        ratios = [math.log1p(slowdown) + spread for spread in (-0.01, 0.006, -0.004, 0.01, 0.004, -0.006)]
        pairs = [ProcessPair(log_ratio=ratio, base_ms=(1000.0,), head_ms=(1000.0,)) for ratio in ratios]
        return SlowdownSample(cell=cell, slowdown=slowdown, pairs=tuple(pairs))

    samples = (sample(CELLS[0], 0.0), sample(CELLS[1], 0.0), sample(CELLS[0], 0.2))
    collected = SlowdownSamples(hardware_class="Test CPU", samples=samples, seconds=6 * 4.0 + 3 * 6 * 2.0)
    shares = []
    for budget in (93.9, 94.1):
        drawing = Drawing(runs=10, other_tool_runs=1, budget_s=budget, survey_s=10.0)
        shares.append(_by_rule(error_rates(collected, SETTINGS, drawing), 0.2, CELLS[0])[GATE])
    assert shares == [0.0, 1.0]


def test_the_same_seed_draws_the_same_runs() -> None:
    collected = _collected(*(_sample(cell, slowdown) for cell in CELLS for slowdown in (0.0, 0.03)))
    drawing = Drawing(runs=20, other_tool_runs=5)
    assert error_rates(collected, SETTINGS, drawing) == error_rates(collected, SETTINGS, drawing)


def test_the_interval_of_a_share_is_wilsons() -> None:
    """No alarm in 1,000 draws: at most 0.38 %."""
    rate = ErrorRate(rule=GATE, slowdown=0.0, cell=None, alarms=0, draws=1000)
    assert list(rate.interval) == pytest.approx([0.0, 0.0038], abs=1e-4)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "there are no process pairs to draw from: collect some"),
        ([_sample(CELLS[0], 0.05)], "onnx-int8 batch 1 has no pairs of identical sides"),
        ([_sample(CELLS[0], 0.0, pairs=5)], "onnx-int8 batch 1, 0% slower: 5 pairs, wanted 6: collect more"),
    ],
)
def test_too_few_samples_are_an_error_in_one_line(samples: list[SlowdownSample], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        error_rates(_collected(*samples), SETTINGS, Drawing())
