"""Where a run stands: one line that is drawn anew in a terminal, and a line now and then in a log.

Nothing is drawn by a thread of its own, which would disturb what is measured: only when a step begins.
"""

import math
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from embedopt.report.escape import plain

# Seconds between two lines of a log.
_LOG_EVERY_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a run stands.

    Attributes:
        done: number of steps that are done.
        steps: number of steps in all.
        doing: what is being measured, in words.
        left_s: about how many seconds are left.
        now_s: seconds on any clock that does not go back.
    """

    done: int
    steps: int
    doing: str
    left_s: float
    now_s: float


class RunProgress:
    """Shows where a run stands.

    Args:
        stream: where to write.
        is_terminal: whether a line of it can be drawn anew.
    """

    def __init__(self, stream: TextIO, *, is_terminal: bool) -> None:
        self._stream = stream
        self._logged_s = -math.inf
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
        )
        console = Console(file=stream, force_terminal=True, highlight=False)
        self._bar = (
            Progress(
                *columns,
                console=console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            if is_terminal
            else None
        )
        self._task = self._bar.add_task("", left="") if self._bar else None

    def show(self, standing: Standing) -> None:
        """Show what is being measured and the time left; in a log, every 15 seconds at the most."""
        doing, left = plain(standing.doing), f"{in_words(standing.left_s)} left"
        if self._bar is not None and self._task is not None:
            self._bar.start()
            self._bar.update(
                self._task, description=doing, completed=standing.done, total=standing.steps, left=left
            )
            self._bar.refresh()
        elif standing.now_s - self._logged_s >= _LOG_EVERY_S:
            self._logged_s = standing.now_s
            self._stream.write(f"{standing.done} of {standing.steps} done, {left}: {doing}\n")
            self._stream.flush()

    def close(self) -> None:
        """Take the line away."""
        if self._bar is not None:
            self._bar.stop()


def in_words(seconds: float) -> str:
    """Return a duration as a person would say it: ``about 40 s``, ``about 6 min``."""
    if seconds < 60:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    return f"about {round(seconds / 60)} min"
