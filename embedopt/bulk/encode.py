"""Encodes the files of a data set into a folder of Parquet files, part by part."""

import itertools
import time
from collections.abc import Iterator, Sequence

import pyarrow as pa

from embedopt.bulk.identity import identity_of
from embedopt.bulk.job import Job
from embedopt.bulk.manifest import Identity, Manifest, open_manifest
from embedopt.bulk.part_encoder import PartEncoder, read_chunks
from embedopt.bulk.progress import Progress, Totals
from embedopt.bulk.ray import encode_on_ray
from embedopt.bulk.readers import Chunk
from embedopt.bulk.sources import Part, Source, find_files, parts_of, read_sources
from embedopt.errors import OutputError


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
        _check_changes(job, manifest, identity, sources)
        todo = [part for part in parts if not manifest.holds(part)]
        progress.begin(sum(part.rows for part in parts), sum(part.rows for part in todo))
        seconds, encoding_s, machines = 0.0, 0.0, 1
        if todo:
            manifest.begin(identity)
            if job.ray is None:
                seconds, encoding_s = _encode_here(job, manifest, todo, carried, progress)
            else:
                seconds, machines = encode_on_ray(job.ray, job, manifest, todo, carried, progress)
        done = [manifest.parts[part.name] for part in parts]
        return Totals(
            parts=len(done),
            rows=sum(part.rows for part in done),
            rejected=sum(part.rejected for part in done),
            encoded=sum(part.rows for part in todo),
            seconds=seconds,
            encoding_s=encoding_s,
            machines=machines,
            others=len(manifest.parts) - len(done),
        )


def _encode_here(
    job: Job, manifest: Manifest, todo: list[Part], carried: pa.Schema, progress: Progress
) -> tuple[float, float]:
    """Encode parts in this process; return the seconds that it took, and those that the encoder worked."""
    progress.step(f"opening {job.embedder.backend}")
    with PartEncoder(job, carried, manifest.identity, progress) as encoder:
        started_s = time.monotonic()
        for part, chunks in _with_chunks(job, todo):
            progress.step(part.name)
            manifest.add(encoder.encode(part, chunks))
        return time.monotonic() - started_s, encoder.embedder.encoding_s


def _with_chunks(job: Job, todo: list[Part]) -> Iterator[tuple[Part, Iterator[Chunk]]]:
    """Yield each part with its chunks, reading each file once."""
    for source, parts in itertools.groupby(todo, lambda part: part.source):
        wanted = {part.start: part for part in parts}
        chunks = read_chunks(source, job.columns, min(wanted), job.chunk_rows)
        for index, group in itertools.groupby(chunks, lambda chunk: chunk.start // job.part_rows):
            if part := wanted.get(index * job.part_rows):
                yield part, group


def _check_changes(job: Job, manifest: Manifest, identity: Identity, sources: Sequence[Source]) -> None:
    changes = manifest.changes(identity, sources)
    if not changes or job.mixed:
        return
    if not job.force:
        raise OutputError(
            f"{job.output} was encoded from other inputs or in another way: {'; '.join(changes)}; choose "
            "another folder with -o, or --force to encode all again, or --mixed to encode what is missing"
        )
    manifest.clear()
