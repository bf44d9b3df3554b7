"""Did this change make anything slower, bigger or less faithful?

A time varies: its verdict rests on process pairs, and fresh pairs confirm it before it fails.
A score or a size does not: it fails at once beyond its own small threshold.

Pairs are looked at as they come, and buying ends as soon as an interval lies inside the threshold. So a cell
whose true change is exactly 3 % is called equivalent in 4 to 7 % of runs, by simulation, instead of the 2.5 %
of a single look. The level of a regression does not suffer: fresh pairs alone confirm it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from embedopt.evidence import Cell, ExactPair, GateRun, PairedCell, PairsWanted
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.stats import Estimate, estimate, fewest_pairs, holm, share, smallest_effect
from embedopt.records import Accuracy, Footprint
from embedopt.schema import metrics

# The gravest first.
Outcome = Literal["regressed", "not comparable", "inconclusive", "improved", "equivalent"]

EXIT_CODES = {
    0: "pass",
    1: "slower or bigger",
    2: "usage",
    3: "less accurate",
    4: "not comparable",
    5: "nothing measured that decides",
}

# Pairs that are bought at a time where the interval is too wide.
_STEP = 2
_ACCURACY = metrics(Accuracy)
_METRICS = {"disk_bytes": metrics(Footprint)["disk_bytes"], **_ACCURACY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is said of one cell, exact value or backend.

    Attributes:
        backend: its name.
        what: the batch size, ``load``, or the metric, in words.
        metric: ``latency``, ``load_s``, ``disk_bytes`` or one of :class:`embedopt.records.Accuracy`.
        outcome: the verdict.
        effect: of head over base: a share of a time or size (0.05 is 5 % more), the difference of a score.
        interval: of the effect, where it varies.
        smallest_effect: that would have been seen nine times out of ten, where it varies.
        pairs: process pairs that it rests on.
        why: in words, where the figures do not say it.
        suspected: whether it looked slower, and the budget ended before fresh pairs could tell.
    """

    backend: str
    what: str
    metric: str
    outcome: Outcome
    effect: float | None = None
    interval: tuple[float, float] | None = None
    smallest_effect: float | None = None
    pairs: int = 0
    why: str = ""
    suspected: bool = False

    @property
    def is_accuracy(self) -> bool:
        """Whether it is about what the embeddings say, not what they cost."""
        return self.metric in _ACCURACY


def judge(against: GateRun, settings: GateSettings) -> tuple[Verdict, ...]:
    """Return a verdict for every cell, exact value and backend that could not be compared, in that order."""
    return (
        *judge_cells(against.cells, settings),
        *(judge_exact(pair, settings) for pair in against.exact),
        *(
            Verdict(backend=of.backend, what="", metric="", outcome="not comparable", why=of.why)
            for of in against.not_comparable
        ),
    )


def judge_cells(cells: Sequence[PairedCell], settings: GateSettings) -> tuple[Verdict, ...]:
    """Return a verdict for every cell, decided at once: each more is one more chance to be wrong."""
    flagged = flags(cells, settings)
    confirmed = _confirmed([cell for cell in cells if cell.cell in flagged], settings)
    return tuple(_judge_cell(cell, flagged, confirmed, _Rule(settings, len(cells))) for cell in cells)


def flags(cells: Iterable[PairedCell], settings: GateSettings) -> Mapping[Cell, float]:
    """Return the cells that changed by the threshold or more as their first pairs say, with the change.

    The interval of each excludes no change, after Holm over all cells.
    """
    enough = [cell for cell in cells if len(cell.log_ratios) >= fewest_pairs(settings.level)]
    found = [estimate(cell.log_ratios, settings.level) for cell in enough]
    adjusted = holm([of.p_two_sided for of in found])
    return {
        cell.cell: of.mean
        for cell, of, p in zip(enough, found, adjusted, strict=True)
        if p < settings.level and not _within(cell.cell, of.mean, settings)
    }


def plan_pairs(cells: Sequence[PairedCell], settings: GateSettings) -> tuple[PairsWanted, ...]:
    """Return the pairs that would settle what is open, those that confirm a flagged cell first.

    A cold start rides along with every pair: none is bought to narrow its interval.
    """
    fewest, flagged = fewest_pairs(settings.level), flags(cells, settings)
    fresh, more = [], []
    for cell, verdict in zip(cells, judge_cells(cells, settings), strict=True):
        open_ = verdict.outcome == "inconclusive" and len(cell.log_ratios) < settings.max_pairs
        if flagged.get(cell.cell, 0.0) > 0:
            if len(cell.fresh) < fewest:
                fresh.append(PairsWanted(cell=cell.cell, pairs=fewest - len(cell.fresh), fresh=True))
        elif len(cell.log_ratios) < fewest:
            more.append(PairsWanted(cell=cell.cell, pairs=fewest - len(cell.log_ratios)))
        elif open_ and cell.cell.metric == "latency":
            more.append(PairsWanted(cell=cell.cell, pairs=_STEP))
    return (*fresh, *more)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """Return the gravest of 3 (accuracy), 1 (cost), 4 (not comparable), 5 (nothing decided), else 0.

    A cell that stays inconclusive neither passes nor fails a run in which another is decided, unless it
    looked slower and the budget ended.
    """
    regressed = [verdict for verdict in verdicts if verdict.outcome == "regressed"]
    outcomes = {verdict.outcome for verdict in verdicts}
    checks = {
        3: any(verdict.is_accuracy for verdict in regressed),
        1: bool(regressed),
        4: "not comparable" in outcomes,
        5: decides_nothing(verdicts) or any(verdict.suspected for verdict in verdicts),
    }
    return next((code for code, applies in checks.items() if applies), 0)


