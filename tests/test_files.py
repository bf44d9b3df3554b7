"""Files that are written whole or not at all."""

import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
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


def test_a_link_is_written_through(tmp_path: Path) -> None:
    """Also one to a file that is not there yet, in another folder that is not there either."""
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o640)
    for link, target in (("a", "file"), ("b", "a"), ("c", "new/one")):
        (tmp_path / link).symlink_to(target)
        write_whole(tmp_path / link, link)
    links = {name: str((tmp_path / name).readlink()) for name in ("a", "b", "c")}
    assert links == {"a": "file", "b": "a", "c": "new/one"}
    assert ((tmp_path / "file").read_text(), (tmp_path / "new" / "one").read_text()) == ("b", "c")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "file", "new"]


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(
        OutputError, match=r"a can't be written \(too many levels of symbolic links\): choose"
    ):
        write_whole(tmp_path / "a", "x")
    assert (tmp_path / "a").is_symlink()


def test_a_pipe_gets_the_content_and_stays(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to("pipe")
    with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        with replacing(link) as stream:
            np.save(stream, np.arange(3))  # NumPy asks for the position of what it writes to
        received = reader.read()
    np.testing.assert_array_equal(np.load(io.BytesIO(received)), np.arange(3))
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_pipe_gets_nothing_of_a_block_that_fails(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write_half() -> None:
        with replacing(pipe) as stream:
            stream.write(b"half")
            raise ValueError

    with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        with pytest.raises(ValueError):  # noqa: PT011  # the block's own error
            write_half()
        assert reader.read() == b""


def test_a_device_is_written_to(tmp_path: Path) -> None:
    """The device is a terminal that the test opens, under a link as people give it."""
    leader, follower = os.openpty()
    link = tmp_path / "terminal"
    link.symlink_to(os.ttyname(follower))
    write_whole(link, "hello")
    assert os.read(leader, 100) == b"hello"
    assert stat.S_ISCHR(link.stat().st_mode)
    os.close(leader)
    os.close(follower)


def test_where_standard_output_goes_to_a_file_that_file_keeps_what_it_holds(tmp_path: Path) -> None:
    """As with -o /dev/stdout >> log."""
    code = (
        "from pathlib import Path; from embedopt.files import write_whole\n"
        "write_whole(Path('/proc/self/fd/1'), 'new')"
    )
    with (tmp_path / "log").open("ab") as log:
        log.write(b"old, ")
        log.flush()
        subprocess.run([sys.executable, "-c", code], stdout=log, check=True)
    assert (tmp_path / "log").read_bytes() == b"old, new"


@pytest.mark.parametrize("name", ["texts", "symbolic", "hard"])
def test_an_input_is_not_overwritten(tmp_path: Path, name: str) -> None:
    texts = tmp_path / "texts"
    texts.write_bytes(b"welder")
    (tmp_path / "symbolic").symlink_to("texts")
    (tmp_path / "hard").hardlink_to(texts)
    with pytest.raises(OutputError) as caught:
        write_whole(tmp_path / name, "x", inputs=[tmp_path / "other", texts])
    expected = f"{tmp_path / name} is the input {texts}; wanted another file: choose another place with -o"
    assert str(caught.value) == expected
    assert texts.read_bytes() == b"welder"
