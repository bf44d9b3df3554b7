"""A job: the files of a data set become a folder of Parquet files, part by part."""

import csv
import dataclasses
import importlib.metadata
import itertools
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from embedopt.bulk.embedder import DType, Embedder
from embedopt.bulk.manifest import Identity, Manifest, open_manifest
from embedopt.bulk.progress import Progress, Totals
from embedopt.bulk.readers import CHUNK_ROWS, Chunk, Columns, format_of
from embedopt.bulk.rows import TEXT, Reject, split
from embedopt.bulk.sources import PART_ROWS, Part, Source, find_files, parts_of, read_sources, stamp_of
from embedopt.bulk.writer import output_schema, write_part
from embedopt.errors import InputError, OutputError, first_line
from embedopt.inference.artifacts.layout import MANIFEST
from embedopt.inference.artifacts.store import ArtifactStore, library_versions
from embedopt.inference.artifacts.weights import resolve_weights, sha256_of
from embedopt.inference.backends import DEFAULT, get_backend
from embedopt.inference.hardware import this_hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be encoded, into which folder and how.

    Attributes:
        inputs: files, folders and patterns.
        output: folder of the Parquet files.
        columns: columns that are read.
        backend: name of the backend.
        model: None for all-MiniLM-L6-v2; else a local folder or a hub name.
        revision: branch, tag or commit of a hub name; None for its main branch.
        trust_remote_code: whether Python code that comes with the model may run.
        dtype: type of an embedding's components.
        batch_size: largest number of texts in a batch; None to let the backend choose.
        cache_dir: folder of the artifacts; None for ``$EMBEDOPT_CACHE`` or the user's cache folder.
        skip_bad_rows: whether rows that can't be encoded go to a rejects file, instead of ending the job.
        force: whether to encode everything again where the folder's vectors depend on something else.
        mixed: whether to keep those vectors and encode what is missing.
        part_rows: rows of a part, a multiple of ``chunk_rows``.
        chunk_rows: rows that are in memory at a time.
    """

    inputs: tuple[str, ...]
    output: Path
    columns: Columns
    backend: str = DEFAULT
    model: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    dtype: DType = "float32"
    batch_size: int | None = None
    cache_dir: Path | None = None
    skip_bad_rows: bool = False
    force: bool = False
    mixed: bool = False
    part_rows: int = PART_ROWS
    chunk_rows: int = CHUNK_ROWS


def encode_files(job: Job, progress: Progress) -> Totals:
    """Encode what the output folder does not hold yet.

    Raises:
        InputError: an input, or with ``skip_bad_rows`` off a row, can't be used; the message names it.
        OutputError: the folder can't be written, or holds vectors that depend on something else.
        EmbedoptError: the backend can't be opened.
    """
    files = find_files(job.inputs, job.output)
    with open_manifest(job.output) as manifest:
        sources, carried = read_sources(files, job.columns, progress.step)
        parts = [part for source in sources for part in parts_of(source, job.part_rows)]
        identity = identity_of(job, progress)
        _check_changes(job, manifest, identity, parts)
        todo = [part for part in parts if not manifest.holds(part)]
        progress.begin(sum(part.rows for part in parts), sum(part.rows for part in todo))
        seconds = encoding_s = 0.0
        if todo:
            manifest.begin(identity)
            seconds, encoding_s = _encode_parts(job, manifest, todo, carried, progress)
        done = [manifest.parts[part.name] for part in parts]
        return Totals(
            parts=len(done),
            rows=sum(part.rows for part in done),
            rejected=sum(part.rejected for part in done),
            encoded=sum(part.rows for part in todo),
            seconds=seconds,
            encoding_s=encoding_s,
        )


def _encode_parts(
    job: Job, manifest: Manifest, todo: list[Part], carried: pa.Schema, progress: Progress
) -> tuple[float, float]:
    """Encode parts; return the seconds that it took, and those of them in which the encoder worked."""
    progress.step(f"opening {job.backend}")
    with Embedder(
        job.backend,
        model=job.model,
        revision=job.revision,
        trust_remote_code=job.trust_remote_code,
        column=TEXT,
        dtype=job.dtype,
        batch_size=job.batch_size,
        cache_dir=job.cache_dir,
    ) as embedder:
        schema = output_schema(carried, job.columns, embedder.embedding_type)
        started_s = time.monotonic()
        for part, chunks in _with_chunks(job, todo):
            progress.step(part.name)
            embedded = _embed(job, part, chunks, embedder, progress)
            manifest.add(write_part(job.output, part, embedded, schema, manifest.identity))
        return time.monotonic() - started_s, embedder.encoding_s


def _embed(
    job: Job, part: Part, chunks: Iterable[Chunk], embedder: Embedder, progress: Progress
) -> Iterator[tuple[pa.Table, list[Reject]]]:
    for index, chunk in enumerate(chunks):
        table, rejects = split(chunk, job.columns)
        if rejects and not job.skip_bad_rows:
            raise InputError(
                f"{part.source.path}: row {rejects[0].row} {rejects[0].reason}; wanted a text: mend it, or "
                "leave such rows out with --on-error skip"
            )
        if index == 0:
            progress.show_padding(embedder.padding(table))
        yield embedder(table).drop_columns([TEXT]), rejects
        progress.advance(len(chunk.rows))


def _with_chunks(job: Job, todo: list[Part]) -> Iterator[tuple[Part, Iterator[Chunk]]]:
    """Return the chunks of each part, reading each file once."""
    for source, parts in itertools.groupby(todo, lambda part: part.source):
        wanted = {part.start: part for part in parts}
        chunks = read_chunks(source, job.columns, min(wanted), job.chunk_rows)
        for index, group in itertools.groupby(chunks, lambda chunk: chunk.start // job.part_rows):
            if part := wanted.get(index * job.part_rows):
                yield part, group


def read_chunks(source: Source, columns: Columns, start: int, chunk_rows: int) -> Iterator[Chunk]:
    """Return the chunks of a file without its first ``start`` rows.

    Raises:
        InputError: the file can't be read, is not what its suffix says, or changes meanwhile.
    """
    try:
        yield from format_of(source.path).read(source.path, columns, start, chunk_rows)
    except (OSError, pa.ArrowException, csv.Error) as error:
        raise InputError(
            f"{source.path} can't be read ({first_line(error)}): mend it, or leave it out"
        ) from error
    if stamp_of(source.path) != source.stamp:
        raise InputError(f"{source.path} changed while it was read: run the command again when it is whole")


def identity_of(job: Job, progress: Progress) -> Identity:
    """Return all that the vectors and the layout of the output depend on but for the inputs, in words."""
    weights = resolve_weights(job.model, job.revision, trust_remote_code=job.trust_remote_code)
    backend = get_backend(job.backend)
    folder = ArtifactStore(job.cache_dir, progress.step).get(backend, weights)
    hardware = this_hardware()
    artifact = sha256_of(folder / MANIFEST) if backend.build else "none"
    libraries = {"embedopt": importlib.metadata.version("embedopt"), **library_versions(backend.packages)}
    return {
        "model": weights.name,
        "model sha256": weights.digest,
        "backend": backend.name,
        "recipe": json.dumps({"build": backend.build, **backend.build_options}),
        "artifact sha256": artifact,
        "hardware class": " | ".join((hardware.cpu, "+".join(hardware.instruction_sets) or "none")),
        "dtype": job.dtype,
        "batch size": str(job.batch_size),
        **{f"column {name}": json.dumps(value) for name, value in dataclasses.asdict(job.columns).items()},
        "rows of a part": str(job.part_rows),
        **{f"{name} version": version for name, version in libraries.items()},
    }


def _check_changes(job: Job, manifest: Manifest, identity: Identity, parts: list[Part]) -> None:
    changes = manifest.changes(identity, parts)
    if not changes or job.mixed:
        return
    if not job.force:
        raise OutputError(
            f"{job.output} was encoded from other inputs or in another way: {'; '.join(changes)}; choose "
            "another folder with -o, or --force to encode all again, or --mixed to encode what is missing"
        )
    manifest.clear()
