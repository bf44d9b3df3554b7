"""The commands that show runs to people, and the steps of the workflows: they need no torch and no model."""

import json
import os
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from embedopt.ci.history_branch import append as append_to_branch
from embedopt.ci.pull_request import GitHub, WorkflowRun, read_event
from embedopt.cli.judge import STORAGE, HistoryOption, gate_settings
from embedopt.errors import EmbedoptError, GitHubError, RecordError, UsageError
from embedopt.files import write_whole
from embedopt.judge.gate.verdict import exit_code
from embedopt.judge.history.merge import Shard
from embedopt.judge.history.merge import merge as merge_shards
from embedopt.judge.history.saved_runs import History, choose_run, read_file, read_history, read_run
from embedopt.report.console import lines
from embedopt.report.escape import markdown
from embedopt.report.html import render_page
from embedopt.report.judged_run import judge_run
from embedopt.report.markdown import render_annotations, render_markdown
from embedopt.report.words import describe_damaged

Format = Literal["html", "markdown", "annotations"]
PriceOption = Annotated[float, typer.Option(min=0, help="Dollars for an hour of the machine.")]
_SKIPPED = "### embedopt: nothing to measure: this pull request changes nothing that is measured\n"


def report(
    run: Annotated[
        Path | None,
        typer.Argument(help="A saved run.", metavar="RUN.json", show_default="the newest of the history"),
    ] = None,
    folder: HistoryOption = STORAGE,
    shape: Annotated[str, typer.Option("--format", help=f"One of {', '.join(get_args(Format))}.")] = "html",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to write.", show_default="report.html, or the terminal"),
    ] = None,
    price_per_hour: PriceOption = 0.05,
) -> None:
    """Show a run and its history: as a page, as a summary for a job or a comment, as annotations of a job."""
    if shape not in get_args(Format):
        raise UsageError(f"unknown format {shape!r}; known are: {', '.join(get_args(Format))}")
    found = read_history(folder)
    head = choose_run(found, run, folder)
    if shape == "html":
        written = output or Path("report.html")
        shown = found.including(head)
        write_whole(written, render_page(shown, price_per_hour))
        told = f"{written}: {len(shown.runs)} run{'s' * (len(shown.runs) != 1)}"
        typer.echo(lines([told, *describe_damaged(found.damaged)]), nl=False)
        return
    verdict = judge_run(found, head, gate_settings())
    text = render_annotations(verdict) if shape == "annotations" else render_markdown(verdict, price_per_hour)
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_whole(output, text)


def merge(
    shards: Annotated[
        list[Path],
        typer.Argument(help="Saved runs of some backends each, or a folder of them.", metavar="RUN.json ..."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The saved run that they make.")],
) -> None:
    """Join runs of some backends each, of one commit and hardware class, into one."""
    files = [file for path in shards for file in (_runs_in(path) if path.is_dir() else [path])]
    if not files:
        raise RecordError(f"{', '.join(map(str, shards))} has no saved run: the jobs that measure saved none")
    merged = merge_shards([_shard(file) for file in files])
    write_whole(output, json.dumps(merged))
    typer.echo(f"{output}: {', '.join(merged['embedopt']['backends'])}")


def append(
    run: Annotated[Path, typer.Argument(help="A saved run, or a folder with one.", metavar="RUN.json")],
    into: Annotated[Path, typer.Option(help="Folder to leave the files of the branch in.", metavar="DIR")],
    remote: Annotated[str, typer.Option(help="Repository.", envvar="EMBEDOPT_REMOTE")] = "origin",
    branch: Annotated[str, typer.Option(help="Branch that holds the history.")] = "benchmark-history",
) -> None:
    """Append a saved run to the branch that holds the history; it is made where there is none."""
    typer.echo(f"{append_to_branch(_only_run(run), remote, branch, into)} is on {branch}")


def comment(
    artifact: Annotated[
        Path,
        typer.Argument(
            help="Folder with the run that the benchmark workflow saved, if it did.", metavar="DIR"
        ),
    ],
    price_per_hour: PriceOption = 0.05,
) -> None:
    """Put the verdict into the one comment of a pull request: a step of comment.yml.

    The event, the token and the repository are those of GitHub's runner: GITHUB_EVENT_PATH, GITHUB_TOKEN,
    GITHUB_REPOSITORY, GITHUB_API_URL.
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
    if _runs_in(artifact) or run.conclusion != "success":
        done = github.comment(number, _said_of(run, artifact, price_per_hour))
    else:
        done = github.comment(number, _SKIPPED, only_update=True)
    typer.echo(f"comment on pull request {number}: {done}")


def _said_of(run: WorkflowRun, artifact: Path, price_per_hour: float) -> str:
    how, log = markdown(run.conclusion), f"[the log]({run.url})"
    measured = f"\nMeasured at {markdown(run.head_sha[:12])}: {log}.\n"
    if not _runs_in(artifact):
        return f"### embedopt: no verdict: the job ended ({how}) before it saved a run\n{measured}"
    try:
        told = judge_run(History(), read_run(_only_run(artifact)), gate_settings())
        # The required check holds more than the gate: all shards, and the floors of the suite itself.
        only_job_failed = run.conclusion != "success" and not exit_code(told.verdicts)
        besides = f", but the job failed ({how}): {log}" if only_job_failed else ""
        return render_markdown(told, price_per_hour, besides=besides) + measured
    except EmbedoptError as error:  # of whatever kind: anyone can have written what is read here
        return f"### embedopt: no verdict: what the job saved can't be read\n\n{markdown(error)}\n{measured}"


def _shard(file: Path) -> Shard:
    saved, content = read_file(file)
    return Shard(saved=saved, content=content)


def _only_run(path: Path) -> Path:
    """Return a file as it is, and of a folder the one run in it."""
    if not path.is_dir():
        return path
    files = _runs_in(path)
    if len(files) != 1:
        raise RecordError(f"{path} has {len(files)} saved runs; wanted one: name the file, or merge them")
    return files[0]


def _runs_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.json"))


def _variable(name: str) -> str:
    if not (found := os.environ.get(name)):
        raise GitHubError(f"{name} is not set: this command is a step of a workflow on GitHub")
    return found
