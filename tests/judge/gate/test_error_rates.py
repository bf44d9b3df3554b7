"""Gate runs drawn from pairs whose truth is known."""

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
    """Pairs that spread by 1 %; each process has a luck of 5 % of its own, which a pair's two sides share."""
    rng = np.random.default_rng(cell.batch_size)
    made = []
    for _ in range(pairs):
        ratio = math.log1p(slowdown) + rng.normal(0.0, 0.01)
        base = 10.0 * math.exp(rng.normal(0.0, 0.05)) * np.exp(rng.normal(0.0, 0.02, 30))
        head = base * math.exp(ratio)
        made.append(ProcessPair(log_ratio=ratio, base_ms=tuple(base), head_ms=tuple(head)))
    return SlowdownSample(cell=cell, slowdown=slowdown, pairs=tuple(made))


def _calibration(*samples: SlowdownSample) -> SlowdownSamples:
    return SlowdownSamples(
        hardware_class="Test CPU", samples=samples, seconds=5.0 * sum(len(of.pairs) for of in samples)
    )


def _by_rule(found: Sequence[ErrorRate], slowdown: float, cell: Cell | None) -> dict[str, float]:
    return {of.rule: of.share for of in found if of.slowdown == slowdown and of.cell == cell}


def test_the_gate_is_right_where_the_usual_rules_are_not() -> None:
    samples = [_sample(cell, slowdown) for cell in CELLS for slowdown in (0.0, 0.05)]
    found = error_rates(_calibration(*samples), SETTINGS, Drawing(runs=100, usual_runs=50))
    false_alarms, detections = _by_rule(found, 0.0, None), _by_rule(found, 0.05, CELLS[2])
    assert list(false_alarms) == [GATE, *OTHER_TOOLS]
    assert (false_alarms[GATE], detections[GATE]) == (0.0, 1.0)
    for rule in OTHER_TOOLS:
        assert false_alarms[rule] > 0.0
        assert detections[rule] < 1.0


def test_every_cell_is_counted_by_itself() -> None:
    """One cell is always slowed: its alarms are its own."""
    samples = [_sample(cell, 0.0) for cell in CELLS] + [_sample(CELLS[0], 0.2)]
    found = error_rates(_calibration(*samples), SETTINGS, Drawing(runs=20, usual_runs=5))
    gate = [(of.slowdown, of.cell, of.alarms, of.draws) for of in found if of.rule == GATE]
    identical = [(0.0, cell, 0, 20) for cell in (*CELLS, None)]
    assert gate == [*identical, (0.2, CELLS[0], 20, 20)]


def test_a_budget_that_ends_before_the_confirmation_fails_nothing() -> None:
    """A pair takes 4 s to start and 2 s a cell: 6 of two cells are 48 s, 6 fresh ones of one are 36 s."""

    def sample(cell: Cell, slowdown: float) -> SlowdownSample:
        ratios = [math.log1p(slowdown) + spread for spread in (-0.01, 0.006, -0.004, 0.01, 0.004, -0.006)]
        pairs = [ProcessPair(log_ratio=ratio, base_ms=(1000.0,), head_ms=(1000.0,)) for ratio in ratios]
        return SlowdownSample(cell=cell, slowdown=slowdown, pairs=tuple(pairs))

    samples = (sample(CELLS[0], 0.0), sample(CELLS[1], 0.0), sample(CELLS[0], 0.2))
    calibration = SlowdownSamples(hardware_class="Test CPU", samples=samples, seconds=6 * 4.0 + 3 * 6 * 2.0)
    shares = []
    for budget in (93.9, 94.1):
        drawing = Drawing(runs=10, usual_runs=1, budget_s=budget, survey_s=10.0)
        shares.append(_by_rule(error_rates(calibration, SETTINGS, drawing), 0.2, CELLS[0])[GATE])
    assert shares == [0.0, 1.0]


def test_the_same_seed_draws_the_same() -> None:
    calibration = _calibration(*(_sample(cell, slowdown) for cell in CELLS for slowdown in (0.0, 0.03)))
    drawing = Drawing(runs=20, usual_runs=5)
    assert error_rates(calibration, SETTINGS, drawing) == error_rates(calibration, SETTINGS, drawing)


def test_an_interval_of_a_share() -> None:
    """Wilson's: of no alarm in 1,000 draws, at most 0.38 %."""
    none = ErrorRate(rule=GATE, slowdown=0.0, cell=None, alarms=0, draws=1000)
    assert list(none.interval) == pytest.approx([0.0, 0.0038], abs=1e-4)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([], "the calibration has no pairs: collect some first"),
        ([_sample(CELLS[0], 0.05)], "onnx-int8 batch 1 has no pairs of identical sides"),
        ([_sample(CELLS[0], 0.0, pairs=5)], "onnx-int8 batch 1, 0% slower: 5 pairs, wanted 6: collect more"),
    ],
)
def test_too_little_to_draw_from_is_one_line(samples: list[SlowdownSample], said: str) -> None:
    with pytest.raises(RecordError, match=said):
        error_rates(_calibration(*samples), SETTINGS, Drawing())