def decides_nothing(verdicts: Sequence[Verdict]) -> bool:
    """Return whether no verdict is clear; where times were asked for, of times: scores always are."""
    timed = [verdict for verdict in verdicts if verdict.metric == "latency"] or verdicts
    return all(verdict.outcome in ("inconclusive", "not comparable") for verdict in timed)


def headline(verdicts: Sequence[Verdict]) -> str:
    """Return all verdicts in one line, the gravest first."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    counted = ", ".join(f"{counts[outcome]} {outcome}" for outcome in get_args(Outcome) if counts[outcome])
    return f"{EXIT_CODES[exit_code(verdicts)]}: {counted or 'no verdict'}"


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a cell is judged by: the settings, and among how many it stands."""

    settings: GateSettings
    cells: int


def _confirmed(cells: Sequence[PairedCell], settings: GateSettings) -> frozenset[Cell]:
    """Return the flagged cells that fresh pairs alone show to be slower, after Holm over those cells."""
    tried = [cell for cell in cells if len(cell.fresh) >= fewest_pairs(settings.level)]
    adjusted = holm([estimate(cell.fresh, settings.level).p_slower for cell in tried])
    return frozenset(cell.cell for cell, p in zip(tried, adjusted, strict=True) if p < settings.level)


def _judge_cell(
    cell: PairedCell, flagged: Mapping[Cell, float], confirmed: frozenset[Cell], rule: _Rule
) -> Verdict:
    level, fewest = rule.settings.level, fewest_pairs(rule.settings.level)
    what = "load" if cell.cell.metric == "load_s" else f"batch {cell.cell.batch_size}"
    unclear = Verdict(
        backend=cell.cell.backend,
        what=what,
        metric=cell.cell.metric,
        outcome="inconclusive",
        pairs=len(cell.log_ratios) + len(cell.fresh),
        why=f"{len(cell.log_ratios)} process pairs; a verdict takes {fewest}: raise --against-budget",
    )
    if unclear.pairs < 2:
        return unclear
    found = estimate((*cell.log_ratios, *cell.fresh), level)
    threshold = rule.settings.threshold_of(cell.cell.backend, cell.cell.metric)
    measured = replace(
        unclear,
        effect=share(found.mean),
        interval=(share(found.low), share(found.high)),
        smallest_effect=max(threshold, share(smallest_effect(found, level / rule.cells))),
    )
    if len(cell.log_ratios) < fewest:
        return measured
    flag = flagged.get(cell.cell)
    outcome, why = _outcome(cell, found, flag, cell.cell in confirmed, rule.settings)
    suspected = flag is not None and flag > 0 and len(cell.fresh) < fewest
    return replace(measured, outcome=outcome, why=why, suspected=suspected)


def _outcome(
    cell: PairedCell, found: Estimate, flag: float | None, confirmed: bool, settings: GateSettings
) -> tuple[Outcome, str]:
    """Decide on one cell from all its pairs, what its first pairs flagged, and what the fresh ones said."""
    if flag is not None and flag < 0:
        return "improved", ""
    if flag is not None and len(cell.fresh) < fewest_pairs(settings.level):
        return (
            "inconclusive",
            f"{share(flag):+.1%} at first, but the budget ended before fresh pairs confirmed it: "
            "raise --against-budget",
        )
    if flag is not None and confirmed and not _within(cell.cell, found.mean, settings):
        return "regressed", ""
    why = "" if flag is None else f"{share(flag):+.1%} at first, not confirmed by fresh pairs"
    inside = _within(cell.cell, found.low, settings) and _within(cell.cell, found.high, settings)
    return ("equivalent" if inside else "inconclusive"), why


def _within(cell: Cell, log_ratio: float, settings: GateSettings) -> bool:
    """Say whether a change is smaller than the threshold; of two that undo each other, both or none are."""
    return abs(log_ratio) < math.log1p(settings.threshold_of(cell.backend, cell.metric))


def judge_exact(pair: ExactPair, settings: GateSettings) -> Verdict:
    """Return the verdict on a value that does not vary: it changed if it moved by more than its threshold."""
    if pair.metric not in _METRICS:
        why = f"metric {pair.metric!r} is unknown here: read it with the embedopt that wrote it"
        return Verdict(backend=pair.backend, what=pair.metric, metric="", outcome="not comparable", why=why)
    unit, better = _METRICS[pair.metric]
    effect = pair.head - pair.base
    if not math.isfinite(effect):
        why = f"{pair.base} -> {pair.head}: wanted numbers"
        return Verdict(
            backend=pair.backend, what=pair.metric, metric=pair.metric, outcome="not comparable", why=why
        )
    if unit == "bytes":
        effect /= max(pair.base, 1.0)
    worse = -effect if better == "higher" else effect
    threshold = settings.threshold_of(pair.backend, pair.metric)
    outcome: Outcome = (
        "regressed" if worse > threshold else "improved" if worse < -threshold else "equivalent"
    )
    why = f"{pair.base:,.6g} -> {pair.head:,.6g}"
    return Verdict(
        backend=pair.backend, what=pair.metric, metric=pair.metric, outcome=outcome, effect=effect, why=why
    )
