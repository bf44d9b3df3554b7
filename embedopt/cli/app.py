"""The command line: one thin function a command."""

import contextlib
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Annotated

import rich.console
import rich.progress
import typer

from embedopt.cli import calibrate as calibrate_commands
from embedopt.cli import encode as encode_commands
from embedopt.cli import judge as judge_commands
from embedopt.cli import report as report_commands
from embedopt.cli.init import init
from embedopt.errors import EmbedoptError, MissingPackageError, RecordError, UnsupportedModelError
from embedopt.inference.artifacts.quantization_texts import quantization_texts
from embedopt.inference.artifacts.store import ArtifactStore, disk_bytes
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backends import BACKENDS, get_backend, select_backends, split_names
from embedopt.inference.hardware import fitted
from embedopt.inference.loading import open_encoder
from embedopt.inference.saved_settings import forget, save
from embedopt.inference.targets import declare_targets, project_folder
from embedopt.judge.history.saved_runs import History, read_history
from embedopt.judge.newest import Newest, choose
from embedopt.judge.recommend import Requirements, candidates, cheapest
from embedopt.measure.corpus import load_corpus, mixed
from embedopt.measure.options import Options
from embedopt.measure.tune import TUNABLE, Search, TunedFor, search, tunable_modes, winners
from embedopt.report.console import lines
from embedopt.report.summary_tables import render_recommendation, render_summary, render_tuning
from embedopt.report.words import describe_damaged, describe_older

# EX_SOFTWARE of sysexits.h; Python's own exit code, 1, would mean that a run is slower.
_CRASH = 70
# A shell's exit code for a program that SIGPIPE ended, since its reader has gone; Typer's own is 1, too.
_CLOSED_PIPE = 141

app = typer.Typer(
    name="embedopt",
    help="Build, run and compare ways to turn text into embeddings on CPUs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def build(
    backends: Annotated[str, typer.Option(help=f"all, or some of {', '.join(BACKENDS)}.")] = "all",
    model: encode_commands.ModelOption = None,
    revision: encode_commands.RevisionOption = None,
    trust_remote_code: encode_commands.TrustOption = False,
    cache_dir: encode_commands.CacheOption = None,
) -> None:
    """Build the artifacts of backends into the cache."""
    chosen = select_backends(split_names(backends))
    out, status = rich.console.Console(highlight=False, soft_wrap=True), rich.console.Console(stderr=True)
    weights = resolve_weights(model, revision, trust_remote_code=trust_remote_code)
    with status.status("checking the cache") as spinner:
        # Without a terminal a spinner shows nothing, so each step is printed as a line.
        store = ArtifactStore(cache_dir, on_step=spinner.update if status.is_terminal else status.print)
        for row in chosen:
            if len(chosen) > 1 and row.missing_packages:  # for a single backend this is an error
                out.print(
                    f"{row.name:<22}skipped: {' and '.join(row.missing_packages)} not installed", markup=False
                )
                continue
            try:
                folder = store.get(row, weights)
            except UnsupportedModelError as error:
                if len(chosen) == 1:
                    raise
                out.print(f"{row.name:<22}skipped: {error}", markup=False)
                continue
            size = disk_bytes(folder) if row.build else weights.disk_bytes
            out.print(f"{row.name:<22}{size / 1e6:7.1f} MB  {folder}", markup=False)


@app.command()
def summary(
    run: judge_commands.RunArgument = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All tables, not only those that decide between backends.")
    ] = False,
    price_per_hour: report_commands.PriceOption = Options.price_per_hour,
    folder: judge_commands.HistoryOption = judge_commands.STORAGE,
) -> None:
    """Print the tables of a saved run, or without a file the newest answers of the history."""
    history, color = read_history(folder), sys.stdout.isatty()
    newest = choose(history, run, folder)
    typer.echo(render_summary(newest.run, price_per_hour, everything=everything, color=color), nl=False)
    _show_notes(history, newest)


@app.command()
def recommend(
    run: judge_commands.RunArgument = None,
    p99_ms: Annotated[float | None, typer.Option(min=0, help="Longest p99 of a call with one text.")] = None,
    min_cosine: Annotated[float | None, typer.Option(min=-1, max=1, help="Lowest mean cosine.")] = None,
    batch_invariant: Annotated[
        bool, typer.Option("--batch-invariant", help="A text must have the same embedding in any batch.")
    ] = False,
    max_mb: Annotated[float | None, typer.Option(min=0, help="Largest size on disk.")] = None,
    folder: judge_commands.HistoryOption = judge_commands.STORAGE,
) -> None:
    """Name the cheapest backend that meets your requirements; exit code 1 when none does.

    Texts per second are those of calls with many texts, the p99 is that of calls with one.
    """
    history = read_history(folder)
    newest = choose(history, run, folder)
    saved, measured = newest.run, candidates(newest.run)
    if not measured:
        raise RecordError(f"{saved.name} has no throughput in it: run pytest benchmarks/ without -k")
    requirements = Requirements(
        p99_ms=p99_ms, min_cosine=min_cosine, batch_invariant=batch_invariant, max_mb=max_mb
    )
    answer = cheapest(measured, requirements)
    profile = f", {saved.run.profile} profile on {saved.run.hardware_class}" if saved.run else ""
    typer.echo(render_recommendation(answer, f"{saved.name}{profile}"), nl=False)
    _show_notes(history, newest)
    raise typer.Exit(0 if answer.chosen else 1)


