"""Verdicts, histories and calibrations as tables for a terminal."""

from collections.abc import Mapping, Sequence

from rich.console import RenderableType

from embedopt.errors import RecordError
from embedopt.judge.gate.error_rates import ErrorRate
from embedopt.judge.gate.verdict import Outcome, Verdict, headline
from embedopt.judge.history.series import DEFAULT_METRIC, Roster, Series
from embedopt.judge.history.trend import FEWEST_RUNS, changes
from embedopt.report.console import lines, rendered, table, text
from embedopt.report.words import VERDICT_COLUMNS, figures, span, subject, worth_a_row

_STYLES: Mapping[Outcome, str] = {
    "regressed": "red",
    "improved": "green",
    "inconclusive": "yellow",
    "not comparable": "yellow",
}
# Names that are listed of what may be many.
_LISTED = 5


def render_verdicts(
    title: str, verdicts: Sequence[Verdict], notes: Sequence[str] = (), *, color: bool = False
) -> str:
    """Return the verdict in one line, then a table of what it rests on.

    Scores and sizes that are as they were are counted, not listed.

    Args:
        title: what was held against what.
        verdicts: all of them.
        notes: lines that follow.
        color: whether to use the terminal's colours.
    """
    listed = worth_a_row(verdicts)
    parts: list[RenderableType] = [text(headline(verdicts), style="bold")]
    if listed:
        parts += [_verdicts(title, listed)]
        parts += [text(f"{subject(of)}: {of.why}") for of in listed if of.why]
    if unlisted := len(verdicts) - len(listed):
        parts += [text(f"{unlisted} scores and sizes are as they were")]
    return rendered([*parts, *map(text, notes)], color=color)


def render_places(verdicts: Sequence[Verdict], notes: Sequence[str] = ()) -> str:
    """Say of each time where it lies in the prediction interval of its own history."""
    times = [of for of in verdicts if of.metric == DEFAULT_METRIC]
    short = [of for of in times if of.effect is None]
    if not times:
        return "history: no time over torch-fp32's in this run\n"
    told = [
        f"  {of.backend}: {of.effect:+.1%}, {_where(of)} {span(of.interval)} from {of.pairs} runs"
        for of in times
        if of.effect is not None
    ]
    head = ["this run in the 95 % prediction interval of its own history (times over torch-fp32's)"] * bool(
        told
    )
    if short:
        missing = max(FEWEST_RUNS - of.pairs for of in short)
        cells = f"{len(short)} of {len(times)} cells"
        told += [f"history: {cells} need up to {missing} more runs of this class, model and corpus"]
    return lines([*head, *told, *notes])


def render_history(
    metric: str, kinds: Mapping[str, Sequence[Series]], notes: Sequence[str], *, color: bool = False
) -> str:
    """Return a table of series by kind of run, with their changes.

    Args:
        metric: that is followed.
        kinds: series by the words for their hardware class, model and corpus.
        notes: lines that follow.
        color: whether to use the terminal's colours.
    """
    parts: list[RenderableType] = []
    for kind, found in kinds.items():
        parts += [text(kind, style="dim"), _history(metric, found), ""]
    return rendered([*parts, *map(text, notes)], color=color)


def describe_damaged(damaged: Sequence[RecordError]) -> tuple[str, ...]:
    """Name the files that were passed over."""
    return tuple(f"passed over: {error}" for error in damaged)


def describe_roster(found: Roster) -> tuple[str, ...]:
    """Name new, renamed and vanished benchmarks."""
    groups = {
        "new": found.new,
        "renamed": tuple(f"{old} -> {new}" for old, new in found.renamed),
        "vanished": found.vanished,
    }
    return tuple(f"{len(names)} {what}: {_some(names)}" for what, names in groups.items() if names)


def render_calibration(found: Sequence[ErrorRate], *, color: bool = False) -> str:
    """Return a table of rules, and one of the gate's cells; intervals are at 95 %."""
    slowdowns = sorted({of.slowdown for of in found if of.slowdown > 0})
    found_columns = [f"+{of:.0%}" for of in slowdowns]
    title = "False alarms per cell and per run, and slow-downs found, in per cent"
    rules = table(title, "rule, on the same processes", "per cell", "per run", *found_columns)
    for rule in dict.fromkeys(of.rule for of in found):
        of_rule = [of for of in found if of.rule == rule]
        rules.add_row(
            text(rule),
            _pooled([of for of in of_rule if of.slowdown == 0 and of.cell]),
            _pooled([of for of in of_rule if of.slowdown == 0 and not of.cell]),
            *(_pooled([of for of in of_rule if of.slowdown == slowdown]) for slowdown in slowdowns),
        )
    gate = [of for of in found if of.rule == found[0].rule and of.cell]
    cells = table(f"The same of {found[0].rule}, with 95 % intervals", "cell", "false alarms", *found_columns)
    for cell in dict.fromkeys(str(of.cell) for of in gate):
        by_slowdown = {of.slowdown: of for of in gate if str(of.cell) == cell}
        shown = [by_slowdown.get(slowdown) for slowdown in (0.0, *slowdowns)]
        cells.add_row(text(cell), *("-" if of is None else _with_interval(of) for of in shown))
    return rendered([rules, "", cells], color=color)


def _verdicts(title: str, verdicts: Sequence[Verdict]) -> RenderableType:
    shown = table(title, *VERDICT_COLUMNS)
    for of in verdicts:
        outcome = text(of.outcome, style=_STYLES.get(of.outcome, ""))
        shown.add_row(text(subject(of)), outcome, *figures(of))
    return shown


def _history(metric: str, found: Sequence[Series]) -> RenderableType:
    better = found[0].better if found else "lower"
    shown = table(f"{metric} ({better} is better)", "series", "runs", "first", "last", "changes for good")
    for series in found:
        moved = [
            f"{change.effect:+.1%}" if series.is_log else f"{change.effect:+.5f}"
            for change in changes(series)
        ]
        places = [series.runs[change.at].name for change in changes(series)]
        steps = [f"{effect} at {place}" for effect, place in zip(moved, places, strict=True)]
        first, last = (f"{value:,.4g}" for value in (series.values[0], series.values[-1]))
        shown.add_row(
            text(series.name), str(len(series.values)), first, last, text("\n".join(steps) or "none")
        )
    return shown


def _where(of: Verdict) -> str:
    assert of.effect is not None
    assert of.interval is not None
    low, high = of.interval
    return "above" if of.effect > high else "below" if of.effect < low else "inside"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _pooled(found: Sequence[ErrorRate]) -> str:
    draws = sum(of.draws for of in found)
    return f"{100 * sum(of.alarms for of in found) / draws:.3g}" if draws else "-"


def _with_interval(of: ErrorRate) -> str:
    low, high = of.interval
    return f"{100 * of.share:.3g} ({100 * low:.3g}-{100 * high:.3g})"
