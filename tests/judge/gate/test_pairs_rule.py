"""The rule for times, on process pairs whose true change is known."""

import dataclasses
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedopt.evidence import Cell, PairedCell, PairsWanted
from embedopt.judge.gate.pairs_rule import judge_cells, plan_pairs
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.verdict import exit_code
from embedopt.judge.gate.whole_runs import judge_gate_run
from tests.judge.gate.gate_runs import gate_run, paired_cell, ratios

SETTINGS = GateSettings()


@pytest.mark.parametrize(
    ("cell", "outcome"),
    [
        (paired_cell(0.0), "equivalent"),
        (paired_cell(0.01, spread=0.5), "equivalent"),  # certainly slower, and by less than 2 %
        (paired_cell(0.05, 0.05), "regressed"),
        (paired_cell(0.02, 0.02), "regressed"),  # a change of the threshold counts
        (paired_cell(0.05), "inconclusive"),  # not yet confirmed
        (paired_cell(0.05, 0.0), "inconclusive"),
        (paired_cell(0.015, 0.004, spread=0.8), "equivalent"),  # flagged, and with the fresh pairs below 2 %
        (paired_cell(-0.05), "inconclusive"),
        (paired_cell(-0.05, -0.05), "improved"),
        (paired_cell(0.05, spread=6.0), "inconclusive"),
        (paired_cell(None), "inconclusive"),
    ],
)
def test_the_verdict_on_a_paired_cell(cell: PairedCell, outcome: str) -> None:
    [verdict] = judge_cells([cell], SETTINGS)
    assert verdict.outcome == outcome


def test_a_verdict_has_effect_interval_and_number_of_pairs() -> None:
    [verdict] = judge_cells([paired_cell(0.05, 0.05)], SETTINGS)
    assert (verdict.backend, verdict.batch_size, verdict.metric) == ("onnx-int8", 32, "latency")
    assert verdict.effect == pytest.approx(0.05)
    assert verdict.interval is not None
    assert verdict.interval[0] == pytest.approx(0.044, abs=0.001)
    assert verdict.interval[1] == pytest.approx(0.056, abs=0.001)
    assert (verdict.pairs, verdict.why) == (12, "")


def test_a_rate_falls_where_its_log_ratio_is_above_0() -> None:
    """The same evidence as a time that grows by 5 %, which more pairs narrow like it."""
    many = dataclasses.replace(
        paired_cell(0.05, 0.05), cell=Cell(backend="a", batch_size=0, metric="texts_per_s")
    )
    [verdict] = judge_cells([many], SETTINGS)
    assert verdict.outcome == "regressed"
    assert verdict.effect == pytest.approx(1 / 1.05 - 1)
    assert verdict.interval == pytest.approx((-0.0532, -0.0420), abs=0.001)
    wide = dataclasses.replace(many, log_ratios=ratios(0.0, 5.0), fresh=())
    assert plan_pairs([wide], SETTINGS) == (_later(many.cell, 2),)


def test_the_smallest_effect_is_never_below_the_threshold() -> None:
    [narrow] = judge_cells([paired_cell(0.0)], SETTINGS)
    [wide] = judge_cells([paired_cell(0.0, spread=5.0)], SETTINGS)
    assert narrow.smallest_effect == 0.02
    assert wide.smallest_effect == pytest.approx(0.0801, abs=0.0001)


def test_too_few_pairs_decide_nothing() -> None:
    """Five pairs without any spread: only the assumed normal distribution makes them certain."""
    cell = PairedCell(cell=Cell(backend="a", batch_size=1), log_ratios=(0.2,) * 5)
    [verdict] = judge_cells([cell], SETTINGS)
    why = "5 process pairs; a verdict needs 6: raise --against-budget"
    assert (verdict.outcome, verdict.why) == ("inconclusive", why)
    assert verdict.effect == pytest.approx(math.expm1(0.2))


