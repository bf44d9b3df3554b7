"""Judges a whole run: against the base measured beside it, by its own history, or against another run."""

import dataclasses
import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Sequence

from embedopt.evidence import GateRun, cell_name
from embedopt.judge.gate.exact_rule import (
    judge_drift,
    judge_exact,
    judge_scores,
    question_of,
    start_of_recent,
)
from embedopt.judge.gate.pairs_rule import judge_cells
from embedopt.judge.gate.settings import GateSettings, settings_in_force
from embedopt.judge.gate.stats import holm
from embedopt.judge.gate.verdict import Outcome, Verdict
from embedopt.judge.history.saved_runs import History, SavedRun, differences
from embedopt.judge.history.series import BULK_METRICS, DEFAULT_METRIC, Series, series_of
from embedopt.judge.history.trend import FEWEST_RUNS, Position, position_of
from embedopt.judge.newest import Answer, Newest

# In two separate runs of the same code, each time over the reference's moves by 9 to 14 %, and their ratio by
# up to 20 %. A change of this size, among a dozen cells, is hardly chance. Process pairs and histories detect
# smaller ones.
_BEYOND_CHANCE = 0.5


def judge_gate_run(gate_run: GateRun, settings: GateSettings) -> tuple[Verdict, ...]:
    """Return a verdict for every cell, exact value, drift, and backend that could not be compared.

    The base's rules judge, so that a change can't widen its own thresholds; ``settings`` judge where the base
    has none. A threshold that the gate run was started with replaces that of either.
    """
    if gate_run.rules is not None:
        settings = settings_in_force(gate_run.rules, f"pyproject.toml of {gate_run.base}", gate_run.threshold)
    elif gate_run.threshold is not None:
        settings = dataclasses.replace(settings, threshold=gate_run.threshold)
    verdicts = (
        *judge_cells(gate_run.cells, settings),
        *(judge_exact(pair, settings) for pair in gate_run.exact),
        *(judge_drift(drift, settings, gate_run.accepted) for drift in gate_run.drift),
        *(_judge_removed(backend, gate_run.accepted) for backend in gate_run.removed),
        *(
            Verdict(
                backend=backend, metric="", outcome="measured alone", why="new: nothing to compare it with"
            )
            for backend in gate_run.added
        ),
        *(
            Verdict(
                backend=reason.backend,
                batch_size=reason.cell.batch_size if reason.cell else 0,
                metric=reason.cell.metric if reason.cell else "",
                outcome="not comparable",
                why=reason.why,
            )
            for reason in gate_run.not_comparable
        ),
    )
    return _gravest_of_each(_shown(verdict, settings) for verdict in verdicts)


