"""A verdict, and the headline and exit code of several verdicts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from embedopt.evidence import PAIRED_FIGURES, FigureKind
from embedopt.judge.history.series import DEFAULT_METRIC
from embedopt.records import Accuracy
from embedopt.schema import Interval, metrics

# The gravest first.
Outcome = Literal[
    "regressed",
    "vectors changed",
    "not comparable",
    "inconclusive",
    "declared",
    "measured alone",
    "improved",
    "equivalent",
]
_FAILING: frozenset[Outcome] = frozenset({"regressed", "vectors changed", "not comparable"})
# Outcomes whose name does not read well after a number.
_COUNTED: Mapping[Outcome, str] = {"vectors changed": "with changed vectors"}

EXIT_CODES = {
    0: "pass",
    1: "slower or bigger",
    2: "usage",
    3: "less accurate",
    4: "not comparable",
    5: "inconclusive: no time could be decided",
    6: "vectors changed: embeddings stored before this change no longer fit",
}
_SUSPECTED = "inconclusive: a time looked slower when the budget ended"
_MISSING = "inconclusive: figures are missing that the runs before have"
# Where a run has any of these, at least one has to be decided. Scores and sizes always are: they do not vary.
_TIMES = frozenset({"latency", DEFAULT_METRIC, "bulk_per_s", "bulk_resume_s"})
# Stands in place of a metric for all scores and sizes that a run lacks.
SCORES_AND_SIZES = "scores and sizes"
DRIFT = "drift"
_ACCURACY = metrics(Accuracy)
_KINDS: dict[str, FigureKind] = {
    **{metric: figure.kind for metric, figure in PAIRED_FIGURES.items()},
    "disk_bytes": "size",
    **dict.fromkeys(_ACCURACY, "accuracy"),
    DRIFT: "drift",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The decision on one time, score or size of a backend, or on a backend as a whole.

    Attributes:
        backend: its name, or the full name of another suite's benchmark; empty for the whole run.
        batch_size: texts in a call; 0 for what has no batch size.
        metric: one of :data:`embedopt.evidence.PAIRED_FIGURES`, ``p50_ms`` or one of
            :data:`embedopt.judge.history.series.BULK_METRICS` of a run in its history, ``disk_bytes``, a
            metric of :class:`embedopt.records.Accuracy`, :data:`DRIFT`, :data:`SCORES_AND_SIZES`, or empty
            for the whole backend.
        outcome: the decision.
        effect: change from base to head: a share of a time or size (0.05 is 5 % more), else a difference.
        interval: confidence interval of the effect, or the prediction interval that a history gives.
        smallest_effect: smallest effect that would have been detected nine times out of ten.
        pairs: number of process pairs, outliers included, or of earlier runs, that the verdict rests on.
        why: the reason, where the figures do not show it.
        unanswered: whether it fails a check although nothing was decided: a cell looked slower when the
            budget ended before enough pairs could confirm it, or a run lacks a figure of the runs before.
        fails: whether it can fail a check; False for what is only shown.
    """

    backend: str
    batch_size: int = 0
    metric: str
    outcome: Outcome
    effect: float | None = None
    interval: Interval | None = None
    smallest_effect: float | None = None
    pairs: int = 0
    why: str = ""
    unanswered: bool = False
    fails: bool = True

    @property
    def fails_check(self) -> bool:
        """Whether this verdict alone fails a check: worse, not comparable or unanswered."""
        return self.fails and (self.outcome in _FAILING or self.unanswered)

    @property
    def gravity(self) -> tuple[bool, int]:
        """A key that sorts the gravest verdict first: what fails a check, then by outcome."""
        return not self.fails_check, get_args(Outcome).index(self.outcome)

    @property
    def is_unclear(self) -> bool:
        """Whether nothing was decided."""
        return self.outcome in ("inconclusive", "not comparable")

    @property
    def is_accuracy(self) -> bool:
        """Whether the metric is a score of the embeddings, not a cost."""
        return self.metric in _ACCURACY or self.metric == DRIFT

    def answers(self, batch_size: int, kind: FigureKind) -> bool:
        """Return whether this verdict is on a kind of figure of its backend, or on the whole backend."""
        return not self.metric or (self.batch_size, _KINDS.get(self.metric)) == (batch_size, kind)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """Return the gravest of 3 (accuracy), 6 (vectors), 1 (cost), 4 (not comparable), 5 (inconclusive) or 0.

    An inconclusive time fails a run only where it is unanswered, or no other time is decided.
    """
    failing = [verdict for verdict in verdicts if verdict.fails]
    regressed = [verdict for verdict in failing if verdict.outcome == "regressed"]
    outcomes = {verdict.outcome for verdict in failing}
    checks = {
        3: any(verdict.is_accuracy for verdict in regressed),
        6: "vectors changed" in outcomes,
        1: bool(regressed),
        4: "not comparable" in outcomes,
        5: decides_nothing(verdicts) or any(verdict.unanswered for verdict in failing),
    }
    return next((code for code, applies in checks.items() if applies), 0)


def decides_nothing(verdicts: Sequence[Verdict]) -> bool:
    """Return whether nothing is clear among the verdicts that have to be: times, if any of them can fail.

    If none can, other figures of pairs have to be clear, and without those the backends as a whole. Where the
    settings switch off all figures that vary, scores and sizes suffice.
    """
    failing = [verdict for verdict in verdicts if verdict.fails]
    for required_metrics in (_TIMES, PAIRED_FIGURES, ("",)):
        if required := [verdict for verdict in failing if verdict.metric in required_metrics]:
            return all(verdict.is_unclear for verdict in required)
    return not any(verdict.metric in _TIMES.union(PAIRED_FIGURES) for verdict in verdicts)


def headline(verdicts: Sequence[Verdict]) -> str:
    """Return what the exit code means and how many verdicts there are of each outcome, the gravest first."""
    code = exit_code(verdicts)
    meaning = EXIT_CODES[code]
    if code == 5 and not decides_nothing(verdicts):
        suspected = any(verdict.unanswered and verdict.metric in PAIRED_FIGURES for verdict in verdicts)
        meaning = _SUSPECTED if suspected else _MISSING
    counts = Counter(verdict.outcome for verdict in verdicts)
    words = {outcome: _COUNTED.get(outcome, outcome) for outcome in get_args(Outcome) if counts[outcome]}
    counted = ", ".join(f"{counts[outcome]} {word}" for outcome, word in words.items())
    return f"{meaning}: {counted or 'no verdict'}"