@pytest.mark.parametrize(
    ("log_ratios", "code"),
    [((2.08, 2.1, 2.05), 5), ((2.08, 0.1, 2.05), 0), ((2.08, 2.1), 0), ((-2.08, -2.1, -2.05), 0)],
)
def test_three_pairs_that_are_all_far_slower_fail_beside_a_cell_that_is_decided(
    log_ratios: tuple[float, ...], code: int
) -> None:
    """The batcher: a request takes eight times as long, and the budget had three pairs for it."""
    batcher = PairedCell(
        cell=Cell(backend="onnx-int8", batch_size=0, metric="served_p50_ms"), log_ratios=log_ratios
    )
    verdicts = judge_gate_run(gate_run(paired_cell(0.0), batcher), SETTINGS)
    assert [verdict.outcome for verdict in verdicts] == ["equivalent", "inconclusive"]
    assert (exit_code(verdicts), verdicts[1].fails_check) == (code, code == 5)


def test_why_a_flagged_cell_does_not_fail() -> None:
    [pending, refuted] = [
        judge_cells([cell], SETTINGS)[0] for cell in (paired_cell(0.05), paired_cell(0.05, 0.0))
    ]
    assert pending.why == (
        "+5.0% at first, but the budget ended before fresh pairs confirmed it: raise --against-budget"
    )
    assert (pending.unanswered, refuted.unanswered) == (True, False)
    assert refuted.why == "+5.0% at first, not confirmed by fresh pairs"


_ONE_SIDED = "equivalent but for outliers, all on one side"


@pytest.mark.parametrize(
    ("far", "pairs", "outcome", "why"),
    [
        ((0.5,), 6, "inconclusive", f"{_ONE_SIDED}; 1 of 6 pairs left out as outliers: +64.9%"),
        ((-0.3,), 6, "inconclusive", f"{_ONE_SIDED}; 1 of 6 pairs left out as outliers: -25.9%"),
        ((0.5,), 11, "equivalent", "1 of 11 pairs left out as outliers: +64.9%"),
        ((0.5, -0.3), 8, "equivalent", "2 of 8 pairs left out as outliers: +64.9%, -25.9%"),
        ((0.5, 0.4), 15, "inconclusive", f"{_ONE_SIDED}; 2 of 15 pairs left out as outliers: +64.9%, +49.2%"),
        ((0.5, 0.4, 0.45), 8, "inconclusive", ""),  # more than a third
    ],
)
def test_outliers_are_left_out_and_named(far: tuple[float, ...], pairs: int, outcome: str, why: str) -> None:
    known = dataclasses.replace(paired_cell(0.0), log_ratios=(*far, *ratios(0.0) * 3)[:pairs])
    [verdict] = judge_cells([known], SETTINGS)
    assert (verdict.outcome, verdict.why, verdict.pairs) == (outcome, why, pairs)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("fresh", "outcome"),
    [
        ((0.05, 0.052, 0.048, 0.05, 0.05, 0.6), "found"),  # confirmed by the others
        ((0.05, 0.052, 0.048, 0.05, 0.05, -0.6), "found"),
        ((0.05, -0.5, 0.052, -0.6, 0.048, 0.05), "inconclusive"),  # two that contradict count
        ((0.003, -0.003, 0.001, -0.001, 0.6, 0.5), "inconclusive"),  # outliers alone confirm nothing
    ],
)
def test_an_outlier_among_fresh_pairs_confirms_nothing(
    fresh: tuple[float, ...], outcome: str, sign: int
) -> None:
    known = dataclasses.replace(
        paired_cell(0.0),
        log_ratios=tuple(sign * one for one in ratios(0.05)),
        fresh=tuple(sign * one for one in fresh),
    )
    [verdict] = judge_cells([known], SETTINGS)
    assert verdict.outcome == {"found": "regressed" if sign > 0 else "improved"}.get(outcome, outcome)


