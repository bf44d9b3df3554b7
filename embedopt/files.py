"""Files that are written whole or not at all."""

import contextlib
from pathlib import Path

from embedopt.errors import RecordError


def write_whole(file: Path, content: str) -> None:
    """Write a text file beside its place, then move it there: who reads it finds the old or the new one.

    Raises:
        RecordError: it can't be written.
    """
    part = file.with_name(f".{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(content, encoding="utf8")
        part.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first one is the one to tell
            part.unlink(missing_ok=True)
        reason = (error.strerror or str(error)).lower()
        raise RecordError(f"{file} can't be written ({reason}): choose another place with -o") from error
