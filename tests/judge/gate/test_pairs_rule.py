"""The rule for times, on process pairs whose true change is known."""

import dataclasses
import math

import numpy as np
import pytest

from embedopt.evidence import Cell, PairedCell, PairsWanted
from embedopt.judge.gate.pairs_rule import flags, judge_cells, plan_pairs
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.verdict import exit_code
from tests.judge.gate.gate_runs import paired_cell, ratios

SETTINGS = GateSettings()


@pytest.mark.parametrize(
    ("cell", "outcome"),
    [
        (paired_cell(0.0), "equivalent"),
        (paired_cell(0.02), "equivalent"),  # certainly slower, and by less than 3 %
        (paired_cell(0.05, 0.05), "regressed"),
        (paired_cell(0.05), "inconclusive"),  # not yet confirmed
        (paired_cell(0.05, 0.0), "inconclusive"),
        (paired_cell(0.035, 0.02), "inconclusive"),  # confirmed as slower, by less than the threshold
        (paired_cell(-0.05), "improved"),
        (paired_cell(0.05, spread=6.0), "inconclusive"),
        (paired_cell(None), "inconclusive"),
    ],
)
def test_the_verdict_on_apaired_cell(cell: PairedCell, outcome: str) -> None:
    [verdict] = judge_cells([cell], SETTINGS)
    assert verdict.outcome == outcome


def test_a_verdict_has_effect_interval_and_number_of_pairs() -> None:
    [verdict] = judge_cells([paired_cell(0.05, 0.05)], SETTINGS)
    assert (verdict.backend, verdict.batch_size, verdict.metric) == ("onnx-int8", 32, "latency")
    assert verdict.effect == pytest.approx(0.05)
    assert verdict.interval is not None
    assert verdict.interval[0] == pytest.approx(0.045, abs=0.001)
    assert verdict.interval[1] == pytest.approx(0.055, abs=0.001)
    assert (verdict.pairs, verdict.why) == (12, "")


def test_a_rate_falls_where_its_log_ratio_is_above_0() -> None:
    """The same evidence as a time that grows by 5 %, which more pairs narrow like it."""
    many = dataclasses.replace(
        paired_cell(0.05, 0.05), cell=Cell(backend="a", batch_size=0, metric="texts_per_s")
    )
    [verdict] = judge_cells([many], SETTINGS)
    assert verdict.outcome == "regressed"
    assert verdict.effect == pytest.approx(1 / 1.05 - 1)
    assert verdict.interval == pytest.approx((-0.0518, -0.0434), abs=0.001)
    wide = dataclasses.replace(many, log_ratios=ratios(0.0, 5.0), fresh=())
    assert plan_pairs([wide], SETTINGS) == (PairsWanted(cell=many.cell, pairs=2),)


def test_the_smallest_effect_is_never_below_the_threshold() -> None:
    [narrow] = judge_cells([paired_cell(0.0)], SETTINGS)
    [wide] = judge_cells([paired_cell(0.0, spread=5.0)], SETTINGS)
    assert narrow.smallest_effect == 0.03
    assert wide.smallest_effect == pytest.approx(0.0665, abs=0.0001)


def test_too_few_pairs_decide_nothing() -> None:
    """Five pairs without any spread: only the assumed normal distribution makes them certain."""
    cell = PairedCell(cell=Cell(backend="a", batch_size=1), log_ratios=(0.2,) * 5)
    [verdict] = judge_cells([cell], SETTINGS)
    why = "5 process pairs; a verdict takes 6: raise --against-budget"
    assert (verdict.outcome, verdict.why) == ("inconclusive", why)
    assert verdict.effect == pytest.approx(math.expm1(0.2))


def test_why_a_flagged_cell_does_not_fail() -> None:
    [pending, refuted] = [
        judge_cells([cell], SETTINGS)[0] for cell in (paired_cell(0.05), paired_cell(0.05, 0.0))
    ]
    assert pending.why == (
        "+5.0% at first, but the budget ended before fresh pairs confirmed it: raise --against-budget"
    )
    assert (pending.suspected, refuted.suspected) == (True, False)
    assert refuted.why == "+5.0% at first, not confirmed by fresh pairs"


