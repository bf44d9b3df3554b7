"""``embedopt init``: sets a repository up, so that its own embeddings are measured and gated."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from embedopt.ci.init import Setup, set_up
from embedopt.errors import UsageError
from embedopt.inference.targets import PYPROJECT, parse_target, read_targets
from embedopt.measure.corpus import load_corpus
from embedopt.report.console import lines

# A commit in full: a branch or tag can be moved.
_FULL_COMMIT = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")


def init(
    call: Annotated[str, typer.Option(help="What embeds, such as shop.embedding:embed.")] = "",
    url: Annotated[str, typer.Option(help="An endpoint, such as http://127.0.0.1:{port}/embed.")] = "",
    start: Annotated[str, typer.Option(help="Command that starts it, with {port}.")] = "",
    texts: Annotated[Path | None, typer.Option(help="Texts to measure on.", show_default="ours")] = None,
    install: Annotated[
        str | None, typer.Option(help="Command that makes .venv.", show_default="by the lock file")
    ] = None,
    embedopt: Annotated[
        str, typer.Option(metavar="OWNER/NAME@COMMIT", help="Repository whose gate.yml the workflow calls.")
    ] = "",
    name: Annotated[str, typer.Option(help="Of the target.", show_default="its package, or service")] = "",
    folder: Annotated[Path, typer.Argument(help="The project.", file_okay=False, exists=True)] = Path(),
) -> None:
    """Set a repository up: benchmarks/pytest.ini, [tool.embedopt] in pyproject.toml, and one workflow.

    What is there stays as it is, and is named.
    """
    project = folder.resolve()
    read_targets(project)  # refuses a file that can't be read
    target = {key: value for key, value in (("call", call), ("start", start), ("url", url)) if value}
    name = name or (call.partition(":")[0].partition(".")[0] if call else "service")
    if target:
        parse_target(project / PYPROJECT, name, {}, target)  # refuses it before anything is written
    if embedopt and not _FULL_COMMIT.fullmatch(embedopt):
        wanted = "OWNER/NAME@COMMIT, with all 40 digits of a commit"
        raise UsageError(f"--embedopt is {embedopt!r}; wanted {wanted}")
    setup = Setup(
        project=project,
        name=name,
        target=target,
        texts=_as_json_lines(texts) if texts else None,
        install=install,
        embedopt=embedopt,
    )
    files = set_up(setup)
    backends = f" --backends {name}" if target else ""
    files.append(f"next: make the environment, commit, and pytest benchmarks/{backends} --benchmark-compare")
    typer.echo(lines(files), nl=False)


def _as_json_lines(file: Path) -> str:
    """Return the texts of a corpus as JSON lines; a file of them as it is, with its ids and judgements."""
    corpus = load_corpus(file)
    if file.is_dir():
        raise UsageError(f"--texts {file} is a folder; wanted a file: copy it to benchmarks/corpus/")
    if file.suffix == ".jsonl":
        return file.read_text(encoding="utf-8-sig")
    return "".join(f"{json.dumps({'text': text}, ensure_ascii=False)}\n" for text in corpus.texts)