def test_where_a_third_of_heads_processes_are_slow_it_has_not_improved() -> None:
    faster = ratios(-0.05)
    some = (faster[0], 0.45, faster[1], faster[2], 0.46, faster[3])
    [verdict] = judge_cells([dataclasses.replace(paired_cell(0.0), log_ratios=some, fresh=some)], SETTINGS)
    assert verdict.outcome == "inconclusive"


def test_outliers_do_not_undo_a_change_that_fresh_pairs_confirm() -> None:
    """The pairs that are far from the rest are those that showed the change."""
    known = dataclasses.replace(
        paired_cell(0.0),
        log_ratios=(0.1, 0.101, 0.099, 0.1, 0.06, 0.061),
        fresh=(0.005, 0.0052, 0.0048, 0.005, 0.0051, 0.0049),
    )
    [verdict] = judge_cells([known], SETTINGS)
    assert verdict.outcome == "regressed"


def test_a_few_pairs_have_no_outliers() -> None:
    """They decide nothing: all are shown."""
    few = dataclasses.replace(paired_cell(0.0), log_ratios=(0.5, *ratios(0.0)[:4]))
    [verdict] = judge_cells([few], SETTINGS)
    assert verdict.effect == pytest.approx(math.expm1(sum(few.log_ratios) / 5))
    assert verdict.why == "5 process pairs; a verdict needs 6: raise --against-budget"


def test_what_is_no_call_has_no_outliers() -> None:
    """Memory that one process in six loses is what is looked for."""
    memory = Cell(backend="onnx-int8", batch_size=0, metric="grown_rss_bytes")
    [verdict] = judge_cells([PairedCell(cell=memory, log_ratios=(0.5, *ratios(0.0)[:5]))], SETTINGS)
    assert (verdict.outcome, verdict.why) == ("inconclusive", "")


def test_fresh_pairs_of_many_flagged_cells_have_to_be_clearer() -> None:
    """Holm: what confirms one flagged cell is too weak as the only one among nine."""
    weak = paired_cell(0.05, 0.009)
    refuted = [paired_cell(0.05, 0.0, batch_size=size) for size in range(100, 108)]
    assert judge_cells([weak], SETTINGS)[0].outcome == "regressed"
    assert judge_cells([weak, *refuted], SETTINGS)[0].outcome == "inconclusive"


def test_flagged_cells_without_fresh_pairs_count_in_holms_correction_and_hold_a_slow_down_back() -> None:
    """Which of them get fresh pairs depends on what others showed. Improvements that wait fail nothing."""
    weak = paired_cell(0.05, 0.009)
    equivalent = paired_cell(0.0, batch_size=200)
    waiting = [paired_cell(-0.05, batch_size=size) for size in range(100, 108)]
    verdicts = judge_cells([weak, equivalent, *waiting], SETTINGS)
    assert (verdicts[0].outcome, verdicts[0].unanswered) == ("inconclusive", True)
    assert verdicts[0].why.endswith(
        "the budget ended before all flagged cells had an answer: raise --against-budget"
    )
    assert [verdict.unanswered for verdict in verdicts[1:]] == [False] * 9
    assert exit_code(verdicts) == 5


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
    assert plan_pairs(empty, SETTINGS) == tuple(
        PairsWanted(cell=cell.cell, pairs=6, must_fit=False, confirming=4) for cell in empty
    )


def test_fresh_pairs_come_first_and_a_decided_cell_gets_none() -> None:
    wide, flagged = paired_cell(0.0, spread=6.0, batch_size=1), paired_cell(0.2, batch_size=8)
    decided = [
        paired_cell(0.0, batch_size=16),
        paired_cell(-0.2, -0.2, batch_size=32),
        paired_cell(0.2, 0.2, batch_size=64),
    ]
    assert plan_pairs([wide, flagged, *decided], SETTINGS) == (
        _fresh(flagged.cell, 4),
        _later(wide.cell, 2),
    )


