"""Which rows of a chunk can be encoded, and what is wrong with the others."""

from dataclasses import dataclass

import pyarrow as pa

from embedopt.bulk.readers import ID, Chunk, Columns, Fault

# Column of the texts on their way to the encoder: the name that they have in the file may be kept, or be id.
TEXT = "__text__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A row that can't be encoded; ``reason`` completes "row 3 ..."."""

    row: int
    id: str | None
    reason: str


def split(chunk: Chunk, columns: Columns) -> tuple[pa.Table, list[Reject]]:
    """Return the rows of a chunk that can be encoded, and those that can't.

    The table has the columns :data:`ID`, those that are kept, and :data:`TEXT`.
    """
    ids = chunk.carried[columns.id] if columns.id else pa.chunked_array([pa.array(chunk.rows, pa.int64())])
    texts = [
        Fault(f"has a null in the column {columns.id}") if missing else _checked(text)
        for text, missing in zip(chunk.texts, ids.is_null().to_pylist(), strict=True)
    ]
    valid = [None if isinstance(text, Fault) else text for text in texts]
    kept = {name: chunk.carried[name] for name in columns.keep}
    table = pa.table({ID: ids, **kept, TEXT: pa.array(valid, pa.large_string())})
    rejects = [
        Reject(row=row, id=str(ids[index].as_py()) if columns.id else None, reason=text.reason)
        for index, (row, text) in enumerate(zip(chunk.rows, texts, strict=True))
        if isinstance(text, Fault)
    ]
    return (table.filter(table[TEXT].is_valid()) if rejects else table), rejects


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
