"""What is read from each format, row by row."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedopt.bulk.job import Columns
from embedopt.bulk.lines import Fault
from embedopt.bulk.readers import Chunk, carried_schema, format_of
from embedopt.errors import InputError


def read(path: Path, columns: Columns, start: int = 0, chunk_rows: int = 4) -> list[Chunk]:
    assert format_of(path).count(path) >= start
    return list(format_of(path).read(path, columns, start, chunk_rows))


def rows_and_texts(chunks: list[Chunk]) -> list[tuple[int, object]]:
    return [row for chunk in chunks for row in zip(chunk.rows, chunk.texts, strict=True)]


@pytest.mark.parametrize("start", [0, 3, 8, 10])
@pytest.mark.parametrize("row_group_size", [1, 3, 100])
def test_chunks_of_parquet_do_not_depend_on_its_row_groups(
    tmp_path: Path, row_group_size: int, start: int
) -> None:
    file, texts = tmp_path / "a.parquet", [f"text {number}" for number in range(10)]
    pq.write_table(pa.table({"text": texts, "n": range(10)}), file, row_group_size=row_group_size)
    chunks = read(file, Columns(id="n"), start)
    assert rows_and_texts(chunks) == [(row + 1, texts[row].encode()) for row in range(start, 10)]
    assert [chunk.start for chunk in chunks] == list(range(start, 10, 4))
    assert [value for chunk in chunks for value in chunk.carried["n"].to_pylist()] == list(range(start, 10))


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int32(), pa.string())],
)
def test_parquet_text_may_have_any_type_of_strings(tmp_path: Path, kind: pa.DataType) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.array(["a", None, "b"]).cast(kind)}), file)
    assert carried_schema(file, Columns()).names == []
    assert rows_and_texts(read(file, Columns())) == [(1, b"a"), (2, None), (3, b"b")]


def test_text_has_a_row_a_line_whatever_stands_in_it(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_bytes("\ufeffone\r\n\nt\rw\u2028o".encode())
    assert rows_and_texts(read(file, Columns())) == [(1, "one"), (2, ""), (3, "t\rw\u2028o")]
    file.write_bytes(b"")
    assert (format_of(file).count(file), read(file, Columns())) == (0, [])


def test_json_lines_keep_other_values_as_strings(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(
        '{"text": "a", "n": 1}\n\n{"text": "b", "n": ["x"]}\n{"text": "c", "n": "y"}\n{"text": "d"}\n', "utf8"
    )
    [chunk] = read(file, Columns(keep=("n",)))
    assert rows_and_texts([chunk]) == [(1, "a"), (3, "b"), (4, "c"), (5, "d")]
    assert chunk.carried.to_pydict() == {"n": ["1", '["x"]', "y", None]}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b'{"text": 3}', 3),
        ("a.jsonl", b'{"body": ""}', Fault("has no text")),
        ("a.jsonl", b"[1]", Fault("is no JSON object")),
        ("a.jsonl", b"{", "is not JSON (Expecting property name enclosed in double quotes"),
        ("a.csv", b"text,n\na", Fault("has 1 columns, wanted 2")),
        ("a.txt", b"a\xff", "a\udcff"),
    ],
)
def test_a_row_that_is_no_text_says_why(tmp_path: Path, name: str, content: bytes, expected: Any) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    [(_, text)] = rows_and_texts(read(file, Columns()))
    if isinstance(text, Fault) and isinstance(expected, str):
        assert text.reason.startswith(expected)
    else:
        assert text == expected


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b"text\na\rb\n", 2, "new-line character seen in unquoted field"),
        (b'text\n"half of\na file\n', 3, "unexpected end of data"),
        (b'"te', 1, "unexpected end of data"),
    ],
)
def test_csv_that_would_lose_rows_is_refused(tmp_path: Path, content: bytes, line: int, reason: str) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        format_of(file).count(file)
    assert str(caught.value) == (
        f"{file}: line {line} is no CSV ({reason}); wanted texts with line breaks or quotes in closed "
        "quotes: mend it, or leave the file out"
    )


def test_csv_has_quotes_line_ends_and_long_texts(tmp_path: Path) -> None:
    file, long = tmp_path / "a.csv", "x" * 200_000
    file.write_text(f'n,text\n1,"a, ""b""\nc"\n\n2,{long}\n', "utf8")
    [chunk] = read(file, Columns(id="n"))
    assert rows_and_texts([chunk]) == [(1, 'a, "b"\nc'), (2, long)]
    assert chunk.carried.to_pydict() == {"n": ["1", "2"]}


def test_a_text_column_without_strings_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [1]}), file)
    with pytest.raises(
        InputError, match="column 'text' is int64; wanted strings: name another with --column"
    ):
        carried_schema(file, Columns())


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    file.write_bytes(b"PAR1 not quite")
    with pytest.raises(InputError, match=r"a\.parquet can't be read \(.*\): mend it, or leave it out"):
        carried_schema(file, Columns())
