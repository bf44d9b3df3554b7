"""What a job shows while it runs: rows, texts/s, padding and the time left."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import rich.console
import rich.progress
from rich.markup import escape

from embedopt.bulk.manifest import REJECTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a job did.

    Attributes:
        parts: number of files that the folder holds for the job.
        rows: number of embeddings in them.
        rejected: number of rows that were rejected.
        encoded: number of rows that this run read.
        seconds: time that these rows took, without opening the encoder.
        encoding_s: seconds of these that the encoder worked.
        machines: number of machines that encoded.
        others: number of further files in the folder, of inputs that were not named this time.
    """

    parts: int
    rows: int
    rejected: int
    encoded: int
    seconds: float
    encoding_s: float
    machines: int = 1
    others: int = 0


def summary(output: Path, totals: Totals, price_per_hour: float) -> list[str]:
    """Return what a job did and cost, in lines.

    Args:
        output: the output folder.
        totals: what was done.
        price_per_hour: dollars for an hour of a machine.
    """
    rejected = f", {totals.rejected:,} rows rejected: see {output / REJECTS}" if totals.rejected else ""
    files = "file" if totals.parts == 1 else "files"
    held = [f"{output}: {totals.rows:,} embeddings in {totals.parts:,} {files}{rejected}"]
    if totals.others:
        held.append(f"{totals.others:,} further files of inputs that were not named: delete what is unwanted")
    if not totals.encoded:
        return [*held, "nothing was left to encode"]
    dollars = totals.seconds / 3600 * price_per_hour * totals.machines
    machines = f" for each of {totals.machines} machines" if totals.machines > 1 else ""
    return [
        *held,
        f"{totals.encoded:,} texts in {totals.seconds:,.1f} s, "
        f"{totals.encoded / totals.seconds:,.0f} texts/s; "
        f"${dollars:.4f} at ${price_per_hour:.2f} an hour{machines}, "
        f"${dollars / totals.encoded * 1e6:.3f} per million texts",
    ]


class Progress:
    """A progress bar on standard error; a context manager."""

    def __init__(self) -> None:
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TaskProgressColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[rate]}{task.fields[padding]}"),
            rich.progress.TimeRemainingColumn(),
            console=rich.console.Console(stderr=True),
            speed_estimate_period=120.0,  # a chunk takes seconds
        )
        self._task = self._bar.add_task("looking for files", total=None, rate="", padding="")

    def step(self, words: str) -> None:
        """Show what is done at the moment."""
        self._bar.update(self._task, description=escape(words))

    def begin(self, rows: int, todo: int) -> None:
        """Show how many rows there are, and how many of them are to be encoded."""
        self._bar.reset(self._task, total=rows, completed=rows - todo)

    def advance(self, rows: int) -> None:
        """Count rows as encoded."""
        self._bar.advance(self._task, rows)
        speed = self._bar.tasks[0].speed
        self._bar.update(self._task, rate=f"{speed:,.0f} texts/s" if speed else "")

    def show_padding(self, share: float) -> None:
        """Show the share of padding in what is computed."""
        self._bar.update(self._task, padding=f", padding {share:.0%}")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
