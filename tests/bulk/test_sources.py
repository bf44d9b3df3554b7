"""Which files the inputs stand for, and the names of what is made of them."""

from pathlib import Path

import pytest

from embedopt.bulk.sources import Source, find_files, parts_of
from embedopt.errors import InputError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.parquet", "x/a.parquet", "x/b.csv", "x/.c.csv", "_d/a.csv", "notes.md"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ([""], ["a.parquet", "x/a.parquet", "x/b.csv"]),
        (["*"], ["a.parquet", "notes.md"]),
        (["**/*.csv"], ["_d/a.csv", "x/b.csv"]),
        (["x/*", "x/b.csv", "notes.md"], ["a.parquet", "b.csv", "notes.md"]),
    ],
)
def test_files_are_named_by_their_place(tree: Path, inputs: list[str], names: list[str]) -> None:
    files = find_files([str(tree / given) for given in inputs], tree.parent / "out")
    assert sorted(files) == names


def test_two_files_of_one_name_are_refused(tree: Path) -> None:
    with pytest.raises(InputError, match=r"would both be encoded to a-00000\.parquet: give the folder that "):
        find_files([str(tree / "a.parquet"), str(tree / "x" / "a.parquet")], tree.parent / "out")


def test_two_files_whose_parts_would_have_one_name_are_refused(tree: Path) -> None:
    (tree / "a").write_text("nurse", "utf8")
    with pytest.raises(InputError, match=r"/a and .*/a\.parquet would both be encoded to a-00000\.parquet: "):
        find_files([str(tree / "a*")], tree.parent / "out")


def test_what_is_in_the_output_is_no_input(tree: Path) -> None:
    out = tree / "x"
    assert sorted(find_files([str(tree / "**" / "*")], out)) == ["_d/a.csv", "a.parquet", "notes.md"]
    with pytest.raises(InputError, match=r"x/b\.csv lies in the output folder .*x: choose another folder"):
        find_files([str(out / "b.csv")], out)


def test_an_input_that_cant_be_looked_at_is_one_line(tree: Path) -> None:
    with pytest.raises(
        InputError, match=r"n can't be read \(file name too long\): mend its permissions, or "
    ):
        find_files(["n" * 300], tree.parent / "out")


def test_parts_have_a_name_that_does_not_change(tmp_path: Path) -> None:
    source = Source(path=tmp_path, name="x/a.parquet", digest="", rows=25, stamp=(0, 0))
    assert [(part.name, part.start, part.rows) for part in parts_of(source, 10)] == [
        ("x/a-00000.parquet", 0, 10),
        ("x/a-00001.parquet", 10, 10),
        ("x/a-00002.parquet", 20, 5),
    ]
