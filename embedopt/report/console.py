"""What all tables for a terminal share: at most 100 columns, and plain where it is none."""

import io
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from embedopt.report.escape import plain, without_commands

WIDTH = 100


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
    """Return lines of text of which nothing is taken as markup, or by the terminal."""
    return Text("\n".join(map(plain, content.split("\n"))), style=style)


def lines(content: Sequence[str]) -> str:
    """Return lines as they are, of any width, but for what a terminal or a runner would act on."""
    return without_commands("\n".join(plain(line) for part in content for line in part.split("\n"))) + "\n"


def table(title: str, *columns: str) -> Table:
    """Return an empty table: its first column is of names, the others of figures."""
    made = Table(
        title=text(title),
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_style="bold",
    )
    made.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        made.add_column(column, justify="right", no_wrap=True)
    return made


def number(value: float | None, digits: int, scale: float = 1.0) -> str:
    """Return a figure, or a dash for what was not measured."""
    return "-" if value is None else f"{value * scale:,.{digits}f}"


def percent(value: float | None) -> str:
    """Return a share in per cent, or a dash for what was not measured."""
    return "-" if value is None else f"{value:.1%}"
