"""Records of the evidence that the gate judges: base and head, measured in one run.

The unit of evidence is the process pair: one process of the base and one of the head, live at the same time
and called in turns. All calls of a process share its chance, such as its memory layout. So a pair yields one
natural log ratio, above 0 where the head is worse: log(head / base) of a time, log(base / head) of a rate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from embedopt.schema import OMIT_EMPTY, Better, record

# What one test of benchmarks/test_against.py asks about a backend.
FigureKind = Literal["time", "many texts", "batcher", "load", "memory", "size", "accuracy", "drift"]
Look = Literal["first", "later", "confirmation"]
PairedMetric = Literal[
    "latency",
    "texts_per_s",
    "served_p50_ms",
    "served_p99_ms",
    "kept_per_s",
    "load_s",
    "peak_rss_bytes",
    "grown_rss_bytes",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedFigure:
    """Properties of a metric that is measured in process pairs.

    Attributes:
        words: name of the metric, after the backend in the name of a cell; empty for the time of a call.
        kind: the question that it answers.
        unit: unit of its values.
        better: which values are better.
        threshold: smallest change that counts by default, a share; None for calls: their threshold is the
            gate's, and an interval that is too wide is worth more pairs.
        is_free: whether every process pair measures it at hardly any cost.
        request: request that a worker has to know for it.
    """

    words: str
    kind: FigureKind
    unit: str
    better: Better = "lower"
    threshold: float | None = None
    is_free: bool = False
    request: str = "time"


_batcher = partial(PairedFigure, kind="batcher", request="load_test")
PAIRED_FIGURES: Mapping[PairedMetric, PairedFigure] = {
    "latency": PairedFigure(words="", kind="time", unit="s"),
    "texts_per_s": PairedFigure(words="many texts", kind="many texts", unit="texts/s", better="higher"),
    "served_p50_ms": _batcher(words="batcher p50", unit="ms", threshold=0.15),
    "served_p99_ms": _batcher(words="batcher p99", unit="ms", threshold=0.50),
    "kept_per_s": _batcher(words="batcher rate", unit="texts/s", better="higher", threshold=0.05),
    "load_s": PairedFigure(words="load", kind="load", unit="s", threshold=0.10, is_free=True),
    "peak_rss_bytes": PairedFigure(
        words="peak memory", kind="memory", unit="bytes", threshold=0.05, is_free=True
    ),
    "grown_rss_bytes": PairedFigure(words="later memory", kind="memory", unit="bytes", threshold=0.15),
}
# Share of a pair's quads that is trimmed at each end: one call in ten is slowed by another process.
TRIMMED_SHARE = 0.25
# Up to 22,000 times as slow or as fast: a larger ratio can't come from two versions of one encoder.
LogRatio = Annotated[float, Field(ge=-10.0, le=10.0)]


def cell_name(backend: str, batch_size: int, kind: str = "") -> str:
    """Return a name such as ``onnx-int8 batch 1`` or ``onnx-int8 load``; no code takes it apart.

    A batch size of 0 is left out; ``kind`` says what was measured where it is not the time of a call.
    """
    return " ".join(filter(None, (backend, f"batch {batch_size}" if batch_size else "", kind)))


@record
class Cell:
    """What is measured in process pairs: calls with ``batch_size`` texts, or another figure of a backend.

    All metrics but ``latency`` have the batch size 0.
    """

    backend: str
    batch_size: int
    metric: PairedMetric = "latency"

    def __str__(self) -> str:
        return cell_name(self.backend, self.batch_size, self.figure.words)

    @property
    def figure(self) -> PairedFigure:
        """The properties of its metric."""
        return PAIRED_FIGURES[self.metric]


@record
class PairedCell:
    """The evidence on one cell: one natural log ratio for each process pair.

    Attributes:
        log_ratios: log ratios of the pairs that the first judgement rests on.
        fresh: log ratios of the confirmation pairs, measured only after the first judgement flagged the cell.
    """

    cell: Cell
    log_ratios: tuple[LogRatio, ...] = ()
    fresh: tuple[LogRatio, ...] = ()


@record
class PairsWanted:
    """Pairs that a verdict on a cell still needs.

    Attributes:
        look: whether the verdict needs them to look at the cell for the first time, or at a later time, or to
            confirm a flagged cell, for which only fresh pairs count.
        must_fit: whether they are measured only if all of them are expected to fit into the budget.
        confirming: number of fresh pairs that would confirm what these flag, for which room has to be left.
    """

    cell: Cell
    pairs: int
    look: Look = "first"
    must_fit: bool = True
    confirming: int = 0


@record
class ExactPair:
    """A value that does not vary from run to run, of base and head.

    ``metric`` is ``disk_bytes`` or a metric of :class:`embedopt.records.Accuracy`. A value that was no finite
    number is None in a saved run.
    """

    backend: str
    metric: str
    base: float | None
    head: float | None


@record
class NotComparable:
    """A backend, or one cell of it, that could not be measured in both base and head, and why in words."""

    backend: str
    why: str
    cell: Annotated[Cell | None, OMIT_EMPTY] = None


@record
class MovedText:
    """The start of a text, and the similarity of head's vector of it to base's."""

    text: str
    similarity: float


@record
class Drift:
    """How far a backend's vectors of head are from those of base, over the same texts.

    Attributes:
        backend: its name.
        similarity_mean: mean similarity, for vectors of length 1 the cosine; None where there is none.
        similarity_min: lowest similarity of a text.
        overlap_at_10: mean share of a text's ten nearest texts that base and head agree on.
        moved: the texts with the lowest similarity, the lowest first; none where all vectors are equal.
        why: the reason where there is no similarity, such as another number of dimensions.
    """

    backend: str
    similarity_mean: float | None = None
    similarity_min: float | None = None
    overlap_at_10: float | None = None
    moved: tuple[MovedText, ...] = ()
    why: str = ""


@record
class GateRun:
    """One gate run: the field ``against`` of a :class:`embedopt.records.Run`.

    Attributes:
        base: commit, branch or tag as given to ``--against``.
        base_commit: full hash of the base's commit.
        head: full hash of the head's commit, followed by ``+ changes`` where files differed from it.
        threshold: smallest change that counts, a share, as given to ``--gate-threshold``; None where it
            was not given.
        drift: how far the vectors moved, of the reference and each backend that both have; empty for a base
            whose worker can't give its vectors.
        added: backends that the base does not have.
        removed: backends that only the base has; ``texts`` where the base's corpus has more texts.
        accepted: what head's ``pyproject.toml`` declares in ``accept`` and base's does not.
        rules: base's ``[tool.embedopt.gate]``, which judges; None where base has no embedopt.
        moved_rules: changes to the rules in head, such as ``threshold 0.03 -> 0.99``; they hold once merged.
        notes: what was not compared, and why, in words.
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
    drift: Annotated[tuple[Drift, ...], OMIT_EMPTY] = ()
    added: Annotated[tuple[str, ...], OMIT_EMPTY] = ()
    removed: Annotated[tuple[str, ...], OMIT_EMPTY] = ()
    accepted: Annotated[tuple[str, ...], OMIT_EMPTY] = ()
    rules: Annotated[Mapping[str, Any] | None, Field(exclude_if=lambda value: value is None)] = None
    moved_rules: Annotated[tuple[str, ...], OMIT_EMPTY] = ()
    notes: Annotated[tuple[str, ...], OMIT_EMPTY] = ()


