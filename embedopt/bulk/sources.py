"""The input files of a job, and the parts in which each is encoded."""

import contextlib
import glob
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from embedopt.bulk.job import PART_ROWS, Columns
from embedopt.bulk.readers import FORMATS, carried_schema, format_of
from embedopt.errors import InputError, reason_of
from embedopt.inference.artifacts.weights import sha256_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An input file.

    Attributes:
        path: the file.
        name: its path below the folder or the pattern that named it; decides the names of its parts.
        digest: sha256 of its content.
        rows: number of its rows.
        stamp: :func:`stamp_of` the file before it was read.
    """

    path: Path
    name: str
    digest: str
    rows: int
    stamp: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Rows of an input file that become one output file.

    Attributes:
        source: the input file.
        start: number of rows before the part.
        rows: number of rows.
        name: path of the output file below the output folder.
    """

    source: Source
    start: int
    rows: int
    name: str


def stamp_of(path: Path) -> tuple[int, int]:
    """Return a file's size and time of last change, which show whether it changed while it was read."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def parts_of(source: Source, rows: int = PART_ROWS) -> tuple[Part, ...]:
    """Return the parts of a file, each but the last of ``rows`` rows."""
    return tuple(
        Part(
            source=source,
            start=start,
            rows=min(rows, source.rows - start),
            name=_part_name(source.name, index),
        )
        for index, start in enumerate(range(0, source.rows, rows))
    )


def _part_name(name: str, index: int) -> str:
    return f"{name.removesuffix('.parquet')}-{index:05d}.parquet"


def find_files(inputs: Sequence[str], output: Path) -> dict[str, Path]:
    """Return the files that folders, patterns and paths stand for, by name, sorted.

    A folder stands for its files at any depth that have the suffix of a known format; names that begin with
    ``.`` or ``_`` are left out, as Arrow, Spark and DuckDB do. A pattern leaves out the files in the output
    folder, which an earlier run put there.

    Raises:
        InputError: an input stands for no file or lies in the output, the parts of two files would have one
            name, or the output lies in an input folder.
    """
    files: dict[str, Path] = {}
    names: dict[str, str] = {}
    for given in inputs:
        with _explaining(given):
            expanded = sorted(_expand(given, output))
        for name, path in expanded:
            if _is_within(path, output):
                raise InputError(f"{path} lies in the output folder {output}: choose another folder with -o")
            part = _part_name(name, 0)
            if names.setdefault(part, name) != name or not files.setdefault(name, path).samefile(path):
                raise InputError(
                    f"{files[names[part]]} and {path} would both be encoded to {part}: give the folder that "
                    "holds both, rename one, or encode them to two folders"
                )
    return files


def _expand(given: str, output: Path) -> list[tuple[str, Path]]:
    path = Path(given)
    if path.is_file():
        return [(path.name, path)]
    if path.is_dir():
        if _is_within(output, path):
            raise InputError(f"{output} lies in the input folder {path}: choose a folder elsewhere with -o")
        files = list(_files_in(path))
        fault = f"is a folder without files that end with {', '.join(FORMATS)}"
    else:
        root = _fixed_part(given)
        files = [
            (match.relative_to(root).as_posix(), match)
            for match in map(Path, glob.glob(given, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute pattern
            if match.is_file() and not _is_within(match, output)
        ]
        fault = "stands for no file" if glob.has_magic(given) else "is no file and no folder"
    if not files:
        raise InputError(f"{given} {fault}: name files, folders or patterns that have texts")
    return files


def _is_within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


@contextlib.contextmanager
def _explaining(given: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{given} can't be read ({reason_of(error)}): mend its permissions, or leave it out"
        ) from None


def _files_in(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        hidden = any(part.startswith((".", "_")) for part in name.parts)
        if path.is_file() and path.suffix.lower() in FORMATS and not hidden:
            yield name.as_posix(), path


def _fixed_part(pattern: str) -> Path:
    """Return the folders of a pattern before its first wildcard."""
    parts = Path(pattern).parts
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), parts))


def read_sources(
    files: dict[str, Path], columns: Columns, on_step: Callable[[str], None]
) -> tuple[tuple[Source, ...], pa.Schema]:
    """Return the files with their digests and rows, and the columns that the output takes over from all.

    Raises:
        InputError: a file can't be read, lacks a column, or has another type of a column than the first.
    """
    schemas = {path: carried_schema(path, columns) for path in files.values()}
    first, expected = next(iter(schemas.items()))
    for path, schema in schemas.items():
        for field, wanted in zip(schema, expected, strict=True):
            if field.type != wanted.type:
                raise InputError(
                    f"{path}: column {field.name!r} is {field.type}, in {first} it is {wanted.type}; "
                    "wanted one type: convert one, or encode them to two folders"
                )
    return tuple(_source(name, path, on_step) for name, path in files.items()), expected


def _source(name: str, path: Path, on_step: Callable[[str], None]) -> Source:
    on_step(f"reading {name}")
    with _explaining(path):
        stamp = stamp_of(path)
        rows = format_of(path).count(path)
        return Source(path=path, name=name, digest=sha256_of(path), rows=rows, stamp=stamp)