def test_a_weak_change_is_no_longer_flagged_among_many_cells() -> None:
    """A change that is clear in one cell alone may be chance among forty; a strong one stays flagged."""
    weak, strong = paired_cell(0.035, spread=2.8), paired_cell(0.2, batch_size=64)
    others = [paired_cell(0.0, batch_size=size) for size in range(100, 138)]
    assert set(flags([weak], SETTINGS)) == {weak.cell}
    assert set(flags([weak, strong, *others], SETTINGS)) == {strong.cell}


def test_a_backends_threshold_holds_for_it_alone() -> None:
    settings = GateSettings(backends={"onnx-int8": 0.08})
    assert judge_cells([paired_cell(0.05, 0.05)], settings)[0].outcome == "equivalent"
    assert (
        judge_cells([paired_cell(0.05, 0.05)], GateSettings(backends={"other": 0.08}))[0].outcome
        == "regressed"
    )


def test_a_cold_start_has_its_own_threshold() -> None:
    cold_start = Cell(backend="onnx-int8", batch_size=0, metric="load_s")
    cells = [
        PairedCell(cell=cold_start, log_ratios=ratios(change), fresh=ratios(change)) for change in (0.07, 0.2)
    ]
    verdicts = [judge_cells([cell], SETTINGS)[0] for cell in cells]
    assert [(verdict.metric, verdict.outcome) for verdict in verdicts] == [
        ("load_s", "equivalent"),
        ("load_s", "regressed"),
    ]


def test_every_cell_first_gets_the_fewest_pairs_of_a_verdict() -> None:
    empty = [paired_cell(None, batch_size=1), paired_cell(None)]
    assert plan_pairs(empty, SETTINGS) == tuple(PairsWanted(cell=cell.cell, pairs=6) for cell in empty)


def test_fresh_pairs_come_first_and_a_decided_cell_gets_none() -> None:
    wide, flagged = paired_cell(0.0, spread=6.0, batch_size=1), paired_cell(0.2, batch_size=8)
    decided = [
        paired_cell(0.0, batch_size=16),
        paired_cell(-0.2, batch_size=32),
        paired_cell(0.2, 0.2, batch_size=64),
    ]
    assert plan_pairs([wide, flagged, *decided], SETTINGS) == (
        PairsWanted(cell=flagged.cell, pairs=6, fresh=True),
        PairsWanted(cell=wide.cell, pairs=2),
    )


def test_a_cell_gets_no_more_than_the_most_pairs() -> None:
    wide = PairedCell(cell=Cell(backend="a", batch_size=1), log_ratios=ratios(0.0, 12.0) * 3)
    assert plan_pairs([wide], SETTINGS) == ()
    assert plan_pairs([wide], GateSettings(max_pairs=20)) == (PairsWanted(cell=wide.cell, pairs=2),)


def test_a_cold_start_is_sampled_only_to_confirm_it() -> None:
    cold_start = Cell(backend="a", batch_size=0, metric="load_s")
    assert plan_pairs([PairedCell(cell=cold_start, log_ratios=ratios(0.0, 30.0))], SETTINGS) == ()
    assert plan_pairs([PairedCell(cell=cold_start, log_ratios=ratios(0.3))], SETTINGS) == (
        PairsWanted(cell=cold_start, pairs=6, fresh=True),
    )


def test_identical_sides_are_hardly_ever_flagged_and_never_fail() -> None:
    """300 runs of 9 cells; pairs spread by 2.3 % with heavy tails, as the noisiest that were measured."""
    rng = np.random.default_rng(5)
    drawn = 0.023 * rng.standard_t(5, size=(300, 2, 9, 8)) / math.sqrt(5 / 3)
    runs = [
        [
            PairedCell(cell=Cell(backend="a", batch_size=size), log_ratios=tuple(first), fresh=tuple(fresh))
            for size, first, fresh in zip(range(9), *run, strict=True)
        ]
        for run in drawn
    ]
    assert sum(bool(flags(cells, SETTINGS)) for cells in runs) <= 3
    assert sum(exit_code(judge_cells(cells, SETTINGS)) == 1 for cells in runs) == 0
