"""The progress of a run: one line that a terminal redraws, or a line now and then in a log.

It is drawn only when a step begins: a thread that draws would disturb what is measured.
"""

import math
from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from embedopt.report.escape import plain

# Seconds between two lines of a log.
_LOG_EVERY_S = 15.0


class RunProgress:
    """Shows the progress of a run: redrawn on a terminal, or without one as lines of a log."""

    def __init__(self, terminal: TextIO | None, write_line: Callable[[str], None]) -> None:
        self._write_line = write_line
        self._logged_s = -math.inf
        self._bar = None if terminal is None else _bar(terminal)

    def show(self, doing: str, *, done: int, steps: int, left_s: float, now_s: float) -> None:
        """Show what is being measured and the time left; in a log, at most every 15 seconds.

        ``done`` of ``steps`` steps are done; ``now_s`` is the time of any clock that never goes back.
        """
        doing, left = plain(doing), f"{in_words(left_s)} left"
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, description=doing, completed=done, total=steps, left=left)
            self._bar.start()
            self._bar.refresh()
        elif now_s - self._logged_s >= _LOG_EVERY_S:
            self._logged_s = now_s
            self._write_line(f"{done} of {steps} done, {left}: {doing}")

    def clear(self) -> None:
        """Remove the line until the next :meth:`show`."""
        if self._bar is not None:
            self._bar.stop()


def _bar(terminal: TextIO) -> Progress:
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
        console=Console(file=terminal, force_terminal=True, highlight=False),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    bar.add_task("", left="")
    return bar


def in_words(seconds: float) -> str:
    """Return a duration as a person would say it: ``about 40 s``, ``about 6 min``."""
    if seconds < 60:
        return f"about {max(5, 5 * math.ceil(seconds / 5))} s"
    return f"about {math.ceil(seconds / 60)} min"
