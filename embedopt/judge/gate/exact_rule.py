"""The rule for scores and sizes: they repeat exactly, so a change above a small threshold counts at once."""

import math
from collections.abc import Collection, Iterator, Sequence

from embedopt.evidence import Drift, ExactPair
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.verdict import DRIFT, SCORES_AND_SIZES, Outcome, Verdict
from embedopt.judge.history.series import BULK_METRICS
from embedopt.judge.history.trend import FEWEST_RUNS
from embedopt.records import Accuracy, Footprint, Run
from embedopt.schema import metrics

# Measured only where a run names sentence pairs.
_OF_PAIRS = frozenset({"spearman", "spearman_distance"})
_METRICS = {"disk_bytes": metrics(Footprint)["disk_bytes"], **metrics(Accuracy)}


def judge_exact(pair: ExactPair, settings: GateSettings) -> Verdict:
    """Return the verdict on a value that repeats exactly: a change above its threshold counts."""
    if pair.metric not in _METRICS:
        return _not_comparable(
            pair, f"metric {pair.metric!r} is unknown here: read it with the embedopt that wrote it"
        )
    if pair.base is None or pair.head is None or not math.isfinite(pair.head - pair.base):
        return _not_comparable(pair, f"{pair.base} -> {pair.head}: wanted finite numbers; measure again")
    effect, worse = _effect(pair.metric, pair.base, pair.head)
    threshold = settings.threshold_of(pair.backend, pair.metric)
    outcome: Outcome = (
        "regressed" if worse > threshold else "improved" if worse < -threshold else "equivalent"
    )
    why = f"{pair.base:,.6g} -> {pair.head:,.6g}"
    return Verdict(backend=pair.backend, metric=pair.metric, outcome=outcome, effect=effect, why=why)


def judge_drift(drift: Drift, settings: GateSettings, accepted: Collection[str]) -> Verdict:
    """Return the verdict on how far a backend's vectors moved: a change fails unless it is declared.

    Vectors have moved when the similarity of any text is below 1 by more than the threshold.
    """
    effect = None if drift.similarity_min is None else drift.similarity_min - 1.0
    if effect is not None and -effect <= settings.threshold_of(drift.backend, DRIFT):
        return Verdict(backend=drift.backend, metric=DRIFT, outcome="equivalent", effect=effect)
    declaration = f"{DRIFT} {drift.backend}"
    is_declared = declaration in accepted
    moved = drift.why if effect is None else _moved(drift)
    advice = f'embed stored texts again, and declare it: accept = ["{declaration}"] in [tool.embedopt.gate]'
    return Verdict(
        backend=drift.backend,
        metric=DRIFT,
        outcome="declared" if is_declared else "vectors changed",
        effect=effect,
        why=f"{moved}; {'declared in pyproject.toml' if is_declared else advice}",
    )


def judge_scores(earlier: Sequence[Run], head: Run, settings: GateSettings) -> tuple[Verdict, ...]:
    """Compare each score and size of a run with that of the last earlier run that has it.

    The earlier runs come the oldest first. One unanswered verdict for each backend names the scores, sizes
    and figures of the bulk benchmark that the last whole runs have and this run lacks. What a partial run did
    not measure is not named.
    """
    known: dict[tuple[str, str], float] = {}
    for run in earlier:
        known |= _exact_values(run)
    own = _exact_values(head)
    pairs = [
        ExactPair(backend=backend, metric=metric, base=known[backend, metric], head=value)
        for (backend, metric), value in own.items()
        if (backend, metric) in known
    ]
    recent = earlier[start_of_recent(earlier) :]
    lost = {key for run in recent for key in _measured(run)} - _measured(head)
    if head.part is not None:
        failed = head.part.failed
        lost = {(name, metric) for name, metric in lost if name in failed.get(question_of(metric), ())}
    return (*(judge_exact(pair, settings) for pair in pairs), *_missing(lost, head, settings.accept))


def start_of_recent(earlier: Sequence[Run]) -> int:
    """Return the index of the first of the last :data:`FEWEST_RUNS` whole runs; 0 where none is whole."""
    whole = [index for index, run in enumerate(earlier) if run.part is None]
    return next(iter(whole[-FEWEST_RUNS:]), 0)


def question_of(metric: str) -> str:
    """Return the record that holds a score, a size or a figure of the bulk benchmark."""
    return {"disk_bytes": "footprint", **dict.fromkeys(BULK_METRICS, "throughput")}.get(metric, "accuracy")


def _effect(metric: str, base: float, head: float) -> tuple[float, float]:
    """Return the change, and the same with the sign with which above 0 is worse."""
    unit, better = _METRICS[metric]
    effect = head - base
    if unit == "bytes":
        effect /= max(base, 1.0)
    return effect, -effect if better == "higher" else effect


def _moved(drift: Drift) -> str:
    parts = [f"similarity to the base's vectors {drift.similarity_mean:.5f} on average"]
    if drift.overlap_at_10 is not None:
        parts.append(f"{drift.overlap_at_10:.1%} of the ten nearest texts the same")
    parts.append(
        "moved most: " + ", ".join(f"{moved.text!r} {moved.similarity:.5f}" for moved in drift.moved)
    )
    return ", ".join(parts)


def _not_comparable(pair: ExactPair, why: str) -> Verdict:
    return Verdict(backend=pair.backend, metric=pair.metric, outcome="not comparable", why=why)


def _missing(lost: set[tuple[str, str]], head: Run, accepted: Collection[str]) -> Iterator[Verdict]:
    for backend in sorted({name for name, _ in lost}):
        metrics_lost = sorted(metric for name, metric in lost if name == backend)
        if backend not in head.backends and f"removed {backend}" in accepted:
            yield Verdict(backend=backend, metric="", outcome="declared", why="removed")
        else:
            yield Verdict(
                backend=backend,
                metric=SCORES_AND_SIZES,
                outcome="inconclusive",
                why=f"not in this run: {', '.join(metrics_lost)}",
                unanswered=not _OF_PAIRS.issuperset(metrics_lost),
            )


def _measured(run: Run) -> set[tuple[str, str]]:
    """Return which scores, sizes and figures of the bulk benchmark a run has, by backend and metric."""
    bulk = {
        (backend, metric)
        for backend, record in run.throughput.items()
        for metric in BULK_METRICS
        if getattr(record, metric) is not None
    }
    return bulk | _exact_values(run).keys()


def _exact_values(run: Run) -> dict[tuple[str, str], float]:
    """Return the scores and sizes of a run by backend and metric."""
    values = {
        (backend, metric): getattr(record, metric)
        for backend, record in run.accuracy.items()
        for metric in metrics(Accuracy)
    }
    values |= {(backend, "disk_bytes"): record.disk_bytes for backend, record in run.footprint.items()}
    return {key: value for key, value in values.items() if value is not None}