def _gravest_of_each(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """Return one verdict on each figure: each shard of a merged run may have one on the reference.

    A whole backend keeps one for each reason.
    """
    gravest: dict[tuple[str, int, str], Verdict] = {}
    for verdict in verdicts:
        key = (verdict.backend, verdict.batch_size, verdict.metric or verdict.why)
        gravest[key] = min(gravest.get(key, verdict), verdict, key=lambda one: one.gravity)
    return tuple(gravest.values())


def _shown(verdict: Verdict, settings: GateSettings) -> Verdict:
    """Return a verdict; it can't fail where the settings switch its metric off."""
    if settings.fails(verdict.backend, verdict.metric):
        return verdict
    why = "; ".join(filter(None, (verdict.why, "[tool.embedopt.gate] metrics switches it off")))
    return dataclasses.replace(verdict, fails=False, why=why)


def _judge_removed(backend: str, accepted: Collection[str]) -> Verdict:
    declaration = f"removed {backend}"
    if declaration in accepted:
        return Verdict(backend=backend, metric="", outcome="declared", why="removed")
    why = f'removed: declare it with accept = ["{declaration}"] in [tool.embedopt.gate]'
    return Verdict(backend=backend, metric="", outcome="not comparable", why=why)


def judge_history(head: SavedRun, earlier: Sequence[SavedRun], settings: GateSettings) -> tuple[Verdict, ...]:
    """Return a verdict for each time of a run by the earlier runs of its kind, and for each score and size.

    The earlier runs come the oldest first. A time has changed when it lies outside what they predict, after
    Holm over all times, and by at least the threshold. Figures of the bulk benchmark are judged in the same
    way, by the runs that encoded as many texts. Scores and sizes are compared with the last run of the same
    profile that has them. A figure that the runs before have and this one lacks is unanswered.
    """
    current = [series for series in _judged_series((*earlier, head)) if series.runs[-1] is head]
    positions = [_position(series) for series in current]
    adjusted = holm([place.p_two_sided for place in positions])
    times = tuple(
        _judge_position(series, place, p, settings)
        for series, place, p in zip(current, positions, adjusted, strict=True)
    )
    times += tuple(_missing_times(head, earlier, settings.accept))
    if head.run is None:
        return times
    # Profiles measure batch invariance on different texts.
    alike = [run.run for run in earlier if run.run and run.run.profile == head.run.profile]
    return (*times, *judge_scores(alike, head.run, settings))


def _missing_times(
    head: SavedRun, earlier: Sequence[SavedRun], accepted: Collection[str]
) -> Iterator[Verdict]:
    """Yield a verdict on each backend that lacks a time of the last whole runs, or has one of 0 or below.

    What a partial run did not measure is not missing. What the run does not have may be declared as removed.
    """
    own = {(time.backend, time.batch_size) for time in head.latencies}
    own |= {(name, 0) for name in head.benchmarks}
    sizes: dict[str, list[int]] = {}
    for backend, size in sorted(_wanted_times(head, earlier) - _times(series_of([head]))):
        is_gone = head.run is not None and backend not in head.run.backends
        names = (cell_name(backend, 0 if is_gone else size), cell_name("", size))
        if (backend, size) not in own and any(f"removed {name}" in accepted for name in names):
            yield Verdict(backend=backend, batch_size=size, metric="", outcome="declared", why="removed")
        else:
            sizes.setdefault(backend, []).append(size)
    for backend, lost in sizes.items():
        batches = f": batch {', '.join(map(str, lost))}" if any(lost) else ""
        why = f"not in this run, or not above 0{batches}"
        yield Verdict(
            backend=backend, metric=DEFAULT_METRIC, outcome="inconclusive", why=why, unanswered=True
        )


def _wanted_times(head: SavedRun, earlier: Sequence[SavedRun]) -> set[tuple[str, int]]:
    """Return the times that a run has to have: those of the last whole runs, and all that it measured."""
    alike = [run for run in earlier if _profile(run) == _profile(head)]
    if head.run is None:
        return _times(series_of(alike[-1:])) | {(time.backend, time.batch_size) for time in head.latencies}
    wanted = _times(series_of(alike[start_of_recent([run.run for run in alike if run.run]) :]))
    if head.run.part is not None:
        failed = head.run.part.failed.get("latency", ())
        wanted = {(backend, size) for backend, size in wanted if backend in failed}
    measured = {(time.backend, time.batch_size) for time in head.latencies}
    return wanted | {(backend, size) for backend, size in measured if backend != head.run.reference}


def _times(series: Iterable[Series]) -> set[tuple[str, int]]:
    return {(one.backend, one.batch_size) for one in series}


def _profile(saved: SavedRun) -> str:
    return saved.run.profile if saved.run else ""


def judge_newest(newest: Newest, history: History, settings: GateSettings) -> tuple[Verdict, ...]:
    """Return the verdicts of :func:`judge_history` on a run, and on the older answers that complete it.

    Each older answer is judged by the runs before its own. One of other code counts only where it is worse:
    it can't show that this code passes.
    """
    verdicts = [*judge_history(newest.head, history.before(newest.head), settings)]
    for run, answers in newest.older:
        verdicts += [
            verdict
            for verdict in judge_history(run, history.before(run), settings)
            if _answer(verdict) in answers
            and (run.is_same_code(newest.head) or verdict.outcome == "regressed")
        ]
    return tuple(verdicts)


def _answer(verdict: Verdict) -> Answer:
    if verdict.metric == DEFAULT_METRIC:
        return Answer("latency", verdict.backend, str(verdict.batch_size))
    return Answer(question_of(verdict.metric), verdict.backend, figure=verdict.metric)


def compare_runs(base: SavedRun, head: SavedRun, settings: GateSettings) -> tuple[Verdict, ...]:
    """Return verdicts on what two separate runs both measured, and on what only the base has.

    Detects changes in scores and sizes, and times that moved by 50 %: smaller moves may be noise.
    """
    if why := _why_not_comparable(base, head):
        return (Verdict(backend="", metric="", outcome="not comparable", why=why),)
    shared = [series for series in _judged_series((base, head)) if len(series.runs) == 2]
    scores = judge_scores([base.run], head.run, settings) if base.run and head.run else ()
    return (
        *(_judge_two(series) for series in shared),
        *_missing_times(head, [base], settings.accept),
        *scores,
    )


def _why_not_comparable(base: SavedRun, head: SavedRun) -> str:
    if base.run and head.run:
        return "; ".join(differences(base.run, head.run))
    if base.kind != head.kind:
        return f"its machine or suite is {base.kind}, this one's is {head.kind}"
    return ""


def _judged_series(runs: Sequence[SavedRun]) -> tuple[Series, ...]:
    """Return the series of times, and those of the bulk benchmark in runs with as many texts as the last."""
    alike = [run for run in runs if _bulk_texts(run) == _bulk_texts(runs[-1])]
    bulk = [series_of(alike, metric) for metric in BULK_METRICS]
    return tuple(itertools.chain(series_of(runs), *bulk))


def _bulk_texts(run: SavedRun) -> set[int | None]:
    return {throughput.bulk_texts for throughput in run.run.throughput.values()} if run.run else set()


def _position(series: Series) -> Position:
    """Return the position of the last value of a series in the prediction interval of those before."""
    earlier = dataclasses.replace(series, runs=series.runs[:-1], values=series.values[:-1])
    return position_of(series.values[-1], earlier)


def _judge_position(series: Series, place: Position, p: float, settings: GateSettings) -> Verdict:
    if place.effect is None:
        verdict = _verdict(series, "inconclusive")
    else:
        metric = "latency" if series.metric == DEFAULT_METRIC else series.metric
        threshold = settings.threshold_of(series.backend, metric)
        moved = p < settings.level and _reaches(threshold, place.effect)
        verdict = _verdict(series, _direction(series, place.effect) if moved else "equivalent")
    return dataclasses.replace(
        verdict,
        effect=place.effect,
        interval=place.interval,
        smallest_effect=place.interval[1] if place.interval else None,
        pairs=place.runs,
        why=f"{place.missing} of {FEWEST_RUNS} earlier runs are missing" if place.missing else "",
    )


def _judge_two(series: Series) -> Verdict:
    effect = series.values[1] / series.values[0] - 1
    outcome = _direction(series, effect) if _reaches(_BEYOND_CHANCE, effect) else "inconclusive"
    return dataclasses.replace(_verdict(series, outcome), effect=effect, smallest_effect=_BEYOND_CHANCE)


def _verdict(series: Series, outcome: Outcome) -> Verdict:
    return Verdict(
        backend=series.backend, batch_size=series.batch_size, metric=series.metric, outcome=outcome
    )


def _direction(series: Series, effect: float) -> Outcome:
    return "regressed" if (effect > 0) == (series.better == "lower") else "improved"


def _reaches(threshold: float, effect: float) -> bool:
    """Return whether a change is at least the threshold; a change and its inverse get the same answer."""
    return abs(math.log1p(effect)) >= math.log1p(threshold)