@pytest.mark.parametrize(("pairs", "wanted"), [(6, 2), (7, 1), (8, 3), (11, 4), (15, 0), (18, 0)])
def test_an_open_cell_is_looked_at_after_6_8_11_and_15_pairs(pairs: int, wanted: int) -> None:
    cell = Cell(backend="a", batch_size=1)
    wide = PairedCell(cell=cell, log_ratios=(ratios(0.0, 12.0) * 3)[:pairs])
    assert plan_pairs([wide], SETTINGS) == ((_later(cell, wanted),) if wanted else ())


def test_max_pairs_allows_further_looks() -> None:
    wide = PairedCell(cell=Cell(backend="a", batch_size=1), log_ratios=(ratios(0.0, 12.0) * 3)[:15])
    assert plan_pairs([wide], GateSettings(max_pairs=20)) == (_later(wide.cell, 5),)


def test_pairs_between_two_looks_wait_for_the_next() -> None:
    """A seventh pair is not looked at: the level is spent on the looks alone."""
    six, seven = (
        PairedCell(cell=paired_cell(0.0).cell, log_ratios=ratios(0.0) + more) for more in ((), (9.0,))
    )
    assert judge_cells([six], SETTINGS) == judge_cells([seven], SETTINGS)


def test_a_cold_start_is_sampled_only_to_confirm_it() -> None:
    cold_start = Cell(backend="a", batch_size=0, metric="load_s")
    assert plan_pairs([PairedCell(cell=cold_start, log_ratios=ratios(0.0, 30.0))], SETTINGS) == ()
    assert plan_pairs([PairedCell(cell=cold_start, log_ratios=ratios(0.3))], SETTINGS) == (
        _fresh(cold_start, 4),
    )


def test_a_figure_other_than_calls_is_looked_at_once() -> None:
    """It gets all of the level at that look; a cold start gets further pairs, which do not count."""
    cold_start = Cell(backend="a", batch_size=0, metric="load_s")
    call = Cell(backend="a", batch_size=1)
    six = ratios(0.05, 5.0)
    outcomes = [
        judge_cells([PairedCell(cell=cell, log_ratios=log_ratios)], SETTINGS)[0]
        for cell in (cold_start, call)
        for log_ratios in (six, (*six, 0.3, 0.3))
    ]
    assert [verdict.interval for verdict in outcomes[:2]] == [pytest.approx((0.0079, 0.0939), abs=1e-4)] * 2
    assert outcomes[2].interval == pytest.approx((-0.0048, 0.1078), abs=1e-4)
    assert outcomes[3].interval != outcomes[2].interval


@pytest.mark.parametrize(
    ("log_ratios", "pairs", "must_fit"),
    [
        ((), 6, False),
        ((0.0,), 5, True),
        ((0.2,), 2, False),
        ((0.2, 0.2), 1, False),
        ((0.2, 0.1), 4, True),
        ((0.2,) * 3, 3, True),
    ],
)
def test_the_first_pair_of_a_figure_need_not_fit_nor_those_up_to_three_that_would_fail_a_check(
    log_ratios: tuple[float, ...], pairs: int, must_fit: bool
) -> None:
    """The median of a batcher has a threshold of 15 %, many texts one of 2 %."""
    served = Cell(backend="a", batch_size=0, metric="served_p50_ms")
    many = PairedCell(cell=Cell(backend="a", batch_size=0, metric="texts_per_s"), log_ratios=(0.03,))
    assert not plan_pairs([many], SETTINGS)[0].must_fit
    assert plan_pairs([PairedCell(cell=served, log_ratios=log_ratios)], SETTINGS) == (
        PairsWanted(cell=served, pairs=pairs, must_fit=must_fit, confirming=4),
    )


