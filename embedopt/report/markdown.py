"""A judged run for GitHub: the summary of a job, the comment on a pull request, annotations.

The headline comes first, then a table of what changed; everything else is folded.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from embedopt.judge.gate.verdict import Outcome, Verdict, headline
from embedopt.records import Run
from embedopt.report.console import Sheet
from embedopt.report.escape import annotation, entities, markdown
from embedopt.report.judged_run import JudgedRun
from embedopt.report.summary_tables import deciding_tables, provenance
from embedopt.report.words import VERDICT_COLUMNS, row_of, sentence, subject, worth_a_row

# GitHub limits a comment to 65,536 characters and a summary to 1 MiB; at 4 bytes a character, both fit this.
LIMIT = 60_000
_MOVED: tuple[Outcome, ...] = ("regressed", "vectors changed", "improved", "declared", "not comparable")
_LEVELS: dict[Outcome, str] = {
    "regressed": "error",
    "vectors changed": "error",
    "not comparable": "warning",
}
# GitHub shows ten errors and ten warnings of a step.
_ANNOTATIONS = 10


def render_markdown(
    judged: JudgedRun, price_per_hour: float, limit: int = LIMIT, *, besides: str = ""
) -> str:
    """Return Markdown of at most ``limit`` characters; ``besides`` ends its first line, after the headline.

    If it is too long, rows are left out at the ends of its parts, and a line says how many; tables and folds
    stay valid.
    """
    moved = [verdict for verdict in judged.verdicts if verdict.outcome in _MOVED]
    rest = [verdict for verdict in worth_a_row(judged.verdicts) if verdict.outcome not in _MOVED]
    unlisted = len(judged.verdicts) - len(moved) - len(rest)
    equivalent = f" and {unlisted} equivalent scores and sizes" if unlisted else ""
    again = f"\n\nTo measure it again: {markdown(judged.command)}" if judged.command else ""
    blocks = [
        _Part(f"### embedopt: {headline(judged.verdicts)}{besides}\n\n{markdown(judged.title)}{again}"),
        _verdict_table("", moved),
        _Part("", [f"- {markdown(note)}" for note in judged.notes]),
        _verdict_table(f"{len(rest)} without a clear change{equivalent}", rest),
        *map(_figures, deciding_tables(judged.head, price_per_hour)),
        _provenance(judged.head.run, price_per_hour),
    ]
    return _fitted([block for block in blocks if block.head or block.rows], limit)


def render_annotations(judged: JudgedRun) -> str:
    """Return the commands that make GitHub's runner show what failed, then the headline."""
    by_outcome = [
        [verdict for verdict in judged.verdicts if verdict.fails and verdict.outcome == outcome]
        for outcome in _LEVELS
    ]
    shown = [verdict for verdicts in by_outcome for verdict in verdicts[:_ANNOTATIONS]]
    left_out = sum(map(len, by_outcome)) - len(shown)
    notices = [f"{left_out} more are left out: the summary of the job has them"] if left_out else []
    commands = [
        *(annotation(_LEVELS[verdict.outcome], subject(verdict), sentence(verdict)) for verdict in shown),
        *(annotation("notice", "embedopt", notice) for notice in (*notices, headline(judged.verdicts))),
    ]
    return "".join(f"{command}\n" for command in commands)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a text whose last rows may be left out."""

    head: str
    rows: Sequence[str] = ()
    foot: str = ""

    def cut(self, room: int) -> tuple[str, int]:
        """Return as much as fits into ``room`` characters, and how many lines were left out."""
        room -= len(self.head) + len(self.foot) + 2
        kept = sum(size <= room for size in itertools.accumulate(len(row) + 1 for row in self.rows))
        if room < 0 or (self.rows and not kept):
            return "", max(1, len(self.rows))
        rows = "".join(f"{row}\n" for row in self.rows[:kept])
        return f"{self.head}{rows}{self.foot}\n", len(self.rows) - kept


def _fitted(parts: Sequence[_Part], limit: int) -> str:
    note = "\n{} more lines are left out: GitHub takes no longer text.\n"
    text, left_out = "", 0
    for part in parts:
        shown, missing = part.cut(limit - len(note) - 8 - len(text))
        text, left_out = text + shown, left_out + missing
    return text + (note.format(left_out) if left_out else "")


def _verdict_table(fold: str, verdicts: Sequence[Verdict]) -> _Part:
    rows = [[*row_of(verdict), markdown(verdict.why) if verdict.why else ""] for verdict in verdicts]
    return _table(fold, (*VERDICT_COLUMNS, "why"), rows)


def _figures(shown: Sheet) -> _Part:
    heads = [entities(" ".join(head.split())) for head in shown.heads]
    return _table(entities(shown.title), heads, shown.rows)


def _provenance(run: Run | None, price_per_hour: float) -> _Part:
    if run is None:
        return _Part("")
    versions = {"Python": run.machine.python, **run.machine.libraries}
    libraries = [f"{name} {version}" for name, version in versions.items()]
    rows = [f"- {markdown(line)}" for line in (*provenance(run, price_per_hour), *libraries)]
    return _folded("Where it ran, and what the tables show", "", rows)


def _table(fold: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> _Part:
    """Return a table; only the first cell of a row is escaped, since its name may come from a file."""
    if not rows:
        return _Part("")
    shown = [_row(markdown(name), *figures) for name, *figures in rows]
    head = f"{_row(*columns)}\n{_row('---', *['---:'] * (len(columns) - 1))}\n"
    return _folded(fold, head, shown) if fold else _Part(f"\n{head}", shown)


def _folded(summary: str, head: str, rows: Sequence[str]) -> _Part:
    return _Part(f"\n<details><summary>{summary}</summary>\n\n{head}", rows, "\n</details>\n")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
