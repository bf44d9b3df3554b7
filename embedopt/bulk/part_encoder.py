"""Encodes the parts of a job, one after the other, with one encoder."""

from collections.abc import Iterable, Iterator
from typing import Self

import pyarrow as pa

from embedopt.bulk.embedder import Embedder
from embedopt.bulk.job import Columns, Job
from embedopt.bulk.manifest import DonePart, Identity
from embedopt.bulk.progress import Progress
from embedopt.bulk.readers import Chunk, format_of
from embedopt.bulk.rows import TEXT, Reject, split
from embedopt.bulk.sources import Part, Source, stamp_of
from embedopt.bulk.writer import output_schema, write_part
from embedopt.errors import InputError, first_line


class PartEncoder:
    """An encoder, and what all parts of a job have in common; a context manager.

    Args:
        job: the job.
        carried: the columns that the output takes over from the input.
        identity: all that the vectors depend on.
        progress: what shows the rows that are done.
    """

    def __init__(self, job: Job, carried: pa.Schema, identity: Identity, progress: Progress) -> None:
        self._job, self._identity, self._progress = job, identity, progress
        self.embedder = Embedder(job.embedder, TEXT)
        self._schema = output_schema(carried, job.columns, self.embedder.embedding_type)

    def encode(self, part: Part, chunks: Iterable[Chunk]) -> DonePart:
        """Write the output file of a part.

        Raises:
            InputError: a row can't be used, and the job does not skip such rows.
            OutputError: the output can't be written.
        """
        embedded = self._embedded(part, chunks)
        return write_part(self._job.output, part, embedded, self._schema, self._identity)

    def _embedded(self, part: Part, chunks: Iterable[Chunk]) -> Iterator[tuple[pa.Table, list[Reject]]]:
        for index, chunk in enumerate(chunks):
            table, rejects = split(chunk, self._job.columns)
            if rejects and not self._job.skip_bad_rows:
                raise InputError(
                    f"{part.source.path}: row {rejects[0].row} {rejects[0].reason}; wanted a text: mend it, "
                    "or leave such rows out with --on-error skip"
                )
            if index == 0:
                self._progress.show_padding(self.embedder.padding(table))
            yield self.embedder(table).drop_columns([TEXT]), rejects
            self._progress.advance(len(chunk.rows))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.embedder.close()


def read_chunks(source: Source, columns: Columns, start: int, chunk_rows: int) -> Iterator[Chunk]:
    """Return the chunks of a file without its first ``start`` rows.

    Raises:
        InputError: the file can't be read, is not what its suffix says, or changes meanwhile.
    """
    try:
        for chunk in format_of(source.path).read(source.path, columns, start, chunk_rows):
            _check_unchanged(source)  # after each chunk, since a caller may stop after a part
            yield chunk
        _check_unchanged(source)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{source.path} can't be read ({first_line(error)}): mend it, or leave it out"
        ) from error


def _check_unchanged(source: Source) -> None:
    if stamp_of(source.path) != source.stamp:
        raise InputError(f"{source.path} changed while it was read: run the command again when it is whole")
