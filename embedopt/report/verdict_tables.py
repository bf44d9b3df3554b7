"""Verdicts, histories and error rates as tables for a terminal."""

from collections.abc import Mapping, Sequence

from rich.console import RenderableType

from embedopt.evidence import cell_name
from embedopt.judge.gate.error_rates import GATE, ErrorRate
from embedopt.judge.gate.verdict import Outcome, Verdict, headline
from embedopt.judge.history.series import DEFAULT_METRIC, Series
from embedopt.judge.history.trend import FEWEST_RUNS, Change, changes
from embedopt.report.console import lines, rendered, table, text
from embedopt.report.words import VERDICT_COLUMNS, change, figures, span, subject, worth_a_row

_STYLES: Mapping[Outcome, str] = {
    "regressed": "red",
    "vectors changed": "red",
    "improved": "green",
    "inconclusive": "yellow",
    "not comparable": "yellow",
}


def render_verdicts(
    title: str, verdicts: Sequence[Verdict], notes: Sequence[str] = (), *, color: bool = False
) -> str:
    """Return the headline of the verdicts, then a table of their figures.

    Equivalent scores and sizes are counted, not listed.

    Args:
        title: which run, and what it was compared with.
        verdicts: all of them.
        notes: lines that follow.
        color: whether to use the terminal's colours.
    """
    listed = worth_a_row(verdicts)
    parts: list[RenderableType] = [text(headline(verdicts), style="bold")]
    if listed:
        parts += [_verdicts(title, listed)]
        parts += [text(f"{subject(verdict)}: {verdict.why}") for verdict in listed if verdict.why]
    if unlisted := len(verdicts) - len(listed):
        parts += [text(f"{unlisted} equivalent scores and sizes are not listed")]
    return rendered([*parts, *map(text, notes)], color=color)


def render_positions(verdicts: Sequence[Verdict], notes: Sequence[str] = ()) -> str:
    """Return the position of each time of a run in the prediction interval of its own history."""
    times = [verdict for verdict in verdicts if verdict.metric == DEFAULT_METRIC]
    if not times:
        return "history: no time over torch-fp32's in this run\n"
    shown = [_position(verdict) for verdict in times if verdict.interval]
    if shown:
        shown.insert(
            0, "this run in the 95 % prediction interval of its own history (times over torch-fp32's)"
        )
    if short := [verdict for verdict in times if not verdict.interval]:
        missing = max(FEWEST_RUNS - verdict.pairs for verdict in short)
        cells = f"{len(short)} of {len(times)} cells"
        shown.append(f"history: {cells} need up to {missing} more runs of this class, model and corpus")
    return lines([*shown, *notes])


def render_history(
    metric: str, kinds: Mapping[str, Sequence[Series]], notes: Sequence[str], *, color: bool = False
) -> str:
    """Return a table of series for each kind of run, with their change points.

    Args:
        metric: name of the metric.
        kinds: series by hardware class, model and corpus in words.
        notes: lines that follow.
        color: whether to use the terminal's colours.
    """
    parts: list[RenderableType] = []
    for kind, series in kinds.items():
        parts += [text(kind, style="dim"), _history(metric, series), ""]
    return rendered([*parts, *map(text, notes)], color=color)


def render_error_rates(rates: Sequence[ErrorRate], *, color: bool = False) -> str:
    """Return a table of all rules, and one of the gate's cells with 95 % intervals."""
    slowdowns = sorted({rate.slowdown for rate in rates if rate.slowdown > 0})
    parts = [_rules(rates, slowdowns), "", _gate_cells(rates, slowdowns)]
    return rendered(parts, color=color)


def _verdicts(title: str, verdicts: Sequence[Verdict]) -> RenderableType:
    shown = table(title, *VERDICT_COLUMNS)
    for verdict in verdicts:
        outcome = text(verdict.outcome, style=_STYLES.get(verdict.outcome, ""))
        shown.add_row(text(subject(verdict)), outcome, *figures(verdict))
    return shown


def _position(verdict: Verdict) -> str:
    assert verdict.effect is not None
    assert verdict.interval is not None
    low, high = verdict.interval
    where = "above" if verdict.effect > high else "below" if verdict.effect < low else "inside"
    cell = cell_name(verdict.backend, verdict.batch_size)
    return f"  {cell}: {change(verdict)}, {where} {span(verdict.interval)} from {verdict.pairs} runs"


def _history(metric: str, all_series: Sequence[Series]) -> RenderableType:
    better = all_series[0].better if all_series else "lower"
    shown = table(f"{metric} ({better} is better)", "series", "runs", "first", "last", "lasting changes")
    for series in all_series:
        first, last = (f"{value:,.4g}" for value in (series.values[0], series.values[-1]))
        steps = "\n".join(_step(series, step) for step in changes(series))
        shown.add_row(text(series.name), str(len(series.values)), first, last, text(steps or "none"))
    return shown


def _step(series: Series, step: Change) -> str:
    effect = f"{step.effect:+.1%}" if series.is_log else f"{step.effect:+.5f}"
    return f"{effect} at {series.runs[step.at].name}"


def _rules(rates: Sequence[ErrorRate], slowdowns: Sequence[float]) -> RenderableType:
    title = "False alarms per cell and per run, and slow-downs detected, in %"
    shown = table(title, "rule, on the same processes", "per cell", "per run", *_heads(slowdowns))
    for rule in dict.fromkeys(rate.rule for rate in rates):
        own = [rate for rate in rates if rate.rule == rule]
        shown.add_row(
            text(rule),
            _pooled([rate for rate in own if rate.slowdown == 0 and rate.cell]),
            _pooled([rate for rate in own if rate.slowdown == 0 and not rate.cell]),
            *(_pooled([rate for rate in own if rate.slowdown == slowdown]) for slowdown in slowdowns),
        )
    return shown


def _gate_cells(rates: Sequence[ErrorRate], slowdowns: Sequence[float]) -> RenderableType:
    shown = table(f"{GATE} by cell, with 95 % intervals", "cell", "false alarms", *_heads(slowdowns))
    gate = {(rate.cell, rate.slowdown): rate for rate in rates if rate.rule == GATE}
    for cell in dict.fromkeys(cell for cell, _ in gate if cell):
        own = [gate.get((cell, slowdown)) for slowdown in (0.0, *slowdowns)]
        shown.add_row(text(str(cell)), *("-" if rate is None else _with_interval(rate) for rate in own))
    return shown


def _heads(slowdowns: Sequence[float]) -> list[str]:
    return [f"+{slowdown:.0%}" for slowdown in slowdowns]


def _pooled(rates: Sequence[ErrorRate]) -> str:
    draws = sum(rate.draws for rate in rates)
    return f"{100 * sum(rate.alarms for rate in rates) / draws:.3g}" if draws else "-"


def _with_interval(rate: ErrorRate) -> str:
    low, high = rate.interval
    return f"{100 * rate.share:.3g} ({100 * low:.3g}-{100 * high:.3g})"
