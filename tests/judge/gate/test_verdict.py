"""Verdicts from evidence whose truth is known."""

import math

import numpy as np
import pytest

from embedopt.evidence import Cell, ExactPair, GateRun, NotComparable, PairedCell, PairsWanted
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.verdict import Verdict, exit_code, flags, headline, judge, judge_cells, plan_pairs

SETTINGS = GateSettings()
_SPREAD = (-0.01, 0.006, -0.004, 0.01, 0.004, -0.006)


def _ratios(change: float, spread: float = 1.0) -> tuple[float, ...]:
    """Six pairs around a change, their standard deviation 0.8 % times ``spread``."""
    return tuple(math.log1p(change) + spread * value for value in _SPREAD)


def _cell(
    change: float | None, fresh: float | None = None, *, spread: float = 1.0, batch_size: int = 32
) -> PairedCell:
    return PairedCell(
        cell=Cell(backend="onnx-int8", batch_size=batch_size),
        log_ratios=() if change is None else _ratios(change, spread),
        fresh=() if fresh is None else _ratios(fresh, spread),
    )


def _against(*cells: PairedCell, exact: tuple[ExactPair, ...] = (), missing: str = "") -> GateRun:
    return GateRun(
        base="main",
        base_commit="c" * 40,
        cells=cells,
        exact=exact,
        not_comparable=(NotComparable(backend="onnx-fp32", why=missing),) if missing else (),
        pairs=6,
        seconds=100.0,
        budget_s=480.0,
    )


_SAME = ExactPair(backend="onnx-int8", metric="cosine_mean", base=0.99, head=0.99)


def _exact(metric: str, base: float, head: float) -> Verdict:
    pair = ExactPair(backend="onnx-int8", metric=metric, base=base, head=head)
    [verdict] = judge(_against(exact=(pair,)), SETTINGS)
    return verdict


@pytest.mark.parametrize(
    ("cell", "outcome"),
    [
        (_cell(0.0), "equivalent"),
        (_cell(0.02), "equivalent"),  # surely slower, and surely by less than 3 %
        (_cell(0.05, 0.05), "regressed"),
        (_cell(0.05), "inconclusive"),  # not yet confirmed
        (_cell(0.05, 0.0), "inconclusive"),
        (_cell(0.035, 0.02), "inconclusive"),  # confirmed as slower, by less than the threshold
        (_cell(-0.05), "improved"),
        (_cell(0.05, spread=6.0), "inconclusive"),
        (_cell(None), "inconclusive"),
    ],
)
def test_the_verdict_on_a_cell(cell: PairedCell, outcome: str) -> None:
    [verdict] = judge_cells([cell], SETTINGS)
    assert verdict.outcome == outcome


def test_a_verdict_says_how_much_and_how_sure() -> None:
    [verdict] = judge_cells([_cell(0.05, 0.05)], SETTINGS)
    assert (verdict.backend, verdict.what, verdict.metric) == ("onnx-int8", "batch 32", "latency")
    assert verdict.effect == pytest.approx(0.05)
    assert verdict.interval is not None
    assert verdict.interval[0] == pytest.approx(0.045, abs=0.001)
    assert verdict.interval[1] == pytest.approx(0.055, abs=0.001)
    assert (verdict.pairs, verdict.why) == (12, "")


def test_the_smallest_effect_is_never_below_the_threshold() -> None:
    [narrow] = judge_cells([_cell(0.0)], SETTINGS)
    [wide] = judge_cells([_cell(0.0, spread=5.0)], SETTINGS)
    assert narrow.smallest_effect == 0.03
    assert wide.smallest_effect == pytest.approx(0.0665, abs=0.0001)


def test_too_few_pairs_decide_nothing() -> None:
    """Five pairs of no spread at all: the normal distribution would be sure, and it is all that is."""
    cell = PairedCell(cell=Cell(backend="a", batch_size=1), log_ratios=(0.2,) * 5)
    [verdict] = judge_cells([cell], SETTINGS)
    why = "5 process pairs; a verdict takes 6: raise --against-budget"
    assert (verdict.outcome, verdict.why) == ("inconclusive", why)
    assert verdict.effect == pytest.approx(math.expm1(0.2))


def test_why_a_flagged_cell_does_not_fail() -> None:
    [pending, refuted] = [judge_cells([cell], SETTINGS)[0] for cell in (_cell(0.05), _cell(0.05, 0.0))]
    assert pending.why == (
        "+5.0% at first, but the budget ended before fresh pairs confirmed it: raise --against-budget"
    )
    assert (pending.suspected, refuted.suspected) == (True, False)
    assert refuted.why == "+5.0% at first, not confirmed by fresh pairs"


def test_many_cells_are_many_chances_to_be_wrong() -> None:
    """What is a sure change alone may be chance among forty; one that is sure enough stays so."""
    weak, strong = _cell(0.035, spread=2.8), _cell(0.2, batch_size=64)
    others = [_cell(0.0, batch_size=size) for size in range(100, 138)]
    assert set(flags([weak], SETTINGS)) == {weak.cell}
    assert set(flags([weak, strong, *others], SETTINGS)) == {strong.cell}


def test_a_backends_threshold_holds_for_it_alone() -> None:
    settings = GateSettings(backends={"onnx-int8": 0.08})
    assert judge_cells([_cell(0.05, 0.05)], settings)[0].outcome == "equivalent"
    assert judge_cells([_cell(0.05, 0.05)], GateSettings(backends={"other": 0.08}))[0].outcome == "regressed"


