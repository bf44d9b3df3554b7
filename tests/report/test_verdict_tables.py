"""Tables of verdicts, of positions in a history, and of error rates."""

import dataclasses
from collections.abc import Sequence

from embedopt.evidence import Cell
from embedopt.judge.gate.error_rates import GATE, ErrorRate
from embedopt.judge.gate.pair_variance import PairVariance
from embedopt.judge.gate.verdict import Verdict
from embedopt.report.verdict_tables import (
    render_error_rates,
    render_pair_variances,
    render_positions,
    render_verdicts,
)
from tests.report.verdicts import GONE, LESS_ACCURATE, OPEN, SAME, SLOWER

_FAILS = (
    "less accurate: 2 regressed, 1 not comparable, 1 equivalent\n"
    "  onnx-int8 batch 8: regressed, +5.1% (+4.3% to +5.9%) in 12 process pairs\n"
    "  onnx-int8 cosine_mean: regressed, -0.03180, 0.9923 -> 0.9605\n"
    "  [b]: not comparable, the base has no [b]\n"
)


def test_what_fails_comes_first_and_then_what_to_do() -> None:
    command = "pytest benchmarks/ -k test_against --against abc --backends onnx-int8 --batch-sizes 8"
    verdicts = [GONE, SLOWER, LESS_ACCURATE, SAME]
    assert render_verdicts("this against main", verdicts, ["a note"], command=command) == (
        f"{_FAILS}"
        "To measure it again:\n"
        f"  {command}\n"
        "\n"
        "this against main\n"
        "what                    verdict   change  95 % interval detectable pairs or runs\n"
        "onnx-int8 batch 8     regressed    +5.1% +4.3% to +5.9%       3.0%            12\n"
        "onnx-int8 cosine_mean regressed -0.03180              -          -             -\n"
        "1 equivalent scores and sizes are not listed\n"
        "a note\n"
    )


def test_what_has_no_figures_is_named_once_with_its_reason() -> None:
    other = dataclasses.replace(OPEN, batch_size=8)
    assert render_verdicts("this against main", [OPEN, other]) == (
        "inconclusive: no time could be decided: 2 inconclusive\n"
        "this against main\n"
        "b batch 1, b batch 8: inconclusive, few pairs\n"
    )


def test_a_whole_screen_is_enough() -> None:
    """One of 50 lines, whatever happens to all cells of three backends."""
    names = [f"backend-{number}" for number in range(3)]
    slower = [
        dataclasses.replace(SLOWER, backend=name, batch_size=size) for name in names for size in range(1, 9)
    ]
    unclear = [
        dataclasses.replace(OPEN, backend=name, batch_size=size) for name in names for size in range(1, 9)
    ]
    shown = render_verdicts("this against main", [*slower, *unclear], command="pytest").splitlines()
    assert "  and 16 more" in shown
    assert len(shown) <= 50


def _time(effect: float | None, runs: int = 8) -> Verdict:
    return Verdict(
        backend="onnx-int8",
        batch_size=8,
        metric="p50_ms",
        outcome="equivalent",
        effect=effect,
        interval=None if effect is None else (-0.08, 0.087),
        pairs=runs,
    )


def test_each_cell_has_a_position_in_its_history() -> None:
    assert render_positions([_time(0.041), _time(0.1), _time(-0.1), SAME]).splitlines() == [
        "this run in the 95 % prediction interval of its own history (times over torch-fp32's)",
        "  onnx-int8 batch 8: +4.1%, inside -8.0% to +8.7% from 8 runs",
        "  onnx-int8 batch 8: +10.0%, above -8.0% to +8.7% from 8 runs",
        "  onnx-int8 batch 8: -10.0%, below -8.0% to +8.7% from 8 runs",
    ]


def test_a_short_history_says_how_many_runs_are_missing() -> None:
    assert render_positions([_time(None, runs=3), _time(None, runs=4)], ["passed over: x"]).splitlines() == [
        "history: 2 of 2 cells need up to 2 more runs of this class, model and corpus",
        "passed over: x",
    ]
    assert render_positions([SAME]) == "history: no time over torch-fp32's in this run\n"


