"""A run with its verdicts, ready to be shown."""

from dataclasses import dataclass

from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.verdict import Verdict
from embedopt.judge.gate.whole_runs import judge_gate_run, judge_history
from embedopt.judge.history.saved_runs import History, SavedRun
from embedopt.judge.history.series import roster
from embedopt.report.words import describe_damaged, describe_not_measured, describe_roster, title_of


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRun:
    """A run and its verdicts.

    Attributes:
        title: which run, and what it was compared with.
        notes: lines that are shown with them.
    """

    head: SavedRun
    title: str
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()


def judge_run(history: History, head: SavedRun, settings: GateSettings) -> JudgedRun:
    """Judge a run against the base that was measured beside it, else by its own history."""
    notes = (*describe_damaged(history.damaged), *describe_not_measured(head.run))
    against = head.run.against if head.run else None
    if against and (verdicts := judge_gate_run(against, settings)):
        return JudgedRun(head=head, title=title_of(head.name, against), verdicts=verdicts, notes=notes)
    earlier = history.before(head)
    return JudgedRun(
        head=head,
        title=f"{head.name} in its own history ({len(earlier)} earlier runs)",
        verdicts=judge_history(head, earlier, settings),
        notes=(*notes, *describe_changed_benchmarks(history, head)),
    )


def describe_changed_benchmarks(history: History, head: SavedRun) -> tuple[str, ...]:
    """Return notes on benchmarks that are new, renamed or gone since the run of the same kind before."""
    earlier = history.before(head)
    return describe_roster(roster(earlier[-1], head)) if earlier else ()
