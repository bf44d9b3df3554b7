"""The rule for scores and sizes."""

import dataclasses
import math
from typing import Any

import pytest

from embedopt.evidence import Drift, ExactPair, MovedText
from embedopt.judge.gate.exact_rule import judge_drift, judge_exact, judge_scores
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.verdict import exit_code
from embedopt.records import Accuracy, Run
from tests.runs import make_run


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
def test_a_score_or_size_is_judged_by_its_own_threshold(
    metric: str, base: float, head: float, outcome: str
) -> None:
    pair = ExactPair(backend="onnx-int8", metric=metric, base=base, head=head)
    assert judge_exact(pair, GateSettings()).outcome == outcome


def test_a_verdict_on_a_score_has_the_difference_and_both_values() -> None:
    pair = ExactPair(backend="onnx-int8", metric="cosine_mean", base=0.9923, head=0.9605)
    verdict = judge_exact(pair, GateSettings())
    assert verdict.effect == pytest.approx(-0.0318)
    assert verdict.why == "0.9923 -> 0.9605"


def test_a_change_of_size_is_a_share() -> None:
    pair = ExactPair(backend="onnx-int8", metric="disk_bytes", base=20_000_000, head=21_000_000)
    assert judge_exact(pair, GateSettings()).effect == pytest.approx(0.05)


def _run(**scores: Any) -> Run:
    """A run in which onnx-int8 alone has scores, and no backend a size."""
    return make_run(accuracy={"onnx-int8": Accuracy(texts=805, **scores)}, footprint={})


def test_a_score_is_compared_with_the_last_run_that_has_it() -> None:
    earlier = [_run(cosine_mean=0.99), _run(recall_at_10=0.5)]
    verdicts = judge_scores(earlier, _run(cosine_mean=0.96, recall_at_10=0.5), GateSettings())
    assert [(verdict.metric, verdict.outcome, verdict.why) for verdict in verdicts] == [
        ("cosine_mean", "regressed", "0.99 -> 0.96"),
        ("recall_at_10", "equivalent", "0.5 -> 0.5"),
    ]


def test_scores_that_only_the_run_before_has_are_one_inconclusive_verdict() -> None:
    verdicts = judge_scores([_run(recall_at_10=0.5, cosine_mean=0.99)], _run(), GateSettings())
    assert [(verdict.metric, verdict.outcome, verdict.why) for verdict in verdicts] == [
        ("scores and sizes", "inconclusive", "not in this run: cosine_mean, recall_at_10")
    ]


def test_a_score_that_vanished_fails_until_five_whole_runs_lack_it() -> None:
    unanswered = [
        [
            verdict.unanswered
            for verdict in judge_scores([_run(cosine_mean=0.99), *runs], _run(), GateSettings())
        ]
        for runs in ([_run()] * 4, [_run()] * 5)
    ]
    assert unanswered == [[True], []]


def test_the_scores_of_a_backend_that_is_gone_are_missing_until_that_is_declared() -> None:
    head = _run()
    backends = {name: info for name, info in head.backends.items() if name != "onnx-int8"}
    gone, earlier = dataclasses.replace(head, backends=backends), [_run(cosine_mean=0.99)]
    declared = GateSettings(accept=("removed onnx-int8",))
    assert [
        [(verdict.metric, verdict.outcome, verdict.unanswered) for verdict in verdicts]
        for verdicts in (
            judge_scores(earlier, gone, GateSettings()),
            judge_scores(earlier, gone, declared),
            judge_scores(earlier, head, declared),
        )
    ] == [
        [("scores and sizes", "inconclusive", True)],
        [("", "declared", False)],
        [("scores and sizes", "inconclusive", True)],
    ]


MOVED = Drift(
    backend="onnx-int8",
    similarity_mean=0.9995,
    similarity_min=0.97,
    overlap_at_10=0.94,
    moved=(MovedText(text="forklift driver", similarity=0.97),),
)


def test_vectors_that_moved_have_changed_until_the_change_declares_it() -> None:
    changed = judge_drift(MOVED, GateSettings(), accepted=("drift onnx-fp32",))
    declared = judge_drift(MOVED, GateSettings(), accepted=("drift onnx-int8",))
    moved = (
        "similarity to the base's vectors 0.99950 on average, 94.0% of the ten nearest texts the same, "
        "moved most: 'forklift driver' 0.97000"
    )
    assert (changed.outcome, declared.outcome) == ("vectors changed", "declared")
    assert changed.effect == pytest.approx(-0.03)
    assert changed.why == (
        f'{moved}; embed stored texts again, and declare it: accept = ["drift onnx-int8"] '
        "in [tool.embedopt.gate]"
    )
    assert declared.why == f"{moved}; declared in pyproject.toml"
    assert exit_code([changed]) == 6


def test_rounding_is_no_drift_and_its_threshold_can_be_set() -> None:
    rounding = Drift(backend="onnx-int8", similarity_mean=1.0, similarity_min=0.99995)
    assert judge_drift(rounding, GateSettings(), ()).outcome == "equivalent"
    assert judge_drift(rounding, GateSettings(metrics={"drift": 1e-5}), ()).outcome == "vectors changed"


def test_vectors_without_a_similarity_have_changed() -> None:
    drift = Drift(backend="onnx-int8", why="vectors of shape (1, 2) -> (1, 3)")
    verdict = judge_drift(drift, GateSettings(), ())
    assert (verdict.outcome, verdict.effect) == ("vectors changed", None)
    assert verdict.why.startswith("vectors of shape (1, 2) -> (1, 3); embed stored texts again")
