"""A verdict in words and figures: the same in a terminal, in Markdown and in an annotation."""

from collections.abc import Sequence
from dataclasses import dataclass

from embedopt.judge.gate.verdict import Verdict
from embedopt.judge.history.saved_runs import SavedRun
from embedopt.report.console import percent

VERDICT_COLUMNS = ("what", "verdict", "change", "95 % interval", "could see", "pairs or runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRun:
    """A run and what is said of it.

    Attributes:
        head: the run.
        title: what it was held against.
        verdicts: all of them.
        notes: lines that go with them.
    """

    head: SavedRun
    title: str
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()


def subject(of: Verdict) -> str:
    """Name what a verdict is on."""
    return f"{of.backend} {of.what}".strip() or "the runs"


def change(of: Verdict) -> str:
    """Show a difference of scores as it is, and a change of a time or a size in per cent."""
    if of.effect is None:
        return "-"
    return f"{of.effect:+.5f}" if of.is_accuracy else f"{of.effect:+.1%}"


def span(interval: tuple[float, float] | None) -> str:
    """Show an interval of a time or a size in per cent."""
    return "-" if interval is None else f"{interval[0]:+.1%} to {interval[1]:+.1%}"


def figures(of: Verdict) -> tuple[str, ...]:
    """Return what stands in the columns after the name and the verdict."""
    return change(of), span(of.interval), percent(of.smallest_effect), str(of.pairs or "-")


def worth_a_row(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """Return all verdicts but those on scores and sizes that are as they were: they are counted."""
    return tuple(of for of in verdicts if of.outcome != "equivalent" or of.interval or of.smallest_effect)
