"""Verdicts, histories and error rates as tables for a terminal."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from rich.console import RenderableType

from embedopt.evidence import Cell, cell_name
from embedopt.judge.gate.error_rates import GATE, ErrorRate
from embedopt.judge.gate.pair_variance import PARTS, PairVariance
from embedopt.judge.gate.verdict import Verdict, headline
from embedopt.judge.history.series import DEFAULT_METRIC, Series
from embedopt.judge.history.trend import FEWEST_RUNS, changes
from embedopt.report.console import Columns, Sheet, lines, rendered, sheet, text
from embedopt.report.words import (
    VERDICT_COLUMNS,
    change,
    failing,
    row_of,
    sentence,
    span,
    subject,
    worth_a_row,
)

# Slow-downs in one table with intervals: more leave no room for the longest name of a cell.
_INTERVALS = 3
# Failing verdicts listed above a table: more would not fit on one screen with it.
_FAILING = 8
_STYLES: Mapping[str, str] = {
    "regressed": "red",
    "vectors changed": "red",
    "improved": "green",
    "inconclusive": "yellow",
    "not comparable": "yellow",
}


def render_verdicts(
    title: str,
    verdicts: Sequence[Verdict],
    notes: Sequence[str] = (),
    *,
    command: str = "",
    color: bool = False,
) -> str:
    """Return the headline of a run, what fails and the command that measures it again, a table, and notes.

    The title says which run was compared with what. Verdicts without figures follow the table with their
    reasons; equivalent scores and sizes are only counted.
    """
    failed, listed = failing(verdicts), worth_a_row(verdicts)
    rows = [row_of(verdict) for verdict in listed if verdict.effect is not None]
    parts: list[RenderableType] = [text(headline(verdicts), style="bold")]
    parts += [text(f"  {subject(verdict)}: {sentence(verdict)}") for verdict in failed[:_FAILING]]
    if len(failed) > _FAILING:
        parts += [text(f"  and {len(failed) - _FAILING} more")]
    if command:
        parts += [text(f"To measure it again:\n  {command}"), ""]
    parts += [Sheet(title=title, heads=VERDICT_COLUMNS, rows=rows, styles=_STYLES) if rows else text(title)]
    parts += map(text, _reasons([verdict for verdict in listed if verdict not in failed[:_FAILING]]))
    if unlisted := len(verdicts) - len(listed):
        parts += [text(f"{unlisted} equivalent scores and sizes are not listed")]
    return rendered([*parts, *map(text, notes)], color=color)


def _reasons(verdicts: Sequence[Verdict]) -> list[str]:
    """Return a line for each reason, with the subjects of all verdicts that have it."""
    by_reason: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        reason = verdict.why if verdict.effect is not None else f"{verdict.outcome}, {verdict.why}"
        by_reason.setdefault(reason.removesuffix(", "), []).append(verdict)
    return [f"{', '.join(map(subject, own))}: {reason}" for reason, own in by_reason.items() if reason]


def render_positions(verdicts: Sequence[Verdict], notes: Sequence[str] = ()) -> str:
    """Return the position of each time of a run in the prediction interval of its own history."""
    all_times = [verdict for verdict in verdicts if verdict.metric == DEFAULT_METRIC]
    times = [verdict for verdict in all_times if not verdict.unanswered]
    notes = [*(f"{subject(v)}: {v.why}" for v in all_times if v.unanswered), *notes]
    if not all_times:
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
    """Return a table of a metric's series and their change points for each kind of run, then notes.

    The keys of ``kinds`` are names: hardware class, model and corpus in words.
    """
    parts: list[RenderableType] = []
    for kind, series in kinds.items():
        parts += [text(kind, style="dim"), _history(metric, series), ""]
    return rendered([*parts, *map(text, notes)], color=color)


def render_error_rates(
    title: str, rates: Sequence[ErrorRate], simulated: Sequence[ErrorRate], *, color: bool = False
) -> str:
    """Return a table of all rules, then tables of the gate's cells, both drawn from pairs and simulated."""
    parts: list[RenderableType] = [text(title, style="bold"), _rules(rates)]
    kinds = {
        "drawn from the collected pairs": rates,
        "simulated: normal pairs with the spread of the collected ones": simulated,
    }
    for kind, own in kinds.items():
        slowdowns = _slowdowns(own)
        for start in range(0, len(slowdowns), _INTERVALS):
            shown = slowdowns[start : start + _INTERVALS]
            parts += ["", _detected(f"Detected in %, with 95 % intervals; {kind}", own, shown)]
        cells = [rate for rate in own if rate.cell]
        parts += ["", _counted(f"Called equivalent in %; {kind}", cells, lambda rate: rate.equivalent)]
        title = f"Looked slower when the budget ended, in %; of runs, those that end with 5; {kind}"
        parts += ["", _counted(title, own, lambda rate: rate.unanswered)]
    return rendered(parts, color=color)


