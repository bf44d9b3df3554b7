"""Building blocks of the tables for a terminal: at most 100 columns wide, in colours only where asked for."""

import io
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from embedopt.report.escape import plain, without_commands

WIDTH = 100

R = TypeVar("R")
# The head of each column, and what makes its cell of a row.
Columns = Sequence[tuple[str, Callable[[R], str]]]


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
    """Return lines of text in which neither Rich sees markup nor the terminal control characters."""
    return Text("\n".join(map(plain, content.split("\n"))), style=style)


def lines(content: Sequence[str]) -> str:
    """Return lines of any width without what a terminal or GitHub's runner would act on."""
    return without_commands("\n".join(plain(line) for part in content for line in part.split("\n"))) + "\n"


def table(title: str, *columns: str) -> Table:
    """Return an empty table: names in its first column, figures in the others.

    Args:
        title: line above the table.
        columns: heads; one with a line break stands in two lines, the others end in the second.
    """
    made = Table(
        title=text(title),
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_style="bold",
    )
    height = max(column.count("\n") for column in columns)
    for column in columns:
        head = "\n" * (height - column.count("\n")) + column
        made.add_column(head, justify="right" if made.columns else "left", no_wrap=True)
    return made


def filled_table(title: str, columns: Columns[R], rows: Iterable[R]) -> Table:
    """Return a table with a line for each row, its cells made by the functions of the columns."""
    made = table(title, *(head for head, _ in columns))
    for row in rows:
        made.add_row(*(text(cell(row)) for _, cell in columns))
    return made


def number(value: float | None, digits: int, scale: float = 1.0) -> str:
    """Return a figure, or a dash where it was not measured."""
    return "-" if value is None else f"{value * scale:,.{digits}f}"


def percent(value: float | None) -> str:
    """Return a share in per cent, or a dash where it was not measured."""
    return "-" if value is None else f"{value:.1%}"
