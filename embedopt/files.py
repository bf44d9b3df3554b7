"""Files that are written whole or not at all.

The content goes into a temporary file beside the target, which then takes the target's place: a reader finds
the old content or the new one, never half of it. Each writer has a temporary file of its own, so that two
processes that write the same file at once do not disturb each other: the last to finish wins.
"""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from embedopt.errors import OutputError, reason_of

_HINT = "choose another place with -o"


@contextlib.contextmanager
def replacing(file: Path, hint: str = _HINT) -> Iterator[BinaryIO]:
    """Open a binary stream whose content becomes ``file`` when the block ends without an error.

    Args:
        file: the target, in a folder that exists.
        hint: ends the message of the error: what the user can do.

    Raises:
        OutputError: the file can't be written.
    """
    temporary = file.parent / f".{file.name}.{uuid.uuid4().hex}.part"
    with explaining_failure(file, hint):
        try:
            with temporary.open("xb") as stream:
                yield stream
            temporary.replace(file)
        finally:
            with contextlib.suppress(OSError):  # the first error is the one to report
                temporary.unlink(missing_ok=True)


def write_whole(file: Path, content: str, hint: str = _HINT) -> None:
    """Write a text file in UTF-8 by :func:`replacing`, and make its folder where there is none.

    Raises:
        OutputError: the file or its folder can't be written.
    """
    with explaining_failure(file, hint):
        file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file, hint) as stream:
        stream.write(content.encode())


@contextlib.contextmanager
def explaining_failure(path: Path, hint: str) -> Iterator[None]:
    """Turn an ``OSError`` of the block into one line: the path, the reason and what to do.

    Raises:
        OutputError: the block raised an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} can't be written ({reason_of(error)}): {hint}") from error
