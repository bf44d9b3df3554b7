"""The command that embeds files."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import rich.console
import rich.progress
import typer

from embedopt.bulk.job import Columns, DType, EmbedderOptions, Job
from embedopt.cli.report import PriceOption
from embedopt.errors import MissingPackageError, UsageError
from embedopt.files import is_standard_output, replacing
from embedopt.inference.backends import BACKENDS, DEFAULT, DEFAULT_TO_STORE, get_backend
from embedopt.measure.corpus import load_corpus
from embedopt.report.console import lines

# Texts encoded between two steps of the progress bar: enough to plan batches of like length.
_CHUNK_TEXTS = 2048

ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Local folder or hub name.", show_default="the bundled all-MiniLM-L6-v2"),
]
RevisionOption = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub name.")]
TrustOption = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let Python code that comes with the model run.")
]
CacheOption = Annotated[
    Path | None, typer.Option("--cache-dir", help="Where artifacts are kept.", envvar="EMBEDOPT_CACHE")
]


InputsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="IN...",
        help="Files, folders or quoted patterns: Parquet, CSV, JSON lines, or text with a text a line.",
    ),
]
OutputOption = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="Folder for Parquet files, or a .npy file for one file of text or JSON lines."
    ),
]
BackendOption = Annotated[
    str | None,
    typer.Option(
        help=f"One of {', '.join(BACKENDS)}.",
        show_default=f"{DEFAULT} into a NumPy file, {DEFAULT_TO_STORE} into a folder",
    ),
]
BatchSizeOption = Annotated[
    int | None, typer.Option(min=1, help="Texts in a batch.", show_default="chosen by length")
]
PromptOption = Annotated[
    str | None,
    typer.Option(
        help="Put before each text: a prompt that the model names, or any string.",
        show_default="the model's default prompt",
    ),
]
ColumnOption = Annotated[str, typer.Option(help="Column with the texts.")]
IdOption = Annotated[
    str | None, typer.Option("--id", help="Column with the ids.", show_default="the row's number, from 1")
]
KeepOption = Annotated[str, typer.Option(help="Further columns to keep, separated by commas.")]
DTypeOption = Annotated[DType, typer.Option(help="Type of the components.")]
OnErrorOption = Annotated[
    Literal["stop", "skip"], typer.Option(help="What to do with a row that holds no valid text.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Encode all again where the folder was encoded in another way.")
]
MixedOption = Annotated[
    bool, typer.Option("--mixed", help="Keep what was encoded in another way, and encode the rest.")
]
RayOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Ray cluster that encodes, or local.", show_default="this process"),
]
# Parameters that do not apply to a NumPy file.
_OF_FOLDERS = (
    *("column", "id_column", "keep", "dtype"),
    *("on_error", "force", "mixed", "ray", "price_per_hour"),
)


def encode(
    context: typer.Context,
    inputs: InputsArgument,
    output: OutputOption,
    backend: BackendOption = None,
    batch_size: BatchSizeOption = None,
    prompt: PromptOption = None,
    model: ModelOption = None,
    revision: RevisionOption = None,
    trust_remote_code: TrustOption = False,
    cache_dir: CacheOption = None,
    column: ColumnOption = "text",
    id_column: IdOption = None,
    keep: KeepOption = "",
    dtype: DTypeOption = "float32",
    on_error: OnErrorOption = "stop",
    force: ForceOption = False,
    mixed: MixedOption = False,
    ray: RayOption = None,
    price_per_hour: PriceOption = 0.05,
) -> None:
    """Embed texts: of any number of files into a folder of Parquet files, or of one file into a NumPy file.

    After an interruption, the same command continues where it stopped. In a NumPy file, (n, dim) float32, row
    i is line i, blank lines of a text file included.
    """
    is_file = output.suffix == ".npy" or (output.exists() and not output.is_dir())
    kept = tuple(name.strip() for name in keep.split(",") if name.strip())
    job = Job(
        inputs=tuple(inputs),
        output=output,
        columns=Columns(text=column, id=id_column, keep=kept),
        embedder=EmbedderOptions(
            backend=backend or (DEFAULT if is_file else DEFAULT_TO_STORE),
            model=model,
            revision=revision,
            trust_remote_code=trust_remote_code,
            dtype=dtype,
            batch_size=batch_size,
            prompt=prompt,
            cache_dir=cache_dir,
        ),
        skip_bad_rows=on_error == "skip",
        force=force,
        mixed=mixed,
        ray=ray,
    )
    if is_file:
        return _encode_to_numpy(job, context)
    return _encode_to_folder(job, price_per_hour)


def _encode_to_folder(job: Job, price_per_hour: float) -> None:
    _require("encoding to a folder", "pyarrow", "bulk")
    if job.ray is not None:
        _require("--ray", "ray", "ray")
    from embedopt.bulk.encode import encode_files
    from embedopt.bulk.progress import Progress, summary

    row = get_backend(job.embedder.backend)
    if not (row.is_batch_invariant or row.project):
        typer.echo(
            f"{row.name}: a text's vector depends a little on its batch, so a second run may differ; "
            f"{DEFAULT_TO_STORE} has the same vector in any batch",
            err=True,
        )
    with Progress() as progress:
        totals = encode_files(job, progress)
    typer.echo(lines(summary(job.output, totals, price_per_hour)), nl=False)


def _require(what: str, package: str, extra: str) -> None:
    if find_spec(package) is None:
        install = f"pip install 'embedopt[{extra}]'"
        raise MissingPackageError(f"{what} needs {package}, which is not installed: {install}")


def _only_input(job: Job, context: typer.Context) -> Path:
    """Return the one input of a NumPy file; refuse others, and options that do not apply to it."""
    unused = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in _OF_FOLDERS and _is_given(context, parameter.name)
    ]
    if unused:
        raise UsageError(
            f"{', '.join(unused)} can't be used with {job.output}: name a folder with -o, or leave it out"
        )
    first, *others = job.inputs
    if others or first.lower().endswith((".parquet", ".csv")):
        raise UsageError(
            f"{job.output} takes one file of text or JSON lines, not {', '.join(job.inputs)}: name a folder "
            "with -o"
        )
    return Path(first)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _encode_to_numpy(job: Job, context: typer.Context) -> None:
    file, options = _only_input(job, context), job.embedder
    texts = load_corpus(file, keep_blank=True).texts
    progress = rich.progress.Progress(
        *rich.progress.Progress.get_default_columns(),
        rich.progress.MofNCompleteColumn(),
        console=rich.console.Console(stderr=True),
    )
    with replacing(job.output, inputs=[file]) as stream, progress:
        bar = progress.add_task("opening the backend", total=len(texts))
        with options.open_encoder(lambda step: progress.update(bar, description=step)) as encoder:
            progress.update(bar, description="encoding")
            embeddings = np.empty((len(texts), encoder.dim), dtype=np.float32)
            for start in range(0, len(texts), _CHUNK_TEXTS):
                chunk = texts[start : start + _CHUNK_TEXTS]
                embeddings[start : start + len(chunk)] = encoder.encode(
                    chunk, options.batch_size, prompt=options.prompt
                )
                progress.advance(bar, len(chunk))
        np.save(stream, embeddings)
    shape = f"{embeddings.shape[0]} x {embeddings.shape[1]}"
    typer.echo(f"{job.output}: {shape} float32 by {encoder.name}", err=is_standard_output(job.output))
