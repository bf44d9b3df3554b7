"""The texts that everything is measured on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from embedopt.errors import InputError
from embedopt.inference.artifacts.weights import digest_of


@dataclass(frozen=True)
class Corpus:
    """Texts, and which of them answer which.

    Attributes:
        name: the file's or folder's name.
        texts: all texts, in the order of the files.
        relevant: for the index of each query, the indices of the texts judged relevant to it.
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
        """The texts, :func:`mixed`."""
        return mixed(self.texts)

    @property
    def request_texts(self) -> tuple[str, ...]:
        """What comes one at a time to a service: the queries, where the corpus has any; :func:`mixed`."""
        return mixed([self.texts[index] for index in self.relevant] or self.texts)

    @property
    def candidates(self) -> tuple[int, ...]:
        """Indices of the texts that a query searches: all that are no query themselves."""
        return tuple(index for index in range(len(self.texts)) if index not in self.relevant)


def load_corpus(path: Path, *, keep_blank: bool = False) -> Corpus:
    """Read a corpus.

    Args:
        path: a text file (a text a line), a file of JSON lines with a ``text`` field,
            or a folder of such JSON lines, read in the order of their names. A line with ``id`` can be named
            in the ``relevant`` list of a query's line.
        keep_blank: whether a blank line of a text file is an empty text, or left out.

    Raises:
        InputError: the file is missing, empty, not UTF-8, or a line can't be used; the message names it.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise InputError(
            f"corpus {path} is a folder without .jsonl files: name a file, or a folder that has them"
        )
    lines = [line for file in files for line in _read(file, keep_blank)]
    if not lines:
        raise InputError(f"corpus {path} has no texts; wanted a text a line, or JSON lines with a text field")
    return Corpus(path.name, tuple(line.text for line in lines), _judgements(lines))


def mixed(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the texts shuffled, the same way each time: any stretch of them is a fair sample."""
    order = np.random.default_rng(0).permutation(len(texts))
    return tuple(texts[index] for index in order)


@dataclass(frozen=True)
class _Line:
    where: str
    text: str
    key: str | None = None
    relevant: tuple[str, ...] | None = None


def _read(file: Path, keep_blank: bool) -> list[_Line]:
    try:
        content = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"corpus {file} is not UTF-8 at byte {error.start}: save it as UTF-8") from None
    except OSError as error:
        reason = (error.strerror or "can't be read").lower()
        raise InputError(f"corpus {file}: {reason}; wanted a text file or JSON lines") from None
    # Not splitlines: it also cuts at characters that may stand inside a text, such as U+2028.
    lines = [line.removesuffix("\r") for line in content.removesuffix("\n").split("\n")] if content else []
    numbered = [(f"{file}:{number}", line) for number, line in enumerate(lines, 1)]
    if file.suffix in {".jsonl", ".ndjson", ".json"}:
        return [_parse(where, line) for where, line in numbered if line.strip()]
    return [_Line(where, line) for where, line in numbered if keep_blank or line.strip()]


def _parse(where: str, line: str) -> _Line:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise InputError(f"corpus {where}: not JSON ({error}); wanted an object with a text field") from None
    if not isinstance(values, dict) or not isinstance(values.get("text"), str):
        raise InputError(
            f'corpus {where}: no text field with a string; wanted an object such as {{"text": ...}}'
        )
    if not _is_unicode(values["text"]):
        raise InputError(
            f"corpus {where}: a lone surrogate in its text; wanted valid Unicode: mend its escapes"
        )
    relevant = values.get("relevant")
    if relevant is not None and not isinstance(relevant, list):
        raise InputError(
            f"corpus {where}: relevant is no list; wanted the ids of the texts that answer this one"
        )
    key = values.get("id")
    return _Line(
        where,
        values["text"],
        None if key is None else str(key),
        None if relevant is None else tuple(map(str, relevant)),
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _judgements(lines: Sequence[_Line]) -> dict[int, tuple[int, ...]]:
    index_of: dict[str, int] = {}
    for index, line in enumerate(lines):
        if line.key is None:
            continue
        if line.key in index_of:
            raise InputError(f"corpus {line.where}: id {line.key!r} was used before; wanted one text an id")
        index_of[line.key] = index
    judged: dict[int, tuple[int, ...]] = {}
    for index, line in enumerate(lines):
        for key in line.relevant or ():
            if key not in index_of:
                raise InputError(f"corpus {line.where}: relevant names id {key!r}, which no line has")
        if line.relevant is not None:
            judged[index] = tuple(index_of[key] for key in line.relevant)
    return judged
