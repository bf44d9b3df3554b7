"""The cheapest backend that meets the requirements, and what the others miss."""

import pytest

from embedopt.judge.history.saved_runs import parse_run
from embedopt.judge.recommend import Candidate, Requirements, candidates, cheapest, with_pareto_front
from embedopt.records import Accuracy, Throughput
from tests.runs import make_file, make_run

FAST = Candidate(
    backend="fast",
    texts_per_s=1000,
    p99_ms=5.0,
    cosine_mean=0.96,
    batch_invariance_min=0.98,
    disk_bytes=23_000_000,
)
EXACT = Candidate(
    backend="exact",
    texts_per_s=400,
    p99_ms=12.0,
    cosine_mean=0.9994,
    batch_invariance_min=1.0,
    disk_bytes=60_000_000,
)
SLOW = Candidate(
    backend="slow",
    texts_per_s=100,
    p99_ms=None,
    cosine_mean=1.0,
    batch_invariance_min=1.0,
    disk_bytes=92_000_000,
)
ALL = (SLOW, FAST, EXACT)


def test_without_requirements_the_fastest_is_chosen() -> None:
    answer = cheapest(ALL, Requirements())
    assert (answer.chosen, answer.others, answer.obstacles) == (FAST, (EXACT, SLOW), {})


@pytest.mark.parametrize(
    ("requirements", "chosen", "obstacles"),
    [
        (Requirements(min_cosine=0.99), EXACT, {"fast": {"--min-cosine": "mean cosine 0.9600"}}),
        (
            Requirements(batch_invariant=True, max_mb=60.0),
            EXACT,
            {"fast": {"--batch-invariant": "batch invariance 0.98000"}, "slow": {"--max-mb": "92.0 MB"}},
        ),
        (
            Requirements(p99_ms=10.0),
            FAST,
            {"exact": {"--p99-ms": "p99 12.0 ms"}, "slow": {"--p99-ms": "not measured"}},
        ),
    ],
)
def test_the_cheapest_that_meets_the_requirements_is_chosen(
    requirements: Requirements, chosen: Candidate, obstacles: dict[str, dict[str, str]]
) -> None:
    answer = cheapest(ALL, requirements)
    assert (answer.chosen, answer.obstacles) == (chosen, obstacles)


def test_a_requirement_is_met_by_a_figure_that_equals_it() -> None:
    assert cheapest(ALL, Requirements(p99_ms=5.0, min_cosine=0.96, max_mb=23.0)).chosen == FAST


def test_where_none_meets_all_the_requirement_that_alone_is_missed_is_named() -> None:
    """Fast fails on its cosine alone, exact on its p99 alone, slow on both its p99 and its size."""
    answer = cheapest(ALL, Requirements(p99_ms=10.0, min_cosine=0.99, max_mb=80.0))
    assert answer.chosen is None
    assert answer.decisive == {"--min-cosine": ("fast",), "--p99-ms": ("exact",)}


def test_candidates_come_from_a_run() -> None:
    measured = candidates(parse_run("run", make_file(make_run())))
    assert [(candidate.backend, candidate.texts_per_s) for candidate in measured] == [
        ("onnx-int8", 1250),
        ("onnx-fp32", 400),
        ("torch-fp32", 250),
    ]
    assert (measured[0].cosine_mean, measured[0].disk_bytes, measured[0].p99_ms) == (
        0.99337,
        23_400_000,
        None,
    )
    assert measured[1].cosine_mean is None
    assert candidates(parse_run("theirs", {"benchmarks": []})) == ()


def test_the_pareto_front() -> None:
    """Off it: a slower one that is no nearer, or nearer by rounding only. Equal ones are both on it."""
    points = {
        "reference": (100, 1.0),
        "same but faster": (200, 0.9999999),
        "twin": (200, 0.9999998),
        "worse": (150, 0.99),
        "fast": (900, 0.97),
        "unmeasured": (None, 0.5),
    }
    run = with_pareto_front(
        make_run(
            throughput={name: Throughput(texts_per_s=rate) for name, (rate, _) in points.items()},
            accuracy={name: Accuracy(cosine_mean=cosine) for name, (_, cosine) in points.items()},
        )
    )
    assert run.pareto_front == ("same but faster", "twin", "fast")