def _rates(
    rule: str, slowdown: float, alarms: Sequence[int], unanswered: Sequence[int] = (0, 0, 0)
) -> list[ErrorRate]:
    cells = [Cell(backend="onnx-int8", batch_size=1), Cell(backend="onnx-int8", batch_size=32), None]
    return [
        ErrorRate(
            rule=rule,
            slowdown=slowdown,
            cell=cell,
            alarms=count,
            equivalent=100 - count,
            unanswered=without_answer,
            draws=100,
            effective_draws=100,
        )
        for cell, count, without_answer in zip(cells, alarms, unanswered, strict=False)
    ]


def test_error_rates_are_shown_for_every_rule_and_for_the_gates_cells() -> None:
    rates = [
        *_rates(GATE, 0.0, (0, 1, 1), (2, 3, 4)),
        *_rates("benchstat", 0.0, (30, 50, 70)),
        *_rates(GATE, 0.05, (96, 100), (5, 0)),
        *_rates("benchstat", 0.05, (80, 90)),
    ]
    shown = render_error_rates("Test CPU", rates, _rates(GATE, 0.02, (88, 90), (6, 7)))
    assert shown.splitlines() == [
        "Test CPU",
        "False alarms per cell and per run, and slow-downs detected, in %",
        "rule, on the same processes per cell per run +5%",
        "embedopt                         0.5       1  98",
        "benchstat                         40      70  85",
        "",
        "Detected in %, with 95 % intervals; drawn from the collected pairs",
        "cell                          +0%            +5%",
        "onnx-int8 batch 1       0 (0-3.7) 96 (90.2-98.4)",
        "onnx-int8 batch 32 1 (0.177-5.45) 100 (96.3-100)",
        "any in a run       1 (0.177-5.45)              -",
        "",
        "Called equivalent in %; drawn from the collected pairs",
        "cell               +0% +5%",
        "onnx-int8 batch 1  100   4",
        "onnx-int8 batch 32  99   0",
        "",
        "Looked slower when the budget ended, in %; of runs, those that end with 5; drawn from the collected",
        "pairs",
        "cell               +0% +5%",
        "onnx-int8 batch 1    2   5",
        "onnx-int8 batch 32   3   0",
        "any in a run         4   -",
        "",
        "Detected in %, with 95 % intervals; simulated: normal pairs with the spread of the collected ones",
        "cell                          +2%",
        "onnx-int8 batch 1    88 (80.2-93)",
        "onnx-int8 batch 32 90 (82.6-94.5)",
        "",
        "Called equivalent in %; simulated: normal pairs with the spread of the collected ones",
        "cell               +2%",
        "onnx-int8 batch 1   12",
        "onnx-int8 batch 32  10",
        "",
        "Looked slower when the budget ended, in %; of runs, those that end with 5; simulated: normal pairs",
        "with the spread of the collected ones",
        "cell               +2%",
        "onnx-int8 batch 1    6",
        "onnx-int8 batch 32   7",
    ]


def test_the_parts_of_a_pairs_variance_are_shown_in_percent() -> None:
    variance = PairVariance(
        cell=Cell(backend="onnx-int8", batch_size=32),
        pairs=60,
        mean=-0.0012,
        error=0.0009,
        spread=0.0071,
        shares={"process": 0.625, "order": 0.0, "texts": 0.005, "neighbours": 0.37},
        cancelled=0.083,
    )
    assert render_pair_variances("Test CPU", [variance]).splitlines() == [
        "Test CPU: spread of a pair's log ratio on identical sides, and shares of its variance",
        "cell               pairs spread            mean process order texts neighbours cancelled",
        "onnx-int8 batch 32    60  0.71% -0.12% +- 0.09%     62%    0%    0%        37%      8.3%",
        "",
    ]
    assert render_pair_variances("Test CPU", []) == ""
