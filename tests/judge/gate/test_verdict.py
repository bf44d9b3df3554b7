"""Exit codes and headlines, and which test of the suite a verdict answers."""

import pytest

from embedopt.evidence import ExactPair, FigureKind, GateRun
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.verdict import Verdict, exit_code, headline
from embedopt.judge.gate.whole_runs import judge_gate_run
from tests.judge.gate.gate_runs import SAME_COSINE, gate_run, paired_cell

SETTINGS = GateSettings()


def test_faster_with_a_lower_cosine_is_a_regression() -> None:
    pair = ExactPair(backend="onnx-int8", metric="cosine_mean", base=0.9923, head=0.9605)
    verdicts = judge_gate_run(gate_run(paired_cell(-0.5, -0.5), exact=(pair,)), SETTINGS)
    assert [verdict.outcome for verdict in verdicts] == ["improved", "regressed"]
    assert (exit_code(verdicts), headline(verdicts)) == (3, "less accurate: 1 regressed, 1 improved")


@pytest.mark.parametrize(
    ("against", "code", "line"),
    [
        (gate_run(paired_cell(0.0)), 0, "pass: 1 equivalent"),
        (
            gate_run(paired_cell(0.0), paired_cell(None, batch_size=1)),
            0,
            "pass: 1 inconclusive, 1 equivalent",
        ),
        (gate_run(paired_cell(0.2, 0.2)), 1, "slower or bigger: 1 regressed"),
        (
            gate_run(paired_cell(0.2, 0.2), missing="gone"),
            1,
            "slower or bigger: 1 regressed, 1 not comparable",
        ),
        (gate_run(paired_cell(0.0), missing="gone"), 4, "not comparable: 1 not comparable, 1 equivalent"),
        (gate_run(paired_cell(None)), 5, "inconclusive: no time could be decided: 1 inconclusive"),
        # Scores and sizes are always decided: they do not make up for times.
        (
            gate_run(paired_cell(None), exact=(SAME_COSINE,)),
            5,
            "inconclusive: no time could be decided: 1 inconclusive, 1 equivalent",
        ),
        (
            gate_run(paired_cell(0.0), paired_cell(0.2, batch_size=1), exact=(SAME_COSINE,)),
            5,
            "inconclusive: a time looked slower when the budget ended: 1 inconclusive, 2 equivalent",
        ),
        (gate_run(), 5, "inconclusive: no time could be decided: no verdict"),
    ],
)
def test_the_gravest_verdict_decides(against: GateRun, code: int, line: str) -> None:
    verdicts = judge_gate_run(against, SETTINGS)
    assert (exit_code(verdicts), headline(verdicts)) == (code, line)


@pytest.mark.parametrize(
    ("batch_size", "metric", "question"),
    [
        (8, "latency", (8, "time")),
        (0, "load_s", (0, "load")),
        (0, "disk_bytes", (0, "size")),
        (0, "cosine_mean", (0, "accuracy")),
        (0, "drift", (0, "drift")),
    ],
)
def test_a_verdict_answers_one_question(
    batch_size: int, metric: str, question: tuple[int, FigureKind]
) -> None:
    verdict = Verdict(backend="a", batch_size=batch_size, metric=metric, outcome="equivalent")
    kinds: tuple[FigureKind, ...] = ("load", "size", "accuracy", "drift")
    questions: list[tuple[int, FigureKind]] = [(1, "time"), (8, "time"), *((0, kind) for kind in kinds)]
    assert [each for each in questions if verdict.answers(*each)] == [question]


def test_a_verdict_on_a_whole_backend_answers_every_question() -> None:
    verdict = Verdict(backend="a", metric="", outcome="not comparable")
    assert verdict.answers(8, "time")
    assert verdict.answers(0, "accuracy")
