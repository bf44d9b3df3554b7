"""Made-up evidence of a gate run whose true changes are known."""

import math

from embedopt.evidence import Cell, ExactPair, GateRun, NotComparable, PairedCell

_SPREAD = (-0.01, 0.006, -0.004, 0.01, 0.004, -0.006)
SAME_COSINE = ExactPair(backend="onnx-int8", metric="cosine_mean", base=0.99, head=0.99)


def ratios(change: float, spread: float = 1.0) -> tuple[float, ...]:
    """Six pairs around a change, their standard deviation 0.8 % times ``spread``."""
    return tuple(math.log1p(change) + spread * value for value in _SPREAD)


def paired_cell(
    change: float | None, fresh: float | None = None, *, spread: float = 1.0, batch_size: int = 32
) -> PairedCell:
    """A cell of onnx-int8 with six first and six fresh pairs, each around a change; None for no pairs."""
    return PairedCell(
        cell=Cell(backend="onnx-int8", batch_size=batch_size),
        log_ratios=() if change is None else ratios(change, spread),
        fresh=() if fresh is None else ratios(fresh, spread),
    )


def gate_run(
    *cells: PairedCell, exact: tuple[ExactPair, ...] = (), missing: str = "", threshold: float | None = None
) -> GateRun:
    """A gate run of these cells; ``missing`` is the reason why onnx-fp32 can't be compared."""
    return GateRun(
        base="main",
        base_commit="c" * 40,
        cells=cells,
        exact=exact,
        not_comparable=(NotComparable(backend="onnx-fp32", why=missing),) if missing else (),
        pairs=6,
        seconds=100.0,
        budget_s=480.0,
        threshold=threshold,
    )