@pytest.mark.parametrize(
    ("fresh", "wanted"),
    [
        ((), 4),
        ((0.1,), 3),
        ((0.1, 0.11, 0.1, 0.09), 0),  # confirmed
        ((0.1, 0.01, 0.06, 0.02), 2),  # neither
        ((0.1, 0.01, 0.06, 0.02, 0.05), 1),
        ((0.1, -0.1, 0.01, -0.02), 0),  # contradicted
        ((0.1, 0.01, 0.06, 0.02, -0.05, 0.01), 0),
    ],
)
def test_fresh_pairs_are_looked_at_after_four_and_after_six(fresh: tuple[float, ...], wanted: int) -> None:
    flagged = dataclasses.replace(paired_cell(0.1), fresh=fresh)
    assert plan_pairs([flagged], SETTINGS) == ((_fresh(flagged.cell, wanted),) if wanted else ())
    [verdict] = judge_cells([flagged], SETTINGS)
    assert verdict.unanswered == bool(wanted)


def test_four_fresh_pairs_confirm_a_change_that_is_large_beside_their_spread() -> None:
    [sure, unsure, refuted] = (
        judge_cells([dataclasses.replace(paired_cell(0.1), fresh=fresh)], SETTINGS)[0]
        for fresh in ((0.1, 0.11, 0.1, 0.09), (0.1, 0.01, 0.06, 0.02), (0.1, -0.1, 0.01, -0.02))
    )
    assert (sure.outcome, sure.pairs) == ("regressed", 10)
    assert unsure.why == (
        "+10.0% at first, but the budget ended before fresh pairs confirmed it: raise --against-budget"
    )
    assert refuted.why.startswith("+10.0% at first, not confirmed by fresh pairs; ")


def test_the_first_look_at_fresh_pairs_gets_a_fifth_of_the_level() -> None:
    """Student's one-sided p of these four is 0.0081 and 0.0125."""
    confirming, not_confirming = (
        dataclasses.replace(paired_cell(0.1), fresh=(0.1, low, 0.08, 0.05)) for low in (0.04, 0.03)
    )
    assert [judge_cells([cell], SETTINGS)[0].outcome for cell in (confirming, not_confirming)] == [
        "regressed",
        "inconclusive",
    ]


def test_the_surest_slow_down_is_confirmed_first_and_an_improvement_last() -> None:
    """What is faster fails nothing if the budget ends before it is confirmed."""
    cells = [
        paired_cell(-0.3, batch_size=1),
        paired_cell(0.1, batch_size=8),
        paired_cell(0.2, spread=6.0, batch_size=16),
        paired_cell(0.2, batch_size=32),
    ]
    assert [request.cell.batch_size for request in plan_pairs(cells, SETTINGS)] == [32, 8, 16, 1]


def _later(cell: Cell, pairs: int) -> PairsWanted:
    """Further pairs, which have to leave room for four that would confirm what they flag."""
    return PairsWanted(cell=cell, pairs=pairs, look="later", confirming=4)


def _fresh(cell: Cell, pairs: int) -> PairsWanted:
    return PairsWanted(cell=cell, pairs=pairs, look="confirmation")


_CHANGES = st.lists(st.floats(-0.1, 0.1), min_size=0, max_size=16)


@given(_CHANGES, _CHANGES)
def test_a_change_and_its_inverse_get_the_same_answer(first: list[float], fresh: list[float]) -> None:
    outcomes = [
        judge_cells([_cell([sign * x for x in first], [sign * x for x in fresh])], SETTINGS)[0].outcome
        for sign in (1, -1)
    ]
    inverse = {"regressed": "improved", "improved": "regressed"}
    assert outcomes[1] == inverse.get(outcomes[0], outcomes[0])


@given(_CHANGES, _CHANGES, st.floats(0, 0.2))
def test_a_larger_slow_down_is_never_equivalent_where_a_smaller_one_is_not(
    first: list[float], fresh: list[float], more: float
) -> None:
    smaller, larger = (
        judge_cells([_cell([x + by for x in first], [x + by for x in fresh])], SETTINGS)[0]
        for by in (0, more)
    )
    if smaller.outcome != "equivalent" and (smaller.effect or 0.0) > 0:
        assert larger.outcome != "equivalent"


def _cell(first: Sequence[float], fresh: Sequence[float]) -> PairedCell:
    return PairedCell(cell=Cell(backend="a", batch_size=1), log_ratios=tuple(first), fresh=tuple(fresh))
