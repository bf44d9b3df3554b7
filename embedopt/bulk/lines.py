"""Rows of files of lines: plain text, JSON lines and CSV, read one by one."""

import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from embedopt.bulk.job import TEXT_COLUMN
from embedopt.errors import InputError


@dataclass(frozen=True, slots=True)
class Fault:
    """Stands for the text of a row that can't be read; ``reason`` completes "row 3 ..."."""

    reason: str


# The number of a row, and its values by column or what is wrong with it.
Record = tuple[int, dict[str, Any] | Fault]


def open_lines(path: Path) -> TextIO:
    """Open a file of lines."""
    # Bytes that are no UTF-8 become lone surrogates, which are refused with the number of their row. Only \n
    # ends a line: other line ends may stand inside a text.
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n")


def _lines(stream: TextIO) -> Iterator[tuple[int, str]]:
    return enumerate((line.removesuffix("\n").removesuffix("\r") for line in stream), 1)


def json_records(stream: TextIO) -> Iterator[Record]:
    """Yield the objects of JSON lines; blank lines are no rows."""
    for row, line in _lines(stream):
        if line.strip():
            yield row, _parse(line)


def _parse(line: str) -> dict[str, Any] | Fault:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Fault(f"is not JSON ({error})")
    return values if isinstance(values, dict) else Fault("is no JSON object")


def text_records(stream: TextIO) -> Iterator[Record]:
    """Yield each line, blank ones included, as a text."""
    return ((row, {TEXT_COLUMN: line}) for row, line in _lines(stream))


def text_schema(_: TextIO) -> pa.Schema:
    """Return the only column of plain text."""
    return pa.schema([(TEXT_COLUMN, pa.string())])


def csv_records(stream: TextIO) -> Iterator[Record]:
    """Yield the rows of CSV below its header.

    Raises:
        InputError: a quote is never closed, or a line break stands outside of quotes.
    """
    lines = _csv_lines(stream)
    header = next(lines, [])
    for row, values in enumerate((values for values in lines if values), 1):
        if len(values) == len(header):
            yield row, dict(zip(header, values, strict=True))
        else:
            yield row, Fault(f"has {len(values)} columns, wanted {len(header)}")


def csv_schema(stream: TextIO) -> pa.Schema:
    """Return the columns in the header of CSV."""
    return pa.schema([(name, pa.string()) for name in next(_csv_lines(stream), [])])


def _csv_lines(stream: TextIO) -> Iterator[list[str]]:
    csv.field_size_limit(sys.maxsize)
    # Strict: else a quote that is never closed swallows all rows that follow.
    lines = csv.reader(stream, strict=True)
    try:
        yield from lines
    except csv.Error as error:
        reason = str(error).partition(" - ")[0]  # what follows is for programmers
        raise InputError(
            f"{stream.name}: line {lines.line_num} is no CSV ({reason}); wanted texts with line breaks or "
            "quotes in closed quotes: mend it, or leave the file out"
        ) from None
