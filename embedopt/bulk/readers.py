"""Files of texts, read a chunk at a time: Parquet, CSV, JSON lines and plain text.

Each chunk of a file but the last has the same number of rows, whatever the file's row groups. Parquet keeps
its types. The columns of the other formats are strings: a guessed type would depend on the rows looked at.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from embedopt.bulk.job import Columns
from embedopt.bulk.lines import (
    Fault,
    Record,
    csv_records,
    csv_schema,
    json_records,
    open_lines,
    text_records,
    text_schema,
)
from embedopt.errors import InputError, first_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some rows of a file.

    Attributes:
        start: number of rows before them.
        rows: number of each row in its file, from 1: the number of its line where a row is a line.
        texts: a string, UTF-8 bytes, None, a :class:`Fault` or a value that is no text, for each row.
        carried: the columns that the output takes over.
    """

    start: int
    rows: Sequence[int]
    texts: Sequence[object]
    carried: pa.Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How a kind of file is read.

    Attributes:
        schema: returns the columns of a file; None where each row names its own.
        count: returns the number of rows.
        read: returns the chunks of a file, given the columns, the rows to skip and the rows of a chunk.
    """

    schema: Callable[[Path], pa.Schema | None]
    count: Callable[[Path], int]
    read: Callable[[Path, Columns, int, int], Iterator[Chunk]]


def _read_parquet(path: Path, columns: Columns, start: int, chunk_rows: int) -> Iterator[Chunk]:
    names = list(dict.fromkeys((columns.text, *columns.carried)))
    with pq.ParquetFile(path) as file:
        ends = itertools.accumulate(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))
        skipped = [end for end in ends if end <= start]
        groups = range(len(skipped), file.num_row_groups)
        batches = file.iter_batches(chunk_rows, columns=names, row_groups=list(groups), use_threads=False)
        for table in _cut(batches, start - (skipped[-1] if skipped else 0), chunk_rows):
            rows = range(start + 1, start + table.num_rows + 1)
            texts = _values(table[columns.text])
            yield Chunk(start=start, rows=rows, texts=texts, carried=table.select(columns.carried))
            start += table.num_rows


def _cut(batches: Iterable[pa.RecordBatch], skip: int, rows: int) -> Iterator[pa.Table]:
    """Leave out the first ``skip`` rows, and join and cut the batches to tables of ``rows`` rows."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        rest, skip = batch.slice(skip), max(skip - batch.num_rows, 0)
        held.append(rest)
        while sum(part.num_rows for part in held) >= rows:
            table = pa.Table.from_batches(held)
            yield table.slice(0, rows)
            held = table.slice(rows).to_batches()
    if any(part.num_rows for part in held):
        yield pa.Table.from_batches(held)


def _values(column: pa.ChunkedArray) -> list[object]:
    """Return the texts of a column as bytes, since a file's strings need not be valid UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values: list[object] = column.cast(pa.large_binary()).to_pylist()
    return values


def _parquet_rows(path: Path) -> int:
    with pq.ParquetFile(path) as file:
        rows: int = file.metadata.num_rows
        return rows


def _lines_format(
    records: Callable[[TextIO], Iterator[Record]], schema: Callable[[TextIO], pa.Schema | None]
) -> Format:
    """Return the format of files whose rows a function reads one by one."""

    def read(path: Path, columns: Columns, start: int, chunk_rows: int) -> Iterator[Chunk]:
        with open_lines(path) as stream:
            rest = itertools.islice(records(stream), start, None)
            while chunk := list(itertools.islice(rest, chunk_rows)):
                yield _chunk(chunk, columns, start)
                start += len(chunk)

    def count(path: Path) -> int:
        with open_lines(path) as stream:
            return sum(1 for _ in records(stream))

    def columns_of(path: Path) -> pa.Schema | None:
        with open_lines(path) as stream:
            return schema(stream)

    return Format(schema=columns_of, count=count, read=read)


def _chunk(records: Sequence[Record], columns: Columns, start: int) -> Chunk:
    values = [value if isinstance(value, dict) else {} for _, value in records]
    return Chunk(
        start=start,
        rows=[row for row, _ in records],
        texts=[
            value.get(columns.text, Fault(f"has no {columns.text}")) if isinstance(value, dict) else value
            for _, value in records
        ],
        carried=pa.table(
            # As from Parquet, bytes that are no UTF-8 arrive as they are, to be refused with their row.
            {
                name: pa.array([_as_bytes(row.get(name)) for row in values], pa.binary()).view(pa.string())
                for name in columns.carried
            }
        ),
    )


def _as_bytes(value: object) -> bytes | None:
    text = value if value is None or isinstance(value, str) else json.dumps(value)
    # Not surrogateescape: escapes of JSON could then pass for bytes that are valid together.
    return text.encode(errors="surrogatepass") if text is not None else None


_TEXT_FORMAT = _lines_format(text_records, text_schema)
_JSON_FORMAT = _lines_format(json_records, lambda _: None)
FORMATS = {
    ".parquet": Format(schema=pq.read_schema, count=_parquet_rows, read=_read_parquet),
    ".csv": _lines_format(csv_records, csv_schema),
    ".jsonl": _JSON_FORMAT,
    ".ndjson": _JSON_FORMAT,
    ".json": _JSON_FORMAT,
    ".txt": _TEXT_FORMAT,
}


def format_of(path: Path) -> Format:
    """Return the format of a file by its suffix; a file of another suffix has a text a line."""
    return FORMATS.get(path.suffix.lower(), _TEXT_FORMAT)


def carried_schema(path: Path, columns: Columns) -> pa.Schema:
    """Return the columns of a file that the output takes over, after a check that all columns are there.

    Raises:
        InputError: the file can't be read, lacks a column, or its text column holds no texts.
    """
    try:
        schema = format_of(path).schema(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} can't be read ({first_line(error)}): mend it, or leave it out") from None
    if schema is None:
        return pa.schema([(name, pa.string()) for name in columns.carried])
    for name in (columns.text, *columns.carried):
        if (times := schema.names.count(name)) != 1:
            raise InputError(
                f"{path} has {times or 'no'} columns {name!r} among {', '.join(schema.names) or 'none'}; "
                "wanted one: name another with --column, --id or --keep"
            )
    kind = schema.field(columns.text).type
    if not _holds_text(kind):
        raise InputError(
            f"{path}: column {columns.text!r} is {kind}; wanted strings: name another with --column"
        )
    return pa.schema([schema.field(name) for name in columns.carried]).remove_metadata()


def _holds_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(
        is_kind(value)
        for is_kind in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_binary,
            pa.types.is_large_binary,
        )
    )
