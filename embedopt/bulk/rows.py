"""Which rows of a chunk can be encoded, and what is wrong with the others."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from embedopt.bulk.job import ID, Columns
from embedopt.bulk.lines import Fault
from embedopt.bulk.readers import Chunk

# Column of the texts until they are encoded: their name in the file may be that of another output column.
TEXT = "__text__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A row that can't be encoded; ``reason`` completes "row 3 ..."."""

    row: int
    id: str | None
    reason: str


def split(chunk: Chunk, columns: Columns) -> tuple[pa.Table, list[Reject]]:
    """Return the rows of a chunk that can be encoded as a table, and those that can't.

    The table has the columns :data:`ID`, those that are kept, and :data:`TEXT`.
    """
    ids = chunk.carried[columns.id] if columns.id else pa.chunked_array([pa.array(chunk.rows, pa.int64())])
    faults = _carried_faults(chunk.carried, columns.id)
    texts = [
        faults.get(index, text) if isinstance(text, str) else text
        for index, text in enumerate(map(_checked, chunk.texts))
    ]
    valid = [text if isinstance(text, str) else None for text in texts]
    kept = {name: chunk.carried[name] for name in columns.keep}
    table = pa.table({ID: ids, **kept, TEXT: pa.array(valid, pa.large_string())})
    rejects = [
        Reject(row=row, id=_shown(ids, index) if columns.id else None, reason=text.reason)
        for index, (row, text) in enumerate(zip(chunk.rows, texts, strict=True))
        if isinstance(text, Fault)
    ]
    return (table.filter(table[TEXT].is_valid()) if rejects else table), rejects


def _carried_faults(carried: pa.Table, id_column: str | None) -> dict[int, Fault]:
    """Return what is wrong with the values that the output takes over, by the index of their row."""
    faults: dict[int, Fault] = {}
    for name in carried.column_names:
        values = _plain(carried[name])
        if not _is_valid(values):  # rare, so looking at each row may be slow
            faults |= {
                index: Fault(f"has a value in the column {name} that is no valid UTF-8")
                for index in range(len(values))
                if not _is_valid(values.take([index]))
            }
        if name == id_column:
            nulls = pc.indices_nonzero(values.is_null()).to_pylist()
            faults |= dict.fromkeys(nulls, Fault(f"has a null in the column {name}"))
    return faults


def _plain(column: pa.ChunkedArray) -> pa.Array:
    values = column.combine_chunks()
    return values.dictionary_decode() if pa.types.is_dictionary(column.type) else values


def _is_valid(values: pa.Array) -> bool:
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _shown(ids: pa.ChunkedArray, index: int) -> str | None:
    try:
        value = ids[index].as_py()
        return None if value is None else str(value)
    except UnicodeDecodeError:
        return bytes(ids[index].cast(pa.binary()).as_py()).decode(errors="backslashreplace")


def _checked(text: object) -> str | Fault:
    try:
        if isinstance(text, bytes):
            return text.decode()
        if isinstance(text, str):
            text.encode()
            return text
    except UnicodeError as error:
        return Fault(f"has a text that is no valid UTF-8 ({error})")
    if isinstance(text, Fault):
        return text
    return Fault("has null for its text" if text is None else f"has a text of type {type(text).__name__}")
