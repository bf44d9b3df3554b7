"""The output file of a part, and its rejects: written under another name and moved into place."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from embedopt.bulk.job import EMBEDDING, ID, Columns
from embedopt.bulk.manifest import DonePart, Identity, rejects_file
from embedopt.bulk.rows import Reject
from embedopt.bulk.sources import Part
from embedopt.files import explaining_failure, replacing, write_whole

# Key of the provenance in a file's metadata.
PROVENANCE = b"embedopt"
_HINT = "make room or choose another place with -o, and run the command again: it goes on where it was"


def output_schema(carried: pa.Schema, columns: Columns, embedding: pa.DataType) -> pa.Schema:
    """Return the columns of an output file: the id, the kept columns and the embedding."""
    id_type = carried.field(columns.id).type if columns.id else pa.int64()
    kept = [carried.field(name) for name in columns.keep]
    return pa.schema([(ID, id_type), *kept, (EMBEDDING, embedding)])


def write_part(
    folder: Path,
    part: Part,
    chunks: Iterable[tuple[pa.Table, list[Reject]]],
    schema: pa.Schema,
    identity: Identity,
) -> DonePart:
    """Write the rows of a part, and the rows that were rejected if there are any.

    Args:
        folder: the output folder.
        part: the part.
        chunks: tables with the columns of ``schema``, each with the rows of its chunk that were rejected.
        schema: columns of the file.
        identity: what the vectors depend on; goes into the file's metadata with the file that they come from.

    Raises:
        OutputError: the disk is full, or the folder can't be written.
    """
    file, rejects, rows = folder / part.name, list[Reject](), 0
    with explaining_failure(file, _HINT):
        file.parent.mkdir(parents=True, exist_ok=True)
    provenance = {**identity, "source": part.source.name, "source sha256": part.source.digest}
    described = schema.with_metadata({PROVENANCE: json.dumps(provenance).encode()})
    # A dictionary saves room where values repeat, which embeddings don't.
    dictionaries = [name for name in schema.names if name != EMBEDDING]
    with (
        replacing(file, _HINT, [part.source.path]) as stream,
        pq.ParquetWriter(stream, described, compression="zstd", use_dictionary=dictionaries) as parquet,
    ):
        for table, rejected in chunks:
            parquet.write_table(table.cast(described))
            rejects += rejected
            rows += table.num_rows
        if rejects:
            lines = "".join(json.dumps(asdict(reject)) + "\n" for reject in rejects)
            write_whole(rejects_file(folder, part.name), lines, _HINT)
    return DonePart(
        part=part.name, source=part.source.name, digest=part.source.digest, rows=rows, rejected=len(rejects)
    )