def _show_notes(history: History, newest: Newest) -> None:
    if notes := [*describe_damaged(history.damaged), *describe_older(newest)]:
        typer.echo(lines(notes), nl=False)


@app.command()
def tune(
    backend: Annotated[str, typer.Option(help=f"One of {', '.join(TUNABLE)}.")] = "onnx-int8",
    mode: Annotated[TunedFor, typer.Option(help="Which speed to tune for.")] = "both",
    budget: Annotated[float, typer.Option(min=0, max=86_400, help="Seconds to measure for.")] = 120.0,
    corpus: Annotated[
        Path | None, typer.Option(help="Texts to measure on.", show_default="64 texts of all lengths")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Delete the saved settings, and stop.")] = False,
    model: encode_commands.ModelOption = None,
    revision: encode_commands.RevisionOption = None,
    trust_remote_code: encode_commands.TrustOption = False,
    cache_dir: encode_commands.CacheOption = None,
) -> None:
    """Find the fastest settings on this machine, and save them for load_encoder and the suite.

    Only batch_tokens alters embeddings by more than the rounding of floats: it decides which texts share a
    batch, on which the embeddings of a dynamic INT8 backend depend a little.
    """
    row = fitted(get_backend(backend))
    modes = tunable_modes(row, mode)
    if reset:
        deleted = [file for tuned in modes for file in forget(row, tuned, cache_dir)]
        typer.echo("\n".join(f"deleted {file}" for file in deleted) or "nothing was saved")
        return
    texts = mixed(load_corpus(corpus).texts if corpus else quantization_texts())
    weights = resolve_weights(model, revision, trust_remote_code=trust_remote_code)
    with rich.progress.Progress(console=rich.console.Console(stderr=True)) as progress:
        bar = progress.add_task("checking the cache", total=budget)
        store = ArtifactStore(cache_dir, lambda step: progress.update(bar, description=step))
        folder = store.get(row, weights)
        trials_by_mode = {
            tuned: search(
                Search(
                    backend=row,
                    mode=tuned,
                    texts=texts,
                    budget_s=budget / len(modes),
                    open_encoder=partial(
                        open_encoder, folder=folder, mode=tuned, trust_remote_code=trust_remote_code
                    ),
                    on_progress=partial(_show, progress, bar, budget / len(modes) * index),
                )
            )
            for index, tuned in enumerate(modes)
        }
    for tuned, trials in trials_by_mode.items():
        typer.echo(render_tuning(f"{backend}, {tuned}", trials, color=sys.stdout.isatty()), nl=False)
        if any(trial.speed_up for trial in trials):  # else the budget decided nothing: saved settings stay
            file = save(row, tuned, weights, winners(trials), cache_dir)
            typer.echo(f"saved in {file}" if file else "nothing to save: no other value is faster")


def _show(
    progress: rich.progress.Progress, bar: rich.progress.TaskID, before_s: float, step: str, spent_s: float
) -> None:
    progress.update(bar, description=step, completed=before_s + spent_s)


for _command in (judge_commands.compare, judge_commands.history, judge_commands.gate):
    app.command(epilog=judge_commands.EXIT_HELP)(_command)
for _other in (
    encode_commands.encode,
    report_commands.report,
    report_commands.merge,
    report_commands.append,
    report_commands.comment,
    calibrate_commands.calibrate,
    init,
):
    app.command()(_other)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 2 wrong input, 70 a bug, 141 a closed pipe."""
    try:
        declare_targets(project_folder())
        _call(argv)
    except EmbedoptError as error:
        with contextlib.suppress(BrokenPipeError):
            typer.echo(lines([f"embedopt: {error}"]), nl=False, err=True)
        return 2
    except SystemExit as end:  # typer ends every command with it
        if isinstance(end.__context__, BrokenPipeError):
            return _CLOSED_PIPE
        return end.code if isinstance(end.code, int) else 0
    except Exception:
        traceback.print_exc()
        return _CRASH
    return 0


def _call(argv: list[str] | None) -> None:
    try:
        app(argv)
    except ModuleNotFoundError as error:  # embedopt without extras only judges and reports
        if (error.name or "embedopt").startswith("embedopt"):
            raise
        raise MissingPackageError(
            f"this command needs {error.name}, which is not installed: pip install 'embedopt[build]'"
        ) from None
