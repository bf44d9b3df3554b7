"""Looks at a cell while its pairs come in: how many pairs each has, and what its interval says.

At all looks together, an end of the interval misses the truth in at most ``level`` of cells, so stopping at
any look is safe. These are repeated confidence intervals (Jennison and Turnbull 1989, J. R. Statist. Soc. B
51, 305-361). Each look gets an equal part of the level (Bonferroni), which also holds for the mean of few
values of unknown spread. By simulation they decide with fewer pairs than an always-valid sequence (Wang and
Ramdas 2025, Sequential Analysis 44, 56-110).
"""

import math
from collections.abc import Sequence
from functools import cache

from embedopt.evidence import Cell, PairedCell
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.stats import Estimate, fewest_pairs, split_outliers


def looks_at(cell: Cell, settings: GateSettings) -> tuple[int, ...]:
    """Return the numbers of pairs at which a cell is looked at: only calls are worth more than the fewest."""
    fewest = fewest_pairs(settings.level)
    return _looks_up_to(fewest, settings.max_pairs if cell.figure.threshold is None else fewest)


@cache
def _looks_up_to(fewest: int, most: int) -> tuple[int, ...]:
    """Return the numbers of pairs at which a cell is looked at, each a third more than the one before."""
    looks = [fewest]
    while (more := math.ceil(looks[-1] * 4 / 3)) <= most:
        looks.append(more)
    return tuple(looks)


def fresh_looks(settings: GateSettings) -> tuple[int, int]:
    """Return the numbers of fresh pairs at which a flagged cell is looked at."""
    fewest = fewest_pairs(settings.level)
    return math.ceil(fewest * 2 / 3), fewest


def missing(pairs: Sequence[float], looks: Sequence[int]) -> int:
    """Return the number of pairs up to the next look; 0 after the last."""
    return next((look - len(pairs) for look in looks if look > len(pairs)), 0)


def level_of_a_look(cell: Cell, settings: GateSettings) -> float:
    """Return the level at each end of one look's interval; the look with the fresh pairs is one more.

    A confirmation may end with either number of fresh pairs, which is counted as one look: by simulation, a
    cell at its threshold that has one earlier look is called equivalent in at most 4.6 %.
    """
    return settings.level / (len(looks_at(cell, settings)) + 1)


def first_pairs(cell: PairedCell, settings: GateSettings) -> tuple[float, ...]:
    """Return the log ratios up to the last look; pairs in between wait for the next."""
    pairs, looks = len(cell.log_ratios), looks_at(cell.cell, settings)
    return cell.log_ratios[: max((look for look in looks if look <= pairs), default=0)]


def counted_and_outliers(cell: Cell, log_ratios: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """Return the log ratios that count, and the outliers among those of calls.

    Other figures have none: memory that grows in one process of six is what is looked for.
    """
    return split_outliers(log_ratios) if cell.figure.threshold is None else (log_ratios, ())


def is_inside(cell: Cell, known: Estimate, settings: GateSettings) -> bool:
    """Return whether the whole interval is below the threshold.

    Symmetric: a change and its inverse get the same answer.
    """
    most = math.log1p(settings.threshold_of(cell.backend, cell.metric))
    return -most < known.low and known.high < most
