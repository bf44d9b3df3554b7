"""What the gate judges by: frozen records of two sides, base and head, measured in one go.

The unit of evidence is the process pair: one process of each side, live at the same time and called in
turns. Calls inside one process share its luck, so a pair yields one log ratio, log(time of head / of base):
above 0 where the head is slower.
"""

from typing import Annotated, Literal

from pydantic import Field

from embedopt.schema import record

PairedMetric = Literal["latency", "load_s"]
# Up to 22,000 times as slow or as fast: beyond it, something was measured that is no encoder.
LogRatio = Annotated[float, Field(ge=-10.0, le=10.0)]


def cell_name(backend: str, batch_size: int, kind: str = "") -> str:
    """Return a name such as ``onnx-int8 batch 1`` or ``onnx-int8 load``; no code takes it apart.

    A batch size of 0 is left out; ``kind`` says what was measured where it is not the time of a call.
    """
    return " ".join(filter(None, (backend, f"batch {batch_size}" if batch_size else "", kind)))


@record
class Cell:
    """What is timed in pairs: calls of a batch size, or with ``load_s`` (and batch size 0) the cold start."""

    backend: str
    batch_size: int
    metric: PairedMetric = "latency"

    def __str__(self) -> str:
        return cell_name(self.backend, self.batch_size, "load" if self.metric == "load_s" else "")


@record
class PairedCell:
    """The evidence on one cell: a natural log ratio for each process pair.

    Attributes:
        cell: what was timed.
        log_ratios: of the pairs that a first judgement rests on.
        fresh: of the pairs measured after it flagged the cell, to confirm it; nothing else goes here.
    """

    cell: Cell
    log_ratios: tuple[LogRatio, ...] = ()
    fresh: tuple[LogRatio, ...] = ()


@record
class PairsWanted:
    """More pairs that the judge asks for: ``fresh`` ones confirm a flagged cell."""

    cell: Cell
    pairs: int
    fresh: bool = False


@record
class ExactPair:
    """A value of both sides that does not vary from run to run.

    ``metric`` is ``disk_bytes`` or a metric of :class:`embedopt.records.Accuracy`.
    """

    backend: str
    metric: str
    base: float
    head: float


@record
class NotComparable:
    """Why a backend could not be measured on both sides, in words."""

    backend: str
    why: str


@record
class GateRun:
    """One gate run: the field ``against`` of a :class:`embedopt.records.Run`.

    Attributes:
        base: the REF as it was given.
        base_commit: the commit that it was.
        head: the commit that it was compared with, followed by ``+ changes`` where files differed from it.
        cells: what was timed in pairs.
        exact: what needs no pairs.
        not_comparable: backends that could not be measured on both sides.
        pairs: process pairs measured in all.
        seconds: that the measurement took.
        budget_s: that it was given.
        threshold: of ``--gate-threshold``, a share; None where it was not given.
    """

    base: str
    base_commit: str
    cells: tuple[PairedCell, ...]
    exact: tuple[ExactPair, ...] = ()
    not_comparable: tuple[NotComparable, ...] = ()
    pairs: int
    seconds: float
    budget_s: float
    head: str = ""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None


@record
class ProcessPair:
    """One process pair of a calibration, with its calls in order: what the usual rules need."""

    log_ratio: float
    base_ms: tuple[float, ...]
    head_ms: tuple[float, ...]


@record
class SlowdownSample:
    """The pairs of one cell, the head slowed by a share of the call's time: 0.05 is 5 %, 0 is identical."""

    cell: Cell
    slowdown: float
    pairs: tuple[ProcessPair, ...]


@record
class SlowdownSamples:
    """Real pairs of identical and of slowed sides, as ``embedopt calibrate`` collects and saves them."""

    hardware_class: str
    samples: tuple[SlowdownSample, ...]
    seconds: float
