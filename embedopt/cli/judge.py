"""The commands that judge saved runs: they need no torch, no ONNX Runtime and no model."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from embedopt.errors import RecordError
from embedopt.inference.backends import BACKENDS
from embedopt.judge.gate.settings import GateSettings, read_settings
from embedopt.judge.gate.verdict import EXIT_CODES, exit_code
from embedopt.judge.gate.whole_runs import compare_runs, judge_gate_run, judge_history
from embedopt.judge.history.saved_runs import History, SavedRun, read_history, read_run
from embedopt.judge.history.series import DEFAULT_METRIC, METRICS, Series, roster, series_of
from embedopt.report.console import lines
from embedopt.report.verdict_tables import describe_damaged, describe_roster, render_history, render_verdicts
from embedopt.report.words import JudgedRun

EXIT_HELP = "Exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."

HistoryOption = Annotated[Path, typer.Option("--history", help="Folder of saved runs.", metavar="DIR")]
STORAGE = Path(".benchmarks")
# A history with a file that can't be read is not the whole one.
_NOT_COMPARABLE = 4
_NOTHING = 5


def compare(
    base: Annotated[Path, typer.Argument(help="The saved run to compare with.", metavar="BASE.json")],
    head: Annotated[Path, typer.Argument(help="The saved run that is judged.", metavar="HEAD.json")],
) -> None:
    """Compare two saved runs: scores and sizes, and times that moved by more than separate runs do."""
    old, new = read_run(base), read_run(head)
    verdicts = compare_runs(old, new, _settings())
    notes = describe_roster(roster(old, new))
    _show(JudgedRun(head=new, title=f"{new.name} against {old.name}", verdicts=verdicts, notes=notes))
    raise typer.Exit(exit_code(verdicts))


def history(
    folder: HistoryOption = STORAGE,
    metric: Annotated[
        str, typer.Option(help=f"One of {', '.join(METRICS)}. Times and rates are over torch-fp32's.")
    ] = DEFAULT_METRIC,
) -> None:
    """Show how a metric moved over the saved runs of each hardware class, model and corpus."""
    found = read_history(folder)
    kinds = _series_by_kind(found, metric)
    notes = [*describe_damaged(found.damaged), *_last_roster(found)]
    if not kinds:
        notes.append(f"{folder} has no run with {metric} that can be read: run pytest benchmarks/ first")
    typer.echo(render_history(metric, kinds, notes, color=sys.stdout.isatty()), nl=False)
    raise typer.Exit(_NOT_COMPARABLE if found.damaged else 0 if kinds else _NOTHING)


def gate(
    run: Annotated[
        Path | None,
        typer.Argument(help="A saved run.", metavar="RUN.json", show_default="the newest of the history"),
    ] = None,
    folder: HistoryOption = STORAGE,
) -> None:
    """Judge a run: against the base that was measured beside it (--against), else by its own history."""
    found = read_history(folder)
    if run is None and not found.runs:
        notes = [
            *describe_damaged(found.damaged),
            f"{folder} has no run that can be read: run pytest benchmarks/ first",
        ]
        typer.echo(lines(notes), nl=False)
        raise typer.Exit(_NOT_COMPARABLE if found.damaged else _NOTHING)
    told = judged(found, run_to_judge(found, run, folder))
    _show(told)
    code = exit_code(told.verdicts)
    raise typer.Exit(_NOT_COMPARABLE if found.damaged and code == 0 else code)


def run_to_judge(found: History, run: Path | None, folder: Path) -> SavedRun:
    """Return the run of a file, or without one the newest of a history.

    Raises:
        RecordError: there is none, or it can't be read.
    """
    if run is None and not found.runs:
        damaged = f" ({found.damaged[0]})" if found.damaged else ""
        raise RecordError(
            f"{folder} has no saved run that can be read{damaged}: run pytest benchmarks/ first, "
            "or name a file"
        )
    return read_run(run) if run else found.runs[-1][1]


def judged(found: History, head: SavedRun) -> JudgedRun:
    """Judge a run against the base that was measured beside it, else by its own history."""
    settings, notes = _settings(), describe_damaged(found.damaged)
    if verdicts := judge_gate_run(head, settings):
        return JudgedRun(head=head, title=f"{head.name} against its base", verdicts=verdicts, notes=notes)
    earlier = found.before(head)
    return JudgedRun(
        head=head,
        title=f"{head.name} in its own history ({len(earlier)} earlier runs)",
        verdicts=judge_history(head, earlier, settings),
        notes=(*notes, *(describe_roster(roster(earlier[-1], head)) if earlier else ())),
    )


def _settings() -> GateSettings:
    return read_settings(Path("pyproject.toml"), BACKENDS)


def _show(told: JudgedRun) -> None:
    shown = render_verdicts(told.title, told.verdicts, told.notes, color=sys.stdout.isatty())
    typer.echo(shown, nl=False)


def _series_by_kind(found: History, metric: str) -> dict[str, tuple[Series, ...]]:
    series = {str(kind): series_of(runs, metric) for kind, runs in found.kinds.items()}
    series = series or {"": series_of((), metric)}  # an unknown metric is told, history or not
    return {kind: of for kind, of in series.items() if of}


def _last_roster(found: History) -> tuple[str, ...]:
    """Name what the newest run has that the one of its kind before it has not, and the reverse."""
    if not found.runs:
        return ()
    newest = found.runs[-1][1]
    earlier = found.before(newest)
    return describe_roster(roster(earlier[-1], newest)) if earlier else ()
