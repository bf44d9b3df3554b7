"""The corpus: the texts that everything is measured on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic.dataclasses
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from embedopt.errors import InputError, reason_of
from embedopt.inference.artifacts.weights import digest_of
from embedopt.schema import describe_mistake

DEFAULT_CORPUS = Path("benchmarks", "corpus")
_PACKAGE = Path(__file__).parents[1]
# The questions and texts that come with embedopt: inside the wheel, or beside the package in its repository.
SHIPPED = next(
    (folder / "benchmarks" for folder in (_PACKAGE, _PACKAGE.parent) if (folder / "benchmarks").is_dir()),
    _PACKAGE / "benchmarks",
)

# The first bytes of files that are no text.
_OTHER_FILES = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"(\xb5/\xfd": "Zstandard",
    b"PK\x03\x04": "zip",
}


@dataclass(frozen=True)
class Corpus:
    """Texts, and which of them are relevant to which queries.

    Attributes:
        name: name of the file or folder.
        texts: all texts, in the order of the files.
        relevant: for the index of each query, the indices of the texts that were judged relevant to it.
    """

    name: str
    texts: tuple[str, ...]
    relevant: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Sha256 of the texts and judgements."""
        return digest_of([self.texts, sorted(self.relevant.items())])

    @cached_property
    def mixed_texts(self) -> tuple[str, ...]:
        """All texts, shuffled by :func:`mixed`."""
        return mixed(self.texts)

    @property
    def request_texts(self) -> tuple[str, ...]:
        """Texts that a service gets one at a time: the queries, or all texts without any; :func:`mixed`."""
        return mixed([self.texts[index] for index in self.relevant] or self.texts)

    @property
    def candidates(self) -> tuple[int, ...]:
        """Indices of the texts that queries search: all but the queries, or all where one answers another.

        A query that answers another is a document too, as in a corpus of duplicate questions.
        """
        answers = {text for texts in self.relevant.values() for text in texts}
        if not answers.isdisjoint(self.relevant):
            return tuple(range(len(self.texts)))
        return tuple(index for index in range(len(self.texts)) if index not in self.relevant)

    @property
    def judged_queries(self) -> tuple[int, ...]:
        """Indices of the queries to which at least one text was judged relevant."""
        return tuple(query for query, relevant in self.relevant.items() if relevant)


def corpus_in(project: Path, path: Path = DEFAULT_CORPUS) -> Path:
    """Return where a project's texts are: ours, where it has none of its own in the usual place."""
    own = project / path
    return own if own.exists() or path != DEFAULT_CORPUS else SHIPPED / path.name


def load_corpus(path: Path, *, keep_blank: bool = False) -> Corpus:
    """Read a corpus.

    Args:
        path: a text file with a text a line, a file of JSON lines with a ``text`` field, or a folder of
            such JSON lines files, read in the order of their names. The ``relevant`` list of a query's line
            names the ``id`` of other lines.
        keep_blank: whether a blank line of a text file is an empty text; otherwise it is left out.

    Raises:
        InputError: the file is missing, empty or not UTF-8, or a line can't be used; the message names it.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise InputError(
            f"corpus {path} is a folder without .jsonl files: name a file, or a folder that has them"
        )
    lines = [placed for file in files for placed in _read(file, keep_blank)]
    if not lines:
        raise InputError(f"corpus {path} has no texts; wanted a text a line, or JSON lines with a text field")
    return Corpus(path.name, tuple(line.text for _, line in lines), _judgements(lines))


def read_lines(file: Path, kind: str, wanted: str) -> list[str]:
    """Return the lines of a file: only LF and CRLF end one, as CR, U+2028 and others may stand inside a text.

    Raises:
        InputError: the file can't be read; the message says what ``kind`` of input it is and what was wanted.
    """
    try:
        content = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        for start, other in _OTHER_FILES.items():
            if error.object.startswith(start):
                raise InputError(f"{kind} {file} is a {other} file; wanted {wanted}: unpack it") from None
        raise InputError(f"{kind} {file} is not UTF-8 at byte {error.start}: save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{kind} {file}: {reason_of(error)}; wanted {wanted}") from None
    return [line.removesuffix("\r") for line in content.removesuffix("\n").split("\n")] if content else []


def mixed(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the texts shuffled, the same way each time, so that any part of them is a fair sample."""
    order = np.random.default_rng(0).permutation(len(texts))
    return tuple(texts[index] for index in order)


def _encodable(text: str) -> str:
    text.encode()  # JSON's escapes can spell lone surrogates, which no tokenizer takes
    return text


@pydantic.dataclasses.dataclass(frozen=True)
class _Line:
    """A line of a file; other fields of its JSON object are ignored."""

    text: Annotated[
        str,
        AfterValidator(_encodable),
        Field(description='a string of valid Unicode, as in {"text": "night nurse"}'),
    ]
    id: Any = None
    relevant: Annotated[
        list[Any] | None, Field(description="a list of the ids of the texts that answer this one")
    ] = None


# A line with its place, FILE:NUMBER.
_Placed = tuple[str, _Line]
_LINE: TypeAdapter[_Line] = TypeAdapter(_Line)


def _read(file: Path, keep_blank: bool) -> list[_Placed]:
    lines = read_lines(file, "corpus", "a text file or JSON lines")
    numbered = [(f"{file}:{number}", line) for number, line in enumerate(lines, 1)]
    if file.suffix in {".jsonl", ".ndjson", ".json"}:
        return [(where, _parse(where, line)) for where, line in numbered if line.strip()]
    return [(where, _Line(text=line)) for where, line in numbered if keep_blank or line.strip()]


def _parse(where: str, line: str) -> _Line:
    try:
        values: Any = json.loads(line)
    except ValueError as error:
        raise InputError(f"corpus {where}: not JSON ({error}); wanted an object with a text field") from None
    try:
        return _LINE.validate_python(values if isinstance(values, dict) else {})
    except ValidationError as error:
        raise InputError(f"corpus {where}: {describe_mistake(_Line, error)}: correct the line") from None


def _judgements(lines: Sequence[_Placed]) -> dict[int, tuple[int, ...]]:
    index_of: dict[str, int] = {}
    for index, (where, line) in enumerate(lines):
        if line.id is not None and index_of.setdefault(str(line.id), index) != index:
            raise InputError(f"corpus {where}: id {str(line.id)!r} was used before; wanted one text an id")
    return {
        index: _others(index, [_index(index_of, str(key), where) for key in line.relevant])
        for index, (where, line) in enumerate(lines)
        if line.relevant is not None
    }


def _others(query: int, relevant: Sequence[int]) -> tuple[int, ...]:
    """Return each relevant text once; a search never returns the query itself."""
    return tuple(text for text in dict.fromkeys(relevant) if text != query)


def _index(index_of: Mapping[str, int], key: str, where: str) -> int:
    if key not in index_of:
        raise InputError(f"corpus {where}: relevant names id {key!r}; wanted the id of a line")
    return index_of[key]
