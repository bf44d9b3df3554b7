"""A run with its verdicts, ready to be shown."""

from dataclasses import dataclass, replace

from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.verdict import Verdict
from embedopt.judge.gate.whole_runs import judge_gate_run, judge_newest
from embedopt.judge.history.saved_runs import History, SavedRun
from embedopt.judge.history.series import roster
from embedopt.judge.newest import Newest, newest_answers
from embedopt.report.words import (
    command_for,
    describe_damaged,
    describe_not_measured,
    describe_older,
    describe_roster,
    title_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRun:
    """A run and its verdicts.

    Attributes:
        title: which run, and what it was compared with.
        notes: lines that are shown with them.
        command: the command that measures again what failed; empty if there is none.
    """

    head: SavedRun
    title: str
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    command: str = ""


def judge_run(history: History, newest: Newest, settings: GateSettings) -> JudgedRun:
    """Judge a run against the base measured beside it; without one, the newest answers by their history."""
    head = newest.head
    notes = (
        *describe_damaged(history.damaged),
        *describe_not_measured(head.run),
        *describe_older(newest),
    )
    against = head.run.against if head.run else None
    if against is not None:
        verdicts = judge_gate_run(against, settings)
        notes = (*notes, *against.notes)
        return JudgedRun(
            head=newest.run,
            title=title_of(head.name, against),
            verdicts=verdicts,
            notes=notes,
            command=command_for(verdicts, against.base_commit),
        )
    earlier, verdicts = history.before(head), judge_newest(newest, history, settings)
    return JudgedRun(
        head=newest.run,
        title=f"{head.name} in its own history ({len(earlier)} earlier runs)",
        verdicts=verdicts,
        command=command_for(
            verdicts, earlier[-1].commit if earlier and earlier[-1].commit != head.commit else ""
        ),
        notes=(*notes, *describe_changed_benchmarks(history, head)),
    )


def describe_changed_benchmarks(history: History, head: SavedRun) -> tuple[str, ...]:
    """Return notes on benchmarks that are new, renamed or gone since the previous run of the same kind.

    If the previous run is partial, the benchmarks of the runs that complete it count too.
    """
    earlier = history.before(head)
    if not earlier:
        return ()
    before = newest_answers(earlier[-1], earlier[:-1])
    names = before.head.benchmarks.union(*(run.benchmarks for run, _ in before.older))
    return describe_roster(roster(replace(before.head, benchmarks=names), head))
