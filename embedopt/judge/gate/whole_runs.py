"""What is said of a whole run: by the base beside it, by its own history, by another run."""

import dataclasses
import math
from collections.abc import Sequence

from embedopt.evidence import ExactPair
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.stats import holm
from embedopt.judge.gate.verdict import Outcome, Verdict, judge, judge_exact
from embedopt.judge.history.saved_runs import SavedRun, differences
from embedopt.judge.history.series import DEFAULT_METRIC, Series, series_of
from embedopt.judge.history.trend import FEWEST_RUNS, Position, place
from embedopt.records import Accuracy, Run
from embedopt.schema import metrics

# Of two separate runs, each time over the reference's moves by 9 to 14 % with no change at all, and their
# ratio by up to 20 %: this much, among a dozen cells, is hardly chance. Pairs and histories see more.
_BEYOND_CHANCE = 0.5


def judge_gate_run(head: SavedRun, settings: GateSettings) -> tuple[Verdict, ...]:
    """Return the verdicts against the base that was measured beside a run; none where there was none."""
    if head.run is None or head.run.against is None:
        return ()
    asked = head.run.against.threshold
    chosen = settings if asked is None else dataclasses.replace(settings, threshold=asked)
    return judge(head.run.against, chosen)


def judge_history(head: SavedRun, earlier: Sequence[SavedRun], settings: GateSettings) -> tuple[Verdict, ...]:
    """Return a verdict for each time of a run by its place in its own history, and for each score and size.

    A time has changed when it lies outside what the runs before predict, after Holm over all times, by the
    threshold or more. Scores and sizes are held against the last run of the profile that has them.

    Args:
        head: the run.
        earlier: the runs of its kind before it, the oldest first.
        settings: thresholds and level.
    """
    found = [
        (series, _place(series, head)) for series in series_of((*earlier, head)) if series.runs[-1] is head
    ]
    adjusted = holm([1.0 if at.p_two_sided is None else at.p_two_sided for _, at in found])
    times = tuple(
        _judge_place(series, at, p, settings) for (series, at), p in zip(found, adjusted, strict=True)
    )
    if head.run is None:
        return times
    # Profiles measure batch invariance on different texts.
    alike = [run.run for run in earlier if run.run and run.run.profile == head.run.profile]
    return (*times, *_judge_scores(alike, head.run, settings))


def compare_runs(base: SavedRun, head: SavedRun, settings: GateSettings) -> tuple[Verdict, ...]:
    """Return verdicts on what two separate runs share; none where they share nothing.

    Scores and sizes can be told; a time only where it moved by more than separate runs do by themselves.
    """
    if why := _why_not(base, head):
        return (Verdict(backend="", what="", metric="", outcome="not comparable", why=why),)
    both = [series for series in series_of((base, head)) if len(series.runs) == 2]
    scores = _judge_scores([base.run], head.run, settings) if base.run and head.run else ()
    return (*(_judge_two(series) for series in both), *scores)


def _why_not(base: SavedRun, head: SavedRun) -> str:
    if base.run and head.run:
        return "; ".join(differences(base.run, head.run))
    if base.kind != head.kind:
        return f"its machine or suite is {base.kind}, this one's is {head.kind}"
    return ""


def _place(series: Series, head: SavedRun) -> Position:
    assert series.runs[-1] is head
    earlier = dataclasses.replace(series, runs=series.runs[:-1], values=series.values[:-1])
    return place(earlier, series.values[-1])


def _judge_place(series: Series, at: Position, p: float, settings: GateSettings) -> Verdict:
    outcome: Outcome = "equivalent"
    if at.effect is None:
        outcome = "inconclusive"
    elif p < settings.level and _is_beyond(at.effect, _threshold(series, settings)):
        outcome = "regressed" if at.effect > 0 else "improved"
    return Verdict(
        backend=series.name,
        what="time",
        metric=DEFAULT_METRIC,
        outcome=outcome,
        effect=at.effect,
        interval=at.interval,
        smallest_effect=at.interval[1] if at.interval else None,
        pairs=at.runs,
        why=f"{at.missing} of {FEWEST_RUNS} earlier runs are missing" if at.missing else "",
    )


def _judge_two(series: Series) -> Verdict:
    effect = series.values[1] / series.values[0] - 1
    outcome: Outcome = "inconclusive"
    if _is_beyond(effect, _BEYOND_CHANCE):
        outcome = "regressed" if effect > 0 else "improved"
    return Verdict(
        backend=series.name,
        what="time",
        metric=DEFAULT_METRIC,
        outcome=outcome,
        effect=effect,
        smallest_effect=_BEYOND_CHANCE,
    )


def _threshold(series: Series, settings: GateSettings) -> float:
    return settings.threshold_of(series.name.partition(" batch ")[0], "latency")


def _is_beyond(effect: float, threshold: float) -> bool:
    return abs(math.log1p(effect)) >= math.log1p(threshold)


def _judge_scores(earlier: Sequence[Run], head: Run, settings: GateSettings) -> tuple[Verdict, ...]:
    """Hold each score and size against the last earlier one, and tell what the run before had besides."""
    known: dict[tuple[str, str], float] = {}
    for run in earlier:
        known |= _exact_values(run)
    own = _exact_values(head)
    both = [
        ExactPair(backend=backend, metric=metric, base=known[backend, metric], head=value)
        for (backend, metric), value in own.items()
        if (backend, metric) in known
    ]
    before = _exact_values(earlier[-1]) if earlier else {}
    lacking: dict[str, list[str]] = {}
    for backend, metric in before.keys() - own.keys():
        if backend in head.backends:
            lacking.setdefault(backend, []).append(metric)
    return (
        *(judge_exact(pair, settings) for pair in both),
        *(
            Verdict(
                backend=backend,
                what="scores and sizes",
                metric="",
                outcome="inconclusive",
                why=f"not in this run: {', '.join(sorted(lacking[backend]))}",
            )
            for backend in sorted(lacking)
        ),
    )


def _exact_values(run: Run) -> dict[tuple[str, str], float]:
    found = {
        (backend, metric): getattr(record, metric)
        for backend, record in run.accuracy.items()
        for metric in metrics(Accuracy)
    }
    found |= {(backend, "disk_bytes"): record.disk_bytes for backend, record in run.footprint.items()}
    return {key: value for key, value in found.items() if value is not None}
