"""Saved samples of known slow-downs, as ``embedopt calibrate`` writes them."""

from collections.abc import Sequence

import numpy as np

from embedopt.evidence import Cell, ProcessPair, SlowdownSample, SlowdownSamples
from embedopt.measure.machine import this_machine


def _pair(log_ratio: float) -> ProcessPair:
    base_ms = tuple(5.0 + 0.01 * (call % 3) for call in range(20))
    return ProcessPair(
        log_ratio=log_ratio,
        base_ms=base_ms,
        head_ms=tuple(call_ms * float(np.exp(log_ratio)) for call_ms in base_ms),
    )


def make_samples(cells: Sequence[Cell]) -> SlowdownSamples:
    """Return twelve pairs for each slow-down with little noise: 20 % is always detected, 0 % never."""
    pairs = {
        (cell, slowdown): tuple(_pair(np.log1p(slowdown) + 0.001 * (number % 3 - 1)) for number in range(12))
        for cell in cells
        for slowdown in ((0.0, 0.2) if cell.metric == "latency" else (0.0,))
    }
    return SlowdownSamples(
        hardware_class=this_machine().hardware_class,
        samples=tuple(
            SlowdownSample(cell=cell, slowdown=slowdown, pairs=measured)
            for (cell, slowdown), measured in pairs.items()
        ),
        seconds=100.0,
        survey_s=70.0,
    )
