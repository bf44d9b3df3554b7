"""The manifest of an output folder: what its vectors depend on, and which parts are done.

It is a file of JSON lines that only grows: what the vectors depend on, then a line for each part, written
once the part's file is in place. A kill can cut the last line short; its part is then encoded again.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from embedopt.bulk.sources import Part, Source
from embedopt.errors import OutputError
from embedopt.files import explaining_failure
from embedopt.schema import from_json, record, to_json

# Names that begin with _ are no data to Arrow, Spark and DuckDB.
MANIFEST = "_manifest.jsonl"
REJECTS = "_rejects"
_LOCK = "_lock"
_HINT = "choose another place with -o"

# All that a vector depends on, by name, in words.
Identity = Mapping[str, str]


@record
class DonePart:
    """A part that is done: its output file, the input that it was made of, and the rows of both."""

    part: str
    source: str
    digest: str
    rows: int
    rejected: int


class Manifest:
    """The manifest of an output folder.

    Args:
        folder: the output folder.
        lines: what the manifest holds.
    """

    def __init__(self, folder: Path, lines: list[dict[str, object]]) -> None:
        self.folder = folder
        self.identity: Identity = {}
        self.parts: dict[str, DonePart] = {}
        for line in lines:
            if "part" in line:
                done = from_json(DonePart, line)
                self.parts[done.part] = done
            else:
                self.identity = {name: str(value) for name, value in line.items()}

    def holds(self, part: Part) -> bool:
        """Return whether a part is done, with as many rows as it has now, and its file is there."""
        done = self.parts.get(part.name)
        has_rows = done is not None and done.rows + done.rejected == part.rows
        return has_rows and (self.folder / part.name).exists()

    def changes(self, identity: Identity, sources: Iterable[Source]) -> list[str]:
        """Return in words how what the folder holds differs from what the job would write."""
        before = self.identity if self.parts else identity
        by_name = {source.name: source for source in sources}
        changed = {
            by_name[done.source].path
            for done in self.parts.values()
            if done.source in by_name and by_name[done.source].digest != done.digest
        }
        return [
            *(
                f"{name} was {before.get(name, 'none')}, is now {identity.get(name, 'none')}"
                for name in {**before, **identity}
                if before.get(name) != identity.get(name)
            ),
            *(f"{path} has changed" for path in sorted(changed)),
        ]

    def begin(self, identity: Identity) -> None:
        """Note what the vectors of the parts to come depend on."""
        if identity != self.identity:
            self.identity = identity
            self._append(identity)

    def add(self, done: DonePart) -> None:
        """Note that a part is done."""
        self.parts[done.part] = done
        self._append(to_json(done))

    def clear(self) -> None:
        """Delete all parts, their rejects and the manifest."""
        with explaining_failure(self.folder, _HINT):
            (self.folder / MANIFEST).unlink(missing_ok=True)
            for name in self.parts:
                (self.folder / name).unlink(missing_ok=True)
                rejects_file(self.folder, name).unlink(missing_ok=True)
        self.identity, self.parts = {}, {}

    def _append(self, values: Mapping[str, object]) -> None:
        file = self.folder / MANIFEST
        with explaining_failure(file, _HINT), file.open("a", encoding="utf8") as stream:
            stream.write(json.dumps(values) + "\n")


# Names that embedopt.files.replacing gives; other programs' files stay.
_HALF_WRITTEN = re.compile(r"\..+\.[0-9a-f]{32}\.part")


def rejects_file(folder: Path, part: str) -> Path:
    """Return the file with the rejected rows of a part."""
    return folder / REJECTS / f"{part}.jsonl"


@contextlib.contextmanager
def open_manifest(folder: Path) -> Iterator[Manifest]:
    """Open the manifest of an output folder, for one process at a time; make the folder if it is missing.

    Files that a killed process left half-written are deleted.

    Raises:
        OutputError: the folder can't be written, holds something else, or another process writes to it.
    """
    with explaining_failure(folder, _HINT):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(folder / _LOCK).acquire(blocking=False)
        except Timeout:
            raise OutputError(
                f"another process writes to {folder}: wait for it, or choose another -o"
            ) from None
    with lock:
        with explaining_failure(folder, _HINT):
            for stale in folder.rglob(".*.part"):
                if _HALF_WRITTEN.fullmatch(stale.name) and stale.is_file():
                    stale.unlink()
            manifest = Manifest(folder, _read(folder))
        yield manifest


def _read(folder: Path) -> list[dict[str, object]]:
    file = folder / MANIFEST
    if not file.exists():
        if others := [path.name for path in folder.iterdir() if path.name != _LOCK]:
            raise OutputError(
                f"{folder} holds {others[0]} and no {MANIFEST}; wanted an empty folder, or one that "
                "embedopt encode wrote: choose another place with -o"
            )
        return []
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(file, len(whole))
    try:
        return [dict(json.loads(line)) for line in whole.splitlines()]
    except (ValueError, TypeError):
        raise OutputError(f"{file} is damaged; wanted JSON lines: encode to another folder with -o") from None
