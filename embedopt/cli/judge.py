"""The commands that judge saved runs: they need no torch, no ONNX Runtime and no model."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from embedopt.inference.backends import BACKENDS
from embedopt.inference.targets import declare_targets, project_folder
from embedopt.judge.gate.settings import GateSettings, read_settings
from embedopt.judge.gate.verdict import EXIT_CODES, exit_code
from embedopt.judge.gate.whole_runs import compare_runs
from embedopt.judge.history.saved_runs import read_history, read_run
from embedopt.judge.history.series import DEFAULT_METRIC, METRICS, roster, series_of
from embedopt.judge.newest import choose
from embedopt.report.console import lines
from embedopt.report.judged_run import JudgedRun, describe_changed_benchmarks, judge_run
from embedopt.report.verdict_tables import render_history, render_verdicts
from embedopt.report.words import describe_damaged, describe_roster

EXIT_HELP = "Exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."

HistoryOption = Annotated[Path, typer.Option("--history", help="Folder of saved runs.", metavar="DIR")]
RunArgument = Annotated[
    Path | None,
    typer.Argument(
        help="A saved run, which is taken as it is.",
        metavar="RUN.json",
        show_default="the newest answers of the history",
    ),
]
STORAGE = Path(".benchmarks")
# The exit code, too, where a file of the history can't be read: the history is incomplete.
_NOT_COMPARABLE = 4
_INCONCLUSIVE = 5


def compare(
    base: Annotated[Path, typer.Argument(help="The saved run to compare with.", metavar="BASE.json")],
    head: Annotated[Path, typer.Argument(help="The saved run that is judged.", metavar="HEAD.json")],
) -> None:
    """Compare two saved runs: detects changes in scores and sizes, and times that moved by 50 %."""
    before, after = read_run(base), read_run(head)
    verdicts = compare_runs(before, after, gate_settings())
    notes = describe_roster(roster(before, after))
    title = f"{after.name} against {before.name}"
    _show(JudgedRun(head=after, title=title, verdicts=verdicts, notes=notes))
    raise typer.Exit(exit_code(verdicts))


def history(
    folder: HistoryOption = STORAGE,
    metric: Annotated[
        str, typer.Option(help=f"One of {', '.join(METRICS)}. Times and rates are over torch-fp32's.")
    ] = DEFAULT_METRIC,
) -> None:
    """Show how a metric moved over the saved runs of each hardware class, model and corpus."""
    saved = read_history(folder)
    series_of((), metric)  # refuses an unknown metric even where the folder has no run
    by_kind = {str(kind): series_of(runs, metric) for kind, runs in saved.kinds.items()}
    shown = {kind: series for kind, series in by_kind.items() if series}
    notes = list(describe_damaged(saved.damaged))
    if saved.runs:
        notes += describe_changed_benchmarks(saved, saved.runs[-1][1])
    if not shown:
        notes.append(f"{folder} has no run with {metric} that can be read: run pytest benchmarks/ first")
    typer.echo(render_history(metric, shown, notes, color=sys.stdout.isatty()), nl=False)
    raise typer.Exit(_NOT_COMPARABLE if saved.damaged else 0 if shown else _INCONCLUSIVE)


def gate(
    run: RunArgument = None,
    folder: HistoryOption = STORAGE,
) -> None:
    """Judge a run: against the base that was measured beside it (--against), else by its own history.

    Without a file, what the newest run left out is judged by the newest run that answers it.
    """
    saved = read_history(folder)
    if run is None and not saved.runs:
        missing = f"{folder} has no run that can be read: run pytest benchmarks/ first"
        typer.echo(lines([*describe_damaged(saved.damaged), missing]), nl=False)
        raise typer.Exit(_NOT_COMPARABLE if saved.damaged else _INCONCLUSIVE)
    judged = judge_run(saved, choose(saved, run, folder), gate_settings())
    _show(judged)
    code = exit_code(judged.verdicts)
    raise typer.Exit(_NOT_COMPARABLE if saved.damaged and code == 0 else code)


def gate_settings() -> GateSettings:
    """Read the settings of the gate from the pyproject.toml of the current folder, or of one around it."""
    project = project_folder()
    declare_targets(project)  # its rules may name them
    return read_settings(project / "pyproject.toml", BACKENDS)


def _show(judged: JudgedRun) -> None:
    color, command = sys.stdout.isatty(), judged.command
    shown = render_verdicts(judged.title, judged.verdicts, judged.notes, command=command, color=color)
    typer.echo(shown, nl=False)
