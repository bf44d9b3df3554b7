"""Files that are written whole or not at all."""

from pathlib import Path

import pytest

from embedopt.errors import OutputError
from embedopt.files import replacing, write_whole


def test_a_text_is_written_into_a_folder_that_is_made(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "report.txt", "café\n")
    assert (tmp_path / "new" / "report.txt").read_bytes() == b"caf\xc3\xa9\n"


def test_until_the_block_ends_readers_see_the_old_content(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"old")
    with replacing(file) as stream:
        stream.write(b"new")
        stream.flush()
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"


def test_a_block_that_fails_leaves_the_old_content_and_no_other_file(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"old")

    def write_half() -> None:
        with replacing(file) as stream:
            stream.write(b"half of the new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [(left.name, left.read_bytes()) for left in tmp_path.iterdir()] == [("data", b"old")]


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    file = tmp_path / "data"
    with replacing(file) as first:
        first.write(b"first, ")
        with replacing(file) as second:
            second.write(b"second")
        first.write(b"finished last")
    assert [(left.name, left.read_bytes()) for left in tmp_path.iterdir()] == [
        ("data", b"first, finished last")
    ]


def test_a_file_that_cant_be_written_is_an_error_with_reason_and_hint(tmp_path: Path) -> None:
    """A folder stands in the file's place."""
    (tmp_path / "data").mkdir()
    with pytest.raises(OutputError) as caught:
        write_whole(tmp_path / "data", "x", hint="try again")
    assert str(caught.value) == f"{tmp_path / 'data'} can't be written (is a directory): try again"
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]


def test_a_folder_that_cant_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"can't be written \((file exists|not a directory)\): choose"):
        write_whole(tmp_path / "file" / "x", "x")
