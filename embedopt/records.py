"""What crosses from measuring to judging: frozen records, written to JSON and read back.

A metric is one field here, with its unit and its better direction.
Records of one backend hold None for what was not measured.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from embedopt.errors import RecordError
from embedopt.evidence import Against

SCHEMA = 1

Better = Literal["higher", "lower"]
Interval = tuple[float, float]
R = TypeVar("R")

_STRICT = ConfigDict(extra="forbid")
_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def metric(unit: str, better: Better) -> Any:
    """Declare a field that holds a metric: None until it is measured."""
    return field(default=None, metadata={"unit": unit, "better": better})


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """The time of one call, from one benchmark; its intervals are at 95 % (order statistics)."""

    __pydantic_config__ = _STRICT

    backend: str
    batch_size: int
    calls: int
    p50_ms: float | None = metric("ms", "lower")
    p95_ms: float | None = metric("ms", "lower")
    p99_ms: float | None = metric("ms", "lower")
    p50_ci_ms: Interval | None = None
    p95_ci_ms: Interval | None = None
    p99_ci_ms: Interval | None = None
    texts_per_s: float | None = metric("texts/s", "higher")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How near the embeddings are to the reference's.

    Attributes:
        cosine_mean: mean cosine to the reference over the corpus.
        cosine_p1: its 1st percentile.
        cosine_min: its minimum.
        max_abs_error: largest difference of a component.
        batch_invariance_min: worst cosine between a text encoded alone and the same text among 31 others.
        recall_at_10: share of the judged listings among a query's 10 nearest, averaged over queries.
        overlap_at_10: share of the reference's 10 nearest among this backend's, averaged over queries.
        spearman: correlation of cosine with the scores of ``--pairs``, times 100.
        spearman_distance: that minus the reference's.
    """

    __pydantic_config__ = _STRICT

    texts: int | None = None
    cosine_mean: float | None = metric("", "higher")
    cosine_p1: float | None = metric("", "higher")
    cosine_min: float | None = metric("", "higher")
    max_abs_error: float | None = metric("", "lower")
    batch_invariance_min: float | None = metric("", "higher")
    recall_at_10: float | None = metric("", "higher")
    overlap_at_10: float | None = metric("", "higher")
    spearman: float | None = metric("x 100", "higher")
    spearman_distance: float | None = metric("x 100", "higher")


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Sustained texts per second in batches; calls with one text each are a :class:`Latency` at batch 1.

    Attributes:
        batch_size: texts in a batch.
        in_order_per_s: each call encodes ``batch_size`` texts, as they come.
        texts_per_s: one call gets all texts and plans its batches by length.
        in_order_padding: share of padding in the batches of ``in_order_per_s``.
        padding: share of padding in those of ``texts_per_s``.
        seconds: time spent in ``texts_per_s``.
        replicas: batches that were encoded at a time in ``texts_per_s``.
    """

    __pydantic_config__ = _STRICT

    batch_size: int | None = None
    in_order_per_s: float | None = metric("texts/s", "higher")
    texts_per_s: float | None = metric("texts/s", "higher")
    in_order_padding: float | None = metric("share", "lower")
    padding: float | None = metric("share", "lower")
    seconds: float | None = None
    replicas: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a backend weighs, from a process that loads only it.

    Attributes:
        disk_bytes: files that it loads.
        load_s: cold start, from the start of the process to the first embedding.
        peak_rss_bytes: largest resident memory while it loads and encodes.
    """

    __pydantic_config__ = _STRICT

    disk_bytes: int | None = metric("bytes", "lower")
    load_s: float | None = metric("s", "lower")
    peak_rss_bytes: int | None = metric("bytes", "lower")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendInfo:
    """A backend as it was measured; ``base`` is the backend whose speed its precision is held against."""

    __pydantic_config__ = _STRICT

    precision: str
    base: str | None
    settings: dict[str, str | int | bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where it ran. The CPU, its instruction sets, cores and threads make the hardware class."""

    __pydantic_config__ = _STRICT

    cpu: str
    instruction_sets: tuple[str, ...]
    cores: int
    threads: int
    system: str
    python: str
    libraries: dict[str, str]

    @property
    def hardware_class(self) -> str:
        """Runs of one class may be compared; scores and times of two classes may not."""
        sets = "+".join(self.instruction_sets) or "none"
        return f"{self.cpu} | {sets} | {self.cores} cores | {self.threads} threads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which weights, by the sha256 of all files that loading them reads."""

    __pydantic_config__ = _STRICT

    name: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusInfo:
    """Which texts, by the sha256 of their contents in order."""

    __pydantic_config__ = _STRICT

    name: str
    digest: str
    texts: int
    mean_tokens: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that pytest-benchmark has no column for: the top-level ``embedopt`` key of a saved file.

    ``reference`` names the backend that accuracy and speed-ups of the others are held against;
    ``pareto_front`` those that no other beats on speed and fidelity at once; ``against`` is there where a
    base was measured beside this run.
    """

    __pydantic_config__ = _STRICT

    schema: int
    hardware_class: str
    machine: Machine
    model: Model
    corpus: CorpusInfo
    profile: str
    reference: str
    backends: dict[str, BackendInfo]
    accuracy: dict[str, Accuracy]
    throughput: dict[str, Throughput]
    footprint: dict[str, Footprint]
    pareto_front: tuple[str, ...] = ()
    against: Against | None = None


def to_json(record: Any) -> dict[str, Any]:
    """Return a record as JSON values."""
    values: dict[str, Any] = _adapter(type(record)).dump_python(record, mode="json")
    return values


def from_json(kind: type[R], values: Mapping[str, Any]) -> R:
    """Read a record back.

    Raises:
        RecordError: a field is missing, unknown or of the wrong type; the message names it.
    """
    try:
        found: R = _adapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RecordError(f"{kind.__name__} record: {where}: {first['msg'].lower()}") from None
    return found


def _adapter(kind: type) -> TypeAdapter[Any]:
    """Return what reads and writes a record; making one takes longer than reading a record with it."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def run_from_json(values: Mapping[str, Any]) -> Run:
    """Read the top-level ``embedopt`` key of a saved file.

    Raises:
        RecordError: it was written in another schema, or is no such record.
    """
    found = values.get("schema") if isinstance(values, Mapping) else None
    if found != SCHEMA:
        raise RecordError(
            f"record has schema {found!r}, wanted {SCHEMA}: read it with the embedopt that wrote it"
        )
    return from_json(Run, values)


def metrics(kind: type) -> dict[str, tuple[str, Better]]:
    """Return the metrics of a record type by name, each with its unit and better direction."""
    return {
        item.name: (item.metadata["unit"], item.metadata["better"])
        for item in dataclasses.fields(kind)
        if "better" in item.metadata
    }