@record
class ProcessPair:
    """A process pair with its single calls in order, which the rules of other benchmark tools need.

    Attributes:
        base_ms: milliseconds of base's calls; for another metric, its one value in the unit of the metric.
        head_ms: those of head.
        disagreement: how the clocks at both ends of the pipe differ, in words; empty where they agree.
        seconds: seconds that it took, with those of slow-downs shared out evenly; 0 for a figure that
            was measured together with one before it.
        quads: number of quads that were measured; 0 where it is not known.
        disturbed: number of quads in which other processes took the CPU; their calls are left out, unless
            they are more than half of the quads.
    """

    log_ratio: float
    base_ms: tuple[float, ...]
    head_ms: tuple[float, ...]
    disagreement: Annotated[str, OMIT_EMPTY] = ""
    seconds: Annotated[float, OMIT_EMPTY] = 0.0
    quads: Annotated[int, OMIT_EMPTY] = 0
    disturbed: Annotated[int, OMIT_EMPTY] = 0


@record
class SlowdownSample:
    """Process pairs of one cell, the head slowed on purpose by a share of a call's time: 0.05 is 5 %."""

    cell: Cell
    slowdown: float
    pairs: tuple[ProcessPair, ...]


@record
class SlowdownSamples:
    """Process pairs with known slow-downs, as ``embedopt calibrate`` collects and saves them.

    Attributes:
        seconds: seconds that the pairs took.
        survey_s: seconds that a gate run takes for the scores, sizes and vectors of both sides, before its
            first pair. Files from before it was measured lack it and are refused: in their slowed pairs,
            only the head did the added work, which slowed its other calls, too.
    """

    hardware_class: str
    samples: tuple[SlowdownSample, ...]
    seconds: float
    survey_s: float
