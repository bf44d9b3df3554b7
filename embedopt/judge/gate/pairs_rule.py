"""The rule for times, which vary: process pairs flag a cell, and fresh pairs confirm it before it counts.

One interval decides. Where it lies inside the threshold, the cell is equivalent. Where it does not, and does
not hold 0, fresh pairs alone have to confirm the change. Otherwise more pairs are sampled, if the cell is one
of calls.

Now and then a process encodes several texts 4 to 80 % slower than others of the same code. So where calls are
timed, a pair that is an outlier is left out, and named: the verdict is on the others. Where more than a tenth
of the pairs are outliers, all on one side, they may be the change: the cell is not equivalent. By simulation
with normal pairs, a cell at the threshold is then equivalent in at most 3.7 %, and fresh pairs confirm a
change of nothing in 4.3 % at a level of 5 %.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from embedopt.evidence import Cell, PairedCell, PairsWanted
from embedopt.judge.gate.flags import Flags, flags_of
from embedopt.judge.gate.looks import (
    counted_and_outliers,
    first_pairs,
    fresh_looks,
    is_inside,
    level_of_a_look,
    looks_at,
    missing,
)
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.stats import Estimate, estimate, fewest_pairs, share, smallest_effect
from embedopt.judge.gate.verdict import Outcome, Verdict

# So few pairs decide nothing, but may be all that the budget allows for a slow figure. It gets them in any
# case while all of them are worse by the threshold.
_FEWEST_SUSPECTED = 3
# Share of the pairs that may be outliers, all on one side, where a cell is equivalent.
_MOST_ON_ONE_SIDE = 0.1


def judge_cells(cells: Sequence[PairedCell], settings: GateSettings) -> tuple[Verdict, ...]:
    """Return a verdict for every cell.

    All cells are judged at once: each further cell is one more chance of a false alarm.
    """
    flags = flags_of(cells, settings)
    return tuple(_judge_cell(cell, flags) for cell in cells)


def plan_pairs(cells: Sequence[PairedCell], settings: GateSettings) -> tuple[PairsWanted, ...]:
    """Return the pairs up to the next look at undecided cells; pairs that confirm a flagged cell come first.

    Of those, the surest slow-down comes first: chance flags and improvements must not take its time. Other
    pairs have to leave enough of the budget to confirm what they flag, since a flag without an answer fails a
    check. Only the first pairs of calls with a batch size need not fit, without which a run decides nothing,
    the first pair of every figure, and up to three of one whose pairs so far are all worse.
    """
    flags, fresh_counts = flags_of(cells, settings), fresh_looks(settings)
    fresh, more = [], []
    for cell in cells:
        more_pairs = missing(cell.log_ratios, looks_at(cell.cell, settings))
        if (flag := flags.estimates.get(cell)) is not None:
            if not flags.is_answered(cell):
                pairs = missing(cell.fresh, fresh_counts)
                request = PairsWanted(cell=cell.cell, pairs=pairs, look="confirmation")
                fresh.append((flag.p_not_above, request))
        elif len(cell.log_ratios) < fewest_pairs(settings.level):
            has_batch_size, may_be_slower = cell.cell.metric == "latency", _may_be_slower(cell, settings)
            is_needed = has_batch_size or not cell.log_ratios or may_be_slower
            if may_be_slower and not has_batch_size:
                more_pairs = _FEWEST_SUSPECTED - len(cell.log_ratios)
            more.append(
                PairsWanted(
                    cell=cell.cell, pairs=more_pairs, must_fit=not is_needed, confirming=fresh_counts[0]
                )
            )
        elif more_pairs and _judge_cell(cell, flags).outcome == "inconclusive":
            more.append(
                PairsWanted(cell=cell.cell, pairs=more_pairs, look="later", confirming=fresh_counts[0])
            )
    fresh.sort(key=lambda flag: flag[0])
    return (*(request for _, request in fresh), *more)


def _judge_cell(cell: PairedCell, flags: Flags) -> Verdict:
    fewest = fewest_pairs(flags.settings.level)
    first = first_pairs(cell, flags.settings)
    pairs = (*(first or cell.log_ratios), *cell.fresh)
    undecided = Verdict(
        backend=cell.cell.backend,
        batch_size=cell.cell.batch_size,
        metric=cell.cell.metric,
        outcome="inconclusive",
        pairs=len(pairs),
        why=f"{len(cell.log_ratios)} process pairs; a verdict needs {fewest}: raise --against-budget",
    )
    if len(pairs) < 2:
        return undecided
    counted, outliers = counted_and_outliers(cell.cell, pairs) if first else (pairs, ())
    pooled = estimate(counted, level_of_a_look(cell.cell, flags.settings))
    measured = _with_figures(undecided, cell.cell, pooled, flags.settings)
    if not first:
        is_suspected = len(pairs) >= _FEWEST_SUSPECTED and _all_slower(cell, flags.settings)
        return replace(measured, unanswered=is_suspected)
    outcome, why = _outcome(cell, pooled, outliers, flags)
    if outliers:
        shown = ", ".join(f"{_change(cell.cell, outlier):+.1%}" for outlier in outliers)
        why = "; ".join(
            filter(None, (why, f"{len(outliers)} of {len(pairs)} pairs left out as outliers: {shown}"))
        )
    flag = flags.estimates.get(cell)
    looked_slower = flag is not None and flag.mean > 0 and outcome == "inconclusive"
    unanswered = looked_slower and (cell in flags.held_back or not flags.is_answered(cell))
    return replace(measured, outcome=outcome, why=why, unanswered=unanswered)


def _may_be_the_change(outliers: Sequence[float], known: Estimate) -> bool:
    """Return whether many of the pairs are outliers, all above or all below the others."""
    above = sum(outlier > known.mean for outlier in outliers)
    is_many = len(outliers) > _MOST_ON_ONE_SIDE * (known.pairs + len(outliers))
    return is_many and above in (0, len(outliers))


def _all_slower(cell: PairedCell, settings: GateSettings) -> bool:
    """Return whether each pair is worse by more than the threshold."""
    threshold = settings.threshold_of(cell.cell.backend, cell.cell.metric)
    return min(cell.log_ratios, default=0.0) > math.log1p(threshold)


def _may_be_slower(cell: PairedCell, settings: GateSettings) -> bool:
    """Return whether a cell has pairs, too few to be suspected, and all of them are worse."""
    return len(cell.log_ratios) < _FEWEST_SUSPECTED and _all_slower(cell, settings)


def _change(cell: Cell, log_ratio: float) -> float:
    """Return a log ratio as a share of the figure; that of a rate is above 0 where the rate falls."""
    return share(-log_ratio if cell.figure.better == "higher" else log_ratio)


def _with_figures(verdict: Verdict, cell: Cell, pooled: Estimate, settings: GateSettings) -> Verdict:
    threshold = settings.threshold_of(verdict.backend, verdict.metric)
    detectable = share(smallest_effect(pooled, level_of_a_look(cell, settings)))
    low, high = sorted(_change(cell, end) for end in (pooled.low, pooled.high))
    return replace(
        verdict,
        effect=_change(cell, pooled.mean),
        interval=(low, high),
        smallest_effect=max(threshold, detectable),
    )


def _outcome(
    cell: PairedCell, pooled: Estimate, outliers: Sequence[float], flags: Flags
) -> tuple[Outcome, str]:
    """Decide on a cell that has enough first pairs; return the outcome and the reason for it."""
    flag = flags.estimates.get(cell)
    at_first = "" if flag is None else f"{_change(cell.cell, flag.mean):+.1%} at first, "
    if flag is not None and not flags.is_answered(cell):
        ended = "but the budget ended before fresh pairs confirmed it: raise --against-budget"
        return "inconclusive", at_first + ended
    within = is_inside(cell.cell, pooled, flags.settings)
    if within and not _may_be_the_change(outliers, pooled):
        return "equivalent", ""
    if flag is not None and cell in flags.confirmed:
        return ("regressed" if flag.mean > 0 else "improved"), ""
    if cell in flags.held_back:
        ended = "but the budget ended before all flagged cells had an answer: raise --against-budget"
        return "inconclusive", at_first + ended
    if within:
        return "inconclusive", "equivalent but for outliers, all on one side"
    return "inconclusive", at_first and f"{at_first}not confirmed by fresh pairs"
