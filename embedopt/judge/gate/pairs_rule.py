"""The rule for times, which vary: process pairs flag a cell, and fresh pairs confirm it before it fails.

Pairs are judged as they come, and sampling stops as soon as an interval lies inside the threshold. So a cell
whose true change is exactly 3 % is called equivalent in 4 to 7 % of runs, by simulation, instead of the 2.5 %
of a single look. The level of a regression does not suffer: fresh pairs alone confirm it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from embedopt.evidence import Cell, PairedCell, PairsWanted
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.stats import Estimate, estimate, fewest_pairs, holm, share, smallest_effect
from embedopt.judge.gate.verdict import Outcome, Verdict

# Pairs that are sampled at a time where the interval is too wide.
_STEP = 2


def judge_cells(cells: Sequence[PairedCell], settings: GateSettings) -> tuple[Verdict, ...]:
    """Return a verdict for every cell.

    All cells are judged at once: each further cell is one more chance of a false alarm.
    """
    flagged = flags(cells, settings)
    rule = _Rule(
        settings=settings,
        cells=len(cells),
        flagged=flagged,
        confirmed=_confirmed([cell for cell in cells if cell.cell in flagged], settings),
    )
    return tuple(_judge_cell(cell, rule) for cell in cells)


def flags(cells: Iterable[PairedCell], settings: GateSettings) -> Mapping[Cell, float]:
    """Return the cells whose first pairs show a change, each with the mean log ratio of these pairs.

    The mean is at least the threshold, and the t test of no change rejects, after Holm over all cells.
    """
    enough = [cell for cell in cells if len(cell.log_ratios) >= fewest_pairs(settings.level)]
    estimates = [estimate(cell.log_ratios, settings.level) for cell in enough]
    adjusted = holm([first.p_two_sided for first in estimates])
    return {
        cell.cell: first.mean
        for cell, first, p in zip(enough, estimates, adjusted, strict=True)
        if p < settings.level and not _within(cell.cell, first.mean, settings)
    }


def plan_pairs(cells: Sequence[PairedCell], settings: GateSettings) -> tuple[PairsWanted, ...]:
    """Return the pairs that would decide the open cells; pairs that confirm a flagged cell come first.

    Only the time of calls is worth more pairs to narrow its interval.
    """
    fewest, flagged = fewest_pairs(settings.level), flags(cells, settings)
    fresh, more = [], []
    for cell, verdict in zip(cells, judge_cells(cells, settings), strict=True):
        is_open = verdict.outcome == "inconclusive" and len(cell.log_ratios) < settings.max_pairs
        if flagged.get(cell.cell, 0.0) > 0:
            if len(cell.fresh) < fewest:
                fresh.append(PairsWanted(cell=cell.cell, pairs=fewest - len(cell.fresh), fresh=True))
        elif len(cell.log_ratios) < fewest:
            more.append(PairsWanted(cell=cell.cell, pairs=fewest - len(cell.log_ratios)))
        elif is_open and cell.cell.figure.threshold is None:
            more.append(PairsWanted(cell=cell.cell, pairs=_STEP))
    return (*fresh, *more)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """What each of ``cells`` cells is judged by; ``flagged`` has the mean log ratio of their first pairs."""

    settings: GateSettings
    cells: int
    flagged: Mapping[Cell, float]
    confirmed: frozenset[Cell]


def _confirmed(cells: Sequence[PairedCell], settings: GateSettings) -> frozenset[Cell]:
    """Return the flagged cells that fresh pairs alone show to be slower, after Holm over those cells."""
    enough = [cell for cell in cells if len(cell.fresh) >= fewest_pairs(settings.level)]
    adjusted = holm([estimate(cell.fresh, settings.level).p_slower for cell in enough])
    return frozenset(cell.cell for cell, p in zip(enough, adjusted, strict=True) if p < settings.level)


def _judge_cell(cell: PairedCell, rule: _Rule) -> Verdict:
    fewest = fewest_pairs(rule.settings.level)
    undecided = Verdict(
        backend=cell.cell.backend,
        batch_size=cell.cell.batch_size,
        metric=cell.cell.metric,
        outcome="inconclusive",
        pairs=len(cell.log_ratios) + len(cell.fresh),
        why=f"{len(cell.log_ratios)} process pairs; a verdict takes {fewest}: raise --against-budget",
    )
    if undecided.pairs < 2:
        return undecided
    pooled = estimate((*cell.log_ratios, *cell.fresh), rule.settings.level)
    measured = _with_figures(undecided, cell.cell, pooled, rule)
    if len(cell.log_ratios) < fewest:
        return measured
    outcome, why = _outcome(cell, pooled, rule)
    suspected = rule.flagged.get(cell.cell, 0.0) > 0 and len(cell.fresh) < fewest
    return replace(measured, outcome=outcome, why=why, suspected=suspected)


def _change(cell: Cell, log_ratio: float) -> float:
    """Return a log ratio as a share of the figure: a rate falls where its log ratio is above 0."""
    return share(-log_ratio if cell.figure.better == "higher" else log_ratio)


def _with_figures(verdict: Verdict, cell: Cell, pooled: Estimate, rule: _Rule) -> Verdict:
    threshold = rule.settings.threshold_of(verdict.backend, verdict.metric)
    detectable = share(smallest_effect(pooled, rule.settings.level / rule.cells))
    low, high = sorted(_change(cell, end) for end in (pooled.low, pooled.high))
    return replace(
        verdict,
        effect=_change(cell, pooled.mean),
        interval=(low, high),
        smallest_effect=max(threshold, detectable),
    )


def _outcome(cell: PairedCell, pooled: Estimate, rule: _Rule) -> tuple[Outcome, str]:
    """Decide on a cell that has enough first pairs; return the outcome and the reason for it."""
    flag = rule.flagged.get(cell.cell)
    if flag is not None and flag < 0:
        return "improved", ""
    if flag is not None and len(cell.fresh) < fewest_pairs(rule.settings.level):
        ended = "but the budget ended before fresh pairs confirmed it: raise --against-budget"
        return "inconclusive", f"{_change(cell.cell, flag):+.1%} at first, {ended}"
    if cell.cell in rule.confirmed and not _within(cell.cell, pooled.mean, rule.settings):
        return "regressed", ""
    why = "" if flag is None else f"{_change(cell.cell, flag):+.1%} at first, not confirmed by fresh pairs"
    is_inside = all(_within(cell.cell, end, rule.settings) for end in (pooled.low, pooled.high))
    return ("equivalent" if is_inside else "inconclusive"), why


def _within(cell: Cell, log_ratio: float, settings: GateSettings) -> bool:
    """Return whether a change is below the threshold.

    Symmetric: a change and its inverse get the same answer.
    """
    return abs(log_ratio) < math.log1p(settings.threshold_of(cell.backend, cell.metric))
