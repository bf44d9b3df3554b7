"""Files that are written whole or not at all.

The content goes into a temporary file beside the target, which then takes the target's place: a reader finds
the old content or the new one, never half of it. Each writer has a temporary file of its own, so that two
processes that write the same file at once do not disturb each other: the last to finish wins. Where the
target is a link, the file that it points to is replaced. A pipe or device is written to, never replaced.
"""

import contextlib
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from embedopt.errors import OutputError, reason_of

_HINT = "choose another place with -o"


@contextlib.contextmanager
def replacing(file: Path, hint: str = _HINT, inputs: Iterable[Path] = ()) -> Iterator[BinaryIO]:
    """Open a binary stream whose content becomes ``file`` when the block ends without an error.

    Args:
        file: the target, in a folder that exists; a link to one, a pipe or a device.
        hint: ends the message of the error: what the user can do.
        inputs: files that the target must not be.

    Raises:
        OutputError: the file can't be written, or is an input.
    """
    with explaining_failure(file, hint):
        status = _status(file)
        for path in inputs:
            if status and (other := _status(path)) and os.path.samestat(status, other):
                raise OutputError(f"{file} is the input {path}; wanted another file: {hint}")
        in_place = status and (not stat.S_ISREG(status.st_mode) or is_standard_output(file))
        with (_written_at_the_end if in_place else _replaced)(file) as stream:
            yield stream


def write_whole(file: Path, content: str, hint: str = _HINT, inputs: Iterable[Path] = ()) -> None:
    """Write a text file in UTF-8 by :func:`replacing`, and make its folder where there is none.

    Raises:
        OutputError: the file or its folder can't be written, or the file is an input.
    """
    with explaining_failure(file, hint):
        Path(os.path.realpath(file)).parent.mkdir(parents=True, exist_ok=True)
    with replacing(file, hint, inputs) as stream:
        stream.write(content.encode())


def is_standard_output(file: Path) -> bool:
    """Return whether a file is where this process prints to, as ``/dev/stdout`` is: messages go elsewhere."""
    try:
        return os.path.samestat(file.stat(), os.fstat(1))
    except OSError:
        return False


def _status(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _replaced(file: Path) -> Iterator[BinaryIO]:
    target = Path(os.path.realpath(file))
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as stream:
            yield stream
        with contextlib.suppress(FileNotFoundError):  # a new file has the usual permissions
            shutil.copymode(target, temporary)
        temporary.replace(target)
    finally:
        with contextlib.suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _written_at_the_end(file: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file, since some writers need to seek, then append it to a pipe, device or stdout.

    A file that standard output is redirected to keeps what it holds.
    """
    with file.open("ab") as target, tempfile.TemporaryFile() as stream:
        yield stream
        stream.seek(0)
        shutil.copyfileobj(stream, target)


@contextlib.contextmanager
def explaining_failure(path: Path, hint: str) -> Iterator[None]:
    """Turn an ``OSError`` of the block into one line: the path, the reason and what to do.

    Raises:
        OutputError: the block raised an ``OSError``.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of the file, or of the messages, has gone: no failure to write
        raise
    except OSError as error:
        raise OutputError(f"{path} can't be written ({reason_of(error)}): {hint}") from error
