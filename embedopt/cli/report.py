"""The commands that show runs, and those that the workflows call: they need no torch and no model."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from embedopt.ci.history_branch import append as append_to_branch
from embedopt.ci.pull_request import GitHub, read_event
from embedopt.cli.judge import STORAGE, HistoryOption, RunArgument, gate_settings
from embedopt.errors import EmbedoptError, GitHubError, RecordError
from embedopt.files import is_standard_output, write_whole
from embedopt.judge.history.saved_runs import History, only_run_file, read_file, read_history, run_files
from embedopt.judge.merge import merge as merge_shards
from embedopt.judge.newest import choose
from embedopt.measure.options import Options
from embedopt.report.comment import NOTHING_TO_MEASURE, render_comment
from embedopt.report.console import lines
from embedopt.report.gitlab import render_code_quality, render_junit
from embedopt.report.judged_run import JudgedRun, judge_run
from embedopt.report.markdown import render_annotations, render_markdown
from embedopt.report.page import render_page
from embedopt.report.words import describe_damaged

# Formats of a verdict, each made from a judged run and the machine's price per hour.
_SHAPES: Mapping[str, Callable[[JudgedRun, float], str]] = {
    "markdown": render_markdown,
    "annotations": lambda judged, _: render_annotations(judged),
    "junit": lambda judged, _: render_junit(judged),
    "codequality": lambda judged, _: render_code_quality(judged),
}
PriceOption = Annotated[float, typer.Option(min=0, help="Dollars for an hour of the machine.")]


def report(
    run: RunArgument = None,
    folder: HistoryOption = STORAGE,
    shape: Annotated[
        Literal["html", "markdown", "annotations", "junit", "codequality"],
        typer.Option(
            "--format",
            help="A page, a summary for a job or a comment, annotations of a job on GitHub, a test report "
            "as JUnit XML, or GitLab's code quality.",
        ),
    ] = "html",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write.", show_default="report.html, or to the terminal"),
    ] = None,
    price_per_hour: PriceOption = Options.price_per_hour,
) -> None:
    """Show a run and its history as a page, or its verdict in a format for GitHub, GitLab and others."""
    saved = read_history(folder)
    newest = choose(saved, run, folder)
    inputs = [*run_files(folder), *([run] if run else ())]
    if shape == "html":
        file, shown = output or Path("report.html"), saved.including(newest.head)
        write_whole(file, render_page(shown, price_per_hour), inputs=inputs)
        message = f"{file}: {len(shown.runs)} run{'s' * (len(shown.runs) != 1)}"
        message = lines([message, *describe_damaged(saved.damaged)])
        typer.echo(message, nl=False, err=is_standard_output(file))
        return
    text = _SHAPES[shape](judge_run(saved, newest, gate_settings()), price_per_hour)
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_whole(output, text, inputs=inputs)


def merge(
    shards: Annotated[
        list[Path],
        typer.Argument(help="Saved runs of some backends each, or folders of them.", metavar="RUN.json ..."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write the whole run to.")],
) -> None:
    """Join runs of some backends each, of one commit and hardware class, into one."""
    files = [file for path in shards for file in run_files(path)]
    if not files:
        raise RecordError(f"no saved run in {', '.join(map(str, shards))}: see the logs of the jobs")
    merged = merge_shards([read_file(file) for file in files])
    write_whole(output, json.dumps(merged), inputs=files)
    typer.echo(f"{output}: {', '.join(merged['embedopt']['backends'])}", err=is_standard_output(output))


def append(
    run: Annotated[Path, typer.Argument(help="A saved run, or a folder with one.", metavar="RUN.json")],
    into: Annotated[Path, typer.Option(help="Folder to copy the branch's files into.", metavar="DIR")],
    remote: Annotated[str, typer.Option(help="Repository to push to.", envvar="EMBEDOPT_REMOTE")] = "origin",
    branch: Annotated[str, typer.Option(help="Branch that holds the history.")] = "benchmark-history",
) -> None:
    """Append a saved run to the branch that holds the history; the branch is created if it does not exist."""
    typer.echo(f"{append_to_branch(only_run_file(run), remote, branch, into)} is on {branch}")


def comment(
    artifact: Annotated[
        Path,
        typer.Argument(help="Folder with what the benchmark workflow saved, if anything.", metavar="DIR"),
    ],
    price_per_hour: PriceOption = Options.price_per_hour,
) -> None:
    """Put the verdict into the one comment of a pull request: a step of comment.yml.

    GitHub's runner sets GITHUB_EVENT_PATH, GITHUB_TOKEN, GITHUB_REPOSITORY and GITHUB_API_URL.
    """
    run = read_event(Path(_variable("GITHUB_EVENT_PATH")))
    if run.why_no_comment:
        typer.echo(f"{run.why_no_comment}: no comment")
        return
    github = GitHub(
        api_url=_variable("GITHUB_API_URL"),
        repository=_variable("GITHUB_REPOSITORY"),
        token=_variable("GITHUB_TOKEN"),
    )
    number = github.pull_request_of(run)
    if number is None:
        typer.echo("no open pull request is at the commit that was measured: no comment")
        return
    judged_run = _judged_artifact(artifact)
    if judged_run is None and run.conclusion == "success":
        done = github.comment(number, NOTHING_TO_MEASURE, only_update=True)
    else:
        ended = {"commit": run.head_sha, "conclusion": run.conclusion, "log_url": run.url}
        done = github.comment(number, render_comment(judged_run, price_per_hour, **ended))
    typer.echo(f"comment on pull request {number}: {done}")


def _judged_artifact(folder: Path) -> JudgedRun | EmbedoptError | None:
    """Judge the run in a folder; return the error where that fails, and None where there is no run."""
    if not folder.is_dir() or not run_files(folder):
        return None
    try:
        return judge_run(History(), choose(History(), only_run_file(folder), folder), gate_settings())
    except EmbedoptError as error:  # anyone may have written the file
        return error


def _variable(name: str) -> str:
    if not (value := os.environ.get(name)):
        raise GitHubError(f"{name} is not set: this command is a step of a workflow on GitHub")
    return value