def render_pair_variances(title: str, variances: Sequence[PairVariance], *, color: bool = False) -> str:
    """Return a table of why the log ratios of identical sides vary; empty without any variances."""
    if not variances:
        return ""
    columns: Columns[PairVariance] = (
        ("cell", lambda known: str(known.cell)),
        ("pairs", lambda known: str(known.pairs)),
        ("spread", lambda known: f"{known.spread:.2%}"),
        ("mean", lambda known: f"{known.mean:+.2%} +- {known.error:.2%}"),
        *(
            (part, lambda known, part=part: f"{known.shares[part]:.0%}" if known.shares else "-")
            for part in PARTS
        ),
        ("cancelled", lambda known: "-" if known.cancelled is None else f"{known.cancelled:.1%}"),
    )
    shown = f"{title}: spread of a pair's log ratio on identical sides, and shares of its variance"
    return rendered([sheet(shown, columns, variances), ""], color=color)


def _position(verdict: Verdict) -> str:
    assert verdict.effect is not None
    assert verdict.interval is not None
    low, high = verdict.interval
    where = "above" if verdict.effect > high else "below" if verdict.effect < low else "inside"
    cell = cell_name(verdict.backend, verdict.batch_size)
    return f"  {cell}: {change(verdict)}, {where} {span(verdict.interval)} from {verdict.pairs} runs"


def _history(metric: str, all_series: Sequence[Series]) -> Sheet:
    columns: Columns[Series] = (
        ("series", lambda series: series.name),
        ("runs", lambda series: str(len(series.values))),
        ("first", lambda series: f"{series.values[0]:,.4g}"),
        ("last", lambda series: f"{series.values[-1]:,.4g}"),
        ("lasting changes", lambda series: "\n".join(_steps(series)) or "none"),
    )
    better = all_series[0].better if all_series else "lower"
    return sheet(f"{metric} ({better} is better)", columns, all_series)


def _steps(series: Series) -> list[str]:
    digits = ".1%" if series.is_log else ".5f"
    return [f"{step.effect:+{digits}} at {series.runs[step.at].name}" for step in changes(series)]


def _rules(rates: Sequence[ErrorRate]) -> Sheet:
    def pooled(rule: str, slowdown: float, *, cells: bool = True) -> str:
        own = [
            rate for rate in rates if (rate.rule, rate.slowdown, bool(rate.cell)) == (rule, slowdown, cells)
        ]
        draws = sum(rate.draws for rate in own)
        return f"{100 * sum(rate.alarms for rate in own) / draws:.3g}" if draws else "-"

    columns: Columns[str] = (
        ("rule, on the same processes", str),
        ("per cell", lambda rule: pooled(rule, 0.0)),
        ("per run", lambda rule: pooled(rule, 0.0, cells=False)),
        *((f"+{slowdown:.0%}", partial(pooled, slowdown=slowdown)) for slowdown in _slowdowns(rates)[1:]),
    )
    title = "False alarms per cell and per run, and slow-downs detected, in %"
    return sheet(title, columns, dict.fromkeys(rate.rule for rate in rates))


def _detected(title: str, rates: Sequence[ErrorRate], slowdowns: Sequence[float]) -> Sheet:
    def share(rate: ErrorRate) -> str:
        low, high = rate.interval
        return f"{100 * rate.share:.3g} ({100 * low:.3g}-{100 * high:.3g})"

    return _gate_cells(title, rates, slowdowns, share)


def _counted(title: str, rates: Sequence[ErrorRate], count: Callable[[ErrorRate], int]) -> Sheet:
    return _gate_cells(title, rates, _slowdowns(rates), lambda rate: f"{100 * count(rate) / rate.draws:.3g}")


def _gate_cells(
    title: str, rates: Sequence[ErrorRate], slowdowns: Sequence[float], shown: Callable[[ErrorRate], str]
) -> Sheet:
    gate = {(rate.cell, rate.slowdown): rate for rate in rates if rate.rule == GATE}

    def show(cell: Cell | None, slowdown: float) -> str:
        rate = gate.get((cell, slowdown))
        return shown(rate) if rate else "-"

    columns: Columns[Cell | None] = (
        ("cell", lambda cell: str(cell or "any in a run")),
        *((f"+{slowdown:.0%}", partial(show, slowdown=slowdown)) for slowdown in slowdowns),
    )
    return sheet(title, columns, dict.fromkeys(cell for cell, _ in gate))


def _slowdowns(rates: Sequence[ErrorRate]) -> list[float]:
    return sorted({rate.slowdown for rate in rates})
