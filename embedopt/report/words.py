"""Verdicts and notes in words: the same in a terminal, Markdown, annotations and failed tests."""

from collections.abc import Collection, Sequence

from embedopt.errors import RecordError
from embedopt.evidence import PAIRED_FIGURES, GateRun, cell_name
from embedopt.judge.gate.verdict import DRIFT, Verdict, exit_code
from embedopt.judge.history.series import DEFAULT_METRIC, Roster
from embedopt.judge.newest import Answer, Newest
from embedopt.records import KEPT_SHARE, Latency, Run
from embedopt.report.console import percent
from embedopt.schema import Interval

VERDICT_COLUMNS = ("what", "verdict", "change", "95 % interval", "detectable", "pairs or runs")
# Metrics that are shown by another name; a call's time is named by backend and batch size alone.
_BULK_NAMES = {"bulk_per_s": "bulk texts/s", "bulk_peak_bytes": "bulk memory", "bulk_resume_s": "bulk resume"}
_METRIC_NAMES = (
    {DEFAULT_METRIC: "time"} | _BULK_NAMES | {name: figure.words for name, figure in PAIRED_FIGURES.items()}
)
# Metrics that no gate run measures.
_NOT_IN_PAIRS = frozenset({*_BULK_NAMES, "spearman", "spearman_distance"})
# Benchmarks that are named in one note.
_LISTED = 5


def subject(verdict: Verdict) -> str:
    """Return the name of what a verdict is on."""
    metric = _METRIC_NAMES.get(verdict.metric, verdict.metric)
    return cell_name(verdict.backend, verdict.batch_size, metric) or "the runs"


def sentence(verdict: Verdict) -> str:
    """Return a verdict in one line, without its subject."""
    parts = [verdict.outcome, _evidence(verdict), verdict.why]
    if verdict.smallest_effect is not None and verdict.outcome == "inconclusive":
        parts.insert(2, f"{percent(verdict.smallest_effect)} would have been detected")
    return ", ".join(filter(None, parts))


def row_of(verdict: Verdict) -> tuple[str, ...]:
    """Return the cells of a verdict's row in a table with the heads :data:`VERDICT_COLUMNS`."""
    return (
        subject(verdict),
        verdict.outcome,
        change(verdict) or "-",
        span(verdict.interval) or "-",
        percent(verdict.smallest_effect),
        str(verdict.pairs or "-"),
    )


def change(verdict: Verdict) -> str:
    """Return a change: of a time or size in per cent, of a score as a difference; empty if unknown."""
    if verdict.effect is None:
        return ""
    return f"{verdict.effect:+z.5f}" if verdict.is_accuracy else f"{verdict.effect:+z.1%}"


def span(interval: Interval | None) -> str:
    """Return an interval of a time or a size in per cent; empty where there is none."""
    return "" if interval is None else f"{interval[0]:+z.1%} to {interval[1]:+z.1%}"


def title_of(head: str, gate_run: GateRun) -> str:
    """Return which run was compared with which base, and which rules the change itself moves."""
    title = f"{head} against {gate_run.base}"
    if not gate_run.moved_rules:
        return title
    moved = ", ".join(gate_run.moved_rules)
    return f"{title}, whose rules judge; this change also moves its own goal posts: {moved}"


def failing(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """Return the verdicts that fail a check, the gravest first."""
    worse = [verdict for verdict in verdicts if verdict.fails_check]
    return tuple(sorted(worse, key=lambda verdict: verdict.gravity))


def command_for(verdicts: Sequence[Verdict], base_commit: str) -> str:
    """Return the command that measures again what failed; its options have long names, which are always ours.

    Empty where nothing failed, the base is unknown, or no gate run measures what failed.
    """
    if not exit_code(verdicts) or not base_commit:
        return ""
    failed = failing(verdicts) or [verdict for verdict in verdicts if verdict.is_unclear]
    repeated = [verdict for verdict in failed if verdict.metric not in _NOT_IN_PAIRS]
    if not repeated:
        return ""
    measured = {verdict.backend for verdict in verdicts if verdict.metric not in ("", DRIFT)}
    backends = dict.fromkeys(verdict.backend for verdict in repeated if verdict.backend in measured)
    sizes = sorted({verdict.batch_size for verdict in repeated if verdict.batch_size})
    return " ".join(
        [
            f"pytest benchmarks/ -k test_against --embedopt-against {base_commit[:12]}",
            *([f"--embedopt-backends {','.join(backends)}"] if backends else []),
            *([f"--embedopt-batch-sizes {','.join(map(str, sizes))}"] if sizes else []),
        ]
    )


def worth_a_row(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """Return all verdicts but those on equivalent scores and sizes, which are only counted."""
    return tuple(
        verdict
        for verdict in verdicts
        if verdict.outcome != "equivalent" or verdict.interval or verdict.smallest_effect
    )


def describe_damaged(damaged: Sequence[RecordError]) -> tuple[str, ...]:
    """Return a note for each file of a history that can't be read."""
    return tuple(f"passed over: {error}" for error in damaged)


def describe_not_measured(run: Run | None) -> tuple[str, ...]:
    """Return a note for each reason why figures are missing although their benchmarks ran."""
    reasons = run.not_measured if run else {}
    figures = {why: [name for name in reasons if reasons[name] == why] for why in reasons.values()}
    return tuple(f"not measured: {', '.join(names)} {why}" for why, names in figures.items())


def describe_kept_results(latencies: Sequence[Latency]) -> tuple[str, ...]:
    """Return a note for each backend that keeps results and answers a repeated text from them."""
    shares: dict[str, list[float]] = {}
    for latency in latencies:
        shares.setdefault(latency.backend, []).append(latency.repeated_share or 1.0)
    return tuple(
        f"{name} keeps results: a repeated call takes {min(own):.0%} of a new one's time; its times are of "
        "new texts"
        for name, own in shares.items()
        if min(own) < KEPT_SHARE
    )


def describe_older(newest: Newest) -> tuple[str, ...]:
    """Return a note for each earlier run that answers questions which the newest run left out."""
    return tuple(f"older, from {run.name}: {_questions(answers)}" for run, answers in newest.older)


def _questions(answers: Collection[Answer]) -> str:
    backends: dict[str, list[str]] = {}
    for question, backend in sorted({(answer.question, answer.backend) for answer in answers}):
        backends.setdefault(question, []).append(backend)
    return "; ".join(f"{question} of {', '.join(names)}" for question, names in backends.items())


def describe_roster(roster: Roster) -> tuple[str, ...]:
    """Return notes on new, renamed and vanished benchmarks, one for each of these groups."""
    groups = {
        "new": roster.new,
        "renamed": tuple(f"{old} -> {new}" for old, new in roster.renamed),
        "vanished": roster.vanished,
    }
    return tuple(f"{len(names)} {group}: {some(names)}" for group, names in groups.items() if names)


def _evidence(verdict: Verdict) -> str:
    if verdict.interval is None:
        return change(verdict)
    unit = "process pairs" if verdict.metric in PAIRED_FIGURES else "earlier runs"
    return f"{change(verdict)} ({span(verdict.interval)}) in {verdict.pairs} {unit}"


def some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