def test_a_cold_start_has_its_own_threshold() -> None:
    load = Cell(backend="onnx-int8", batch_size=0, metric="load_s")
    cells = [
        PairedCell(cell=load, log_ratios=_ratios(change), fresh=_ratios(change)) for change in (0.07, 0.2)
    ]
    verdicts = [judge_cells([cell], SETTINGS)[0] for cell in cells]
    assert [(of.what, of.outcome) for of in verdicts] == [("load", "equivalent"), ("load", "regressed")]


def test_the_first_pairs_of_all_are_wanted() -> None:
    empty = [_cell(None, batch_size=1), _cell(None)]
    assert plan_pairs(empty, SETTINGS) == tuple(PairsWanted(cell=cell.cell, pairs=6) for cell in empty)


def test_fresh_pairs_come_first_and_what_is_settled_wants_none() -> None:
    wide, flagged = _cell(0.0, spread=6.0, batch_size=1), _cell(0.2, batch_size=8)
    settled = [_cell(0.0, batch_size=16), _cell(-0.2, batch_size=32), _cell(0.2, 0.2, batch_size=64)]
    assert plan_pairs([wide, flagged, *settled], SETTINGS) == (
        PairsWanted(cell=flagged.cell, pairs=6, fresh=True),
        PairsWanted(cell=wide.cell, pairs=2),
    )


def test_a_cell_gets_no_more_than_the_most_pairs() -> None:
    wide = PairedCell(cell=Cell(backend="a", batch_size=1), log_ratios=_ratios(0.0, 12.0) * 3)
    assert plan_pairs([wide], SETTINGS) == ()
    assert plan_pairs([wide], GateSettings(max_pairs=20)) == (PairsWanted(cell=wide.cell, pairs=2),)


def test_a_cold_start_is_bought_only_to_confirm_it() -> None:
    load = Cell(backend="a", batch_size=0, metric="load_s")
    assert plan_pairs([PairedCell(cell=load, log_ratios=_ratios(0.0, 30.0))], SETTINGS) == ()
    assert plan_pairs([PairedCell(cell=load, log_ratios=_ratios(0.3))], SETTINGS) == (
        PairsWanted(cell=load, pairs=6, fresh=True),
    )


@pytest.mark.parametrize(
    ("metric", "base", "head", "outcome"),
    [
        ("cosine_mean", 0.9923, 0.9605, "regressed"),
        ("cosine_mean", 0.9923, 0.9923, "equivalent"),
        ("cosine_mean", 0.9923, 0.9922, "equivalent"),
        ("cosine_mean", 0.9605, 0.9923, "improved"),
        ("batch_invariance_min", 1.0, 0.99, "regressed"),
        ("max_abs_error", 0.001, 0.1, "regressed"),
        ("disk_bytes", 20_000_000, 21_000_000, "regressed"),
        ("disk_bytes", 20_000_000, 20_000_100, "equivalent"),
        ("disk_bytes", 20_000_000, 10_000_000, "improved"),
        ("disk_bytes", 0, 10, "regressed"),
        ("cosine_best", 1.0, 1.0, "not comparable"),
        ("cosine_mean", 1.0, math.nan, "not comparable"),
        ("cosine_mean", -math.inf, 1.0, "not comparable"),
    ],
)
def test_what_is_exact_fails_at_once(metric: str, base: float, head: float, outcome: str) -> None:
    assert _exact(metric, base, head).outcome == outcome


def test_faster_with_a_lower_cosine_is_a_regression() -> None:
    pair = ExactPair(backend="onnx-int8", metric="cosine_mean", base=0.9923, head=0.9605)
    verdicts = judge(_against(_cell(-0.5), exact=(pair,)), SETTINGS)
    assert [verdict.outcome for verdict in verdicts] == ["improved", "regressed"]
    assert verdicts[1].effect == pytest.approx(-0.0318)
    assert verdicts[1].why == "0.9923 -> 0.9605"
    assert (exit_code(verdicts), headline(verdicts)) == (3, "less accurate: 1 regressed, 1 improved")


@pytest.mark.parametrize(
    ("against", "code", "said"),
    [
        (_against(_cell(0.0)), 0, "pass: 1 equivalent"),
        (_against(_cell(0.0), _cell(None, batch_size=1)), 0, "pass: 1 inconclusive, 1 equivalent"),
        (_against(_cell(0.2, 0.2)), 1, "slower or bigger: 1 regressed"),
        (_against(_cell(0.2, 0.2), missing="gone"), 1, "slower or bigger: 1 regressed, 1 not comparable"),
        (_against(_cell(0.0), missing="gone"), 4, "not comparable: 1 not comparable, 1 equivalent"),
        (_against(_cell(None)), 5, "nothing measured that decides: 1 inconclusive"),
        # Scores and sizes are always told: they do not make up for times.
        (
            _against(_cell(None), exact=(_SAME,)),
            5,
            "nothing measured that decides: 1 inconclusive, 1 equivalent",
        ),
        (
            _against(_cell(0.0), _cell(0.2, batch_size=1), exact=(_SAME,)),
            5,
            "nothing measured that decides: 1 inconclusive, 2 equivalent",
        ),
        (_against(), 5, "nothing measured that decides: no verdict"),
    ],
)
def test_the_gravest_verdict_decides(against: GateRun, code: int, said: str) -> None:
    verdicts = judge(against, SETTINGS)
    assert (exit_code(verdicts), headline(verdicts)) == (code, said)


def test_a_backend_that_could_not_be_compared_says_why() -> None:
    [verdict] = judge(_against(missing="the base has no onnx-fp32"), SETTINGS)
    assert (verdict.backend, verdict.outcome) == ("onnx-fp32", "not comparable")
    assert verdict.why == "the base has no onnx-fp32"


def test_identical_sides_are_hardly_ever_flagged_and_never_fail() -> None:
    """9 cells whose pairs spread by 2.3 %, of heavy tails, as the noisiest that were measured: 300 runs."""
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
