"""Building blocks of the tables for a terminal: at most 100 columns wide, in colours only where asked for."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from embedopt.report.escape import plain, without_commands

WIDTH = 100

R = TypeVar("R")
# The head of each column, and what makes its cell of a row.
Columns = Sequence[tuple[str, Callable[[R], str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table: names in its first column, figures in the others.

    Attributes:
        title: line above the table.
        heads: heads of the columns; one with a line break takes two lines of a terminal.
        rows: cells of each row.
        styles: style of each cell whose whole text is one of these words.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    styles: Mapping[str, str] = field(default_factory=dict)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Draw the table for a terminal."""
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for head in self.heads:
            table.add_column(head, justify="right" if table.columns else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*(text(cell, self.styles.get(cell, "")) for cell in row))
        yield text(self.title, "bold")
        yield table


def rendered(parts: Sequence[RenderableType], *, color: bool) -> str:
    """Return tables and texts as one text of at most :data:`WIDTH` columns."""
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=WIDTH,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
    )
    for part in parts:
        console.print(part)
    return without_commands("\n".join(line.rstrip() for line in stream.getvalue().splitlines())) + "\n"


def text(content: str, style: str = "") -> Text:
    """Return text without markup for Rich and without control characters for the terminal."""
    return Text("\n".join(map(plain, content.split("\n"))), style=style)


def lines(content: Sequence[str]) -> str:
    """Return lines of any width, without control characters or commands of GitHub's runner."""
    return without_commands("\n".join(plain(line) for part in content for line in part.split("\n"))) + "\n"


def sheet(title: str, columns: Columns[R], rows: Iterable[R]) -> Sheet:
    """Return a table with a line for each of ``rows``, its cells made by the functions of the columns."""
    cells = [tuple(cell(row) for _, cell in columns) for row in rows]
    return Sheet(title=title, heads=[head for head, _ in columns], rows=cells)


def number(value: float | None, digits: int, scale: float = 1.0) -> str:
    """Return a figure, or a dash where it was not measured."""
    return "-" if value is None else f"{value * scale:,.{digits}f}"


def percent(value: float | None) -> str:
    """Return a share in per cent, or a dash where it was not measured."""
    return "-" if value is None else f"{value:.1%}"
