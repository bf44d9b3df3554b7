"""A judged run for GitHub: the summary of a job, the comment on a pull request, annotations.

The headline comes first; then a table of what changed; the rest is folded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from embedopt.judge.gate.verdict import Outcome, Verdict, headline
from embedopt.judge.summary import Row, summary_rows
from embedopt.records import Run
from embedopt.report.console import number
from embedopt.report.escape import annotation, markdown
from embedopt.report.judged_run import JudgedRun
from embedopt.report.words import VERDICT_COLUMNS, figures, sentence, subject, worth_a_row

# A comment holds 65,536 characters, a job's summary 1 MiB: one text that fits both, at 4 bytes a character.
LIMIT = 60_000
_MOVED: tuple[Outcome, ...] = ("regressed", "vectors changed", "improved", "declared", "not comparable")
_LEVELS: dict[Outcome, str] = {
    "regressed": "error",
    "vectors changed": "error",
    "not comparable": "warning",
}
# GitHub shows ten errors and ten warnings of a step.
_ANNOTATIONS = 10
_RESULTS = ("backend", "batch", "p50 ms", "p95 ms", "p99 ms", "texts/s", "x", "MB", "cosine", "$/M")


def render_markdown(
    judged: JudgedRun, price_per_hour: float, limit: int = LIMIT, *, besides: str = ""
) -> str:
    """Return Markdown of at most ``limit`` characters.

    What does not fit is left out from the end, row by row, and a line says so; tables and folds stay valid.

    Args:
        judged: the run and its verdicts.
        price_per_hour: dollars for an hour of the machine.
        limit: largest number of characters.
        besides: Markdown that ends the first line, after the headline.
    """
    moved = [verdict for verdict in judged.verdicts if verdict.outcome in _MOVED]
    rest = [verdict for verdict in worth_a_row(judged.verdicts) if verdict.outcome not in _MOVED]
    unlisted = len(judged.verdicts) - len(moved) - len(rest)
    equivalent = f" and {unlisted} equivalent scores and sizes" if unlisted else ""
    blocks = [
        _Part(f"### embedopt: {headline(judged.verdicts)}{besides}\n\n{markdown(judged.title)}"),
        _verdict_table("", moved),
        _Part("", [f"- {markdown(note)}" for note in judged.notes]),
        _verdict_table(f"{len(rest)} without a clear change{equivalent}", rest),
        _results(summary_rows(judged.head, price_per_hour)),
        _provenance(judged.head.run),
    ]
    return _fitted([block for block in blocks if block.head or block.rows], limit)


def render_annotations(judged: JudgedRun) -> str:
    """Return the commands that make GitHub's runner show what failed, then the headline."""
    by_outcome = [
        [verdict for verdict in judged.verdicts if verdict.outcome == outcome] for outcome in _LEVELS
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
        """Return as much as fits into ``room`` characters, and how many rows were left out."""
        room -= len(self.head) + len(self.foot) + 2
        kept = 0
        for row in self.rows:
            room -= len(row) + 1
            if room < 0:
                break
            kept += 1
        if room < 0 and not kept:
            return "", max(1, len(self.rows))
        rows = "".join(f"{row}\n" for row in self.rows[:kept])
        return f"{self.head}{rows}{self.foot}\n", len(self.rows) - kept


def _fitted(parts: Sequence[_Part], limit: int) -> str:
    note = "\n{} more lines are left out: GitHub takes no longer text.\n"
    room, text, left_out = limit - len(note) - 8, "", 0
    for part in parts:
        shown, missing = part.cut(room)
        text, room, left_out = text + shown, room - len(shown), left_out + missing
    return text + (note.format(left_out) if left_out else "")


def _verdict_table(fold: str, verdicts: Sequence[Verdict]) -> _Part:
    rows = [
        _row(
            markdown(subject(verdict)),
            verdict.outcome,
            *figures(verdict),
            markdown(verdict.why) if verdict.why else "",
        )
        for verdict in verdicts
    ]
    return _table(fold, (*VERDICT_COLUMNS, "why"), rows)


def _results(rows: Sequence[Row]) -> _Part:
    shown = [
        _row(
            markdown(row.backend),
            str(row.latency.batch_size),
            number(row.latency.p50_ms, 1),
            number(row.latency.p95_ms, 1),
            number(row.latency.p99_ms, 1),
            number(row.texts_per_s, 0),
            number(row.speed_up, 1),
            number(row.footprint.disk_bytes, 1, 1e-6),
            number(row.accuracy.cosine_mean, 4),
            number(row.dollars_per_million, 3),
        )
        for row in rows
    ]
    return _table("Key results (times of one call with a whole batch)", _RESULTS, shown)


def _provenance(run: Run | None) -> _Part:
    if run is None:
        return _Part("")
    rows = [
        f"- {markdown(run.hardware_class)}",
        f"- Python {markdown(run.machine.python)}, {markdown(run.profile)} profile",
        f"- model {markdown(run.model.name)} ({markdown(run.model.digest[:12])}), "
        f"corpus {markdown(run.corpus.name)} ({markdown(run.corpus.digest[:12])})",
        *(f"- {markdown(f'{name} {version}')}" for name, version in run.machine.libraries.items()),
    ]
    return _folded("Where it ran", "", rows)


def _table(fold: str, columns: Sequence[str], rows: Sequence[str]) -> _Part:
    if not rows:
        return _Part("")
    head = f"{_row(*columns)}\n{_row('---', *['---:'] * (len(columns) - 1))}\n"
    return _folded(fold, head, rows) if fold else _Part(f"\n{head}", rows)


def _folded(summary: str, head: str, rows: Sequence[str]) -> _Part:
    return _Part(f"\n<details><summary>{summary}</summary>\n\n{head}", rows, "\n</details>\n")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
