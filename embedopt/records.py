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

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
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
class Turns:
    """What a backend did in its turns beside others, a figure for each round.

    Attributes:
        texts_per_s: one call with all texts, in throughput mode.
        one_by_one_per_s: calls with one text each, in latency mode.
        p50_ms: of those calls, over all rounds.
        p99_ms: likewise.
    """

    __pydantic_config__ = _STRICT

    texts_per_s: tuple[float, ...]
    one_by_one_per_s: tuple[float, ...]
    p50_ms: float | None = metric("ms", "lower")
    p99_ms: float | None = metric("ms", "lower")


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """Backends that took turns on the same texts, and what plain matrix products reach on the same cores.

    Attributes:
        texts: how many.
        mean_tokens: of a text, padding left out.
        turns: of each backend.
        roofline_per_s: operations per second of plain matrix products, by precision, a figure for each round.
        operations_per_token: that the model's own products by weights take.
        default: the backend that the others are held against.
    """

    __pydantic_config__ = _STRICT

    texts: int
    mean_tokens: float
    turns: dict[str, Turns]
    roofline_per_s: dict[str, tuple[float, ...]]
    operations_per_token: int
    default: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPoint:
    """What one server did at one arrival rate; latencies are of answers and count from the intended arrival.

    Attributes:
        rate_per_s: requests that came, a second.
        seconds: that they came for.
        kept_share: of all requests, those answered within the promise.
        refused_share: of all requests, those refused.
        refusal_ms: what the slowest refusal took.
        lost: requests that got an error, or no answer at all.
        worst_cosine: between an answer and the same text encoded alone.
        generator_cpu: share of a core that sending the requests took.
        fell_behind: whether the generator was too late to be believed: no latencies then.
    """

    __pydantic_config__ = _STRICT

    rate_per_s: float
    seconds: float
    p50_ms: float | None = metric("ms", "lower")
    p95_ms: float | None = metric("ms", "lower")
    p99_ms: float | None = metric("ms", "lower")
    kept_share: float | None = metric("share", "higher")
    refused_share: float | None = metric("share", "lower")
    refusal_ms: float | None = metric("ms", "lower")
    lost: int | None = metric("", "lower")
    worst_cosine: float | None = metric("", "higher")
    generator_cpu: float | None = None
    fell_behind: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One backend behind one way of batching, under open-loop load.

    Attributes:
        replicas: batches that are encoded at a time.
        promise_ms: what the 99th percentile is held to.
        single_per_s: texts a second that the replicas encode one by one, without a queue.
        highest_per_s: highest arrival rate at which 99 % of all requests are answered within the promise.
        worst_cosine: between an answer and the same text encoded alone, over all rates.
        points: at fixed shares of ``single_per_s``, then those of the search.
        overload: at three times the highest rate.
        overload_growth_bytes: resident memory after that minus that before it.
        soak_growth_bytes: resident memory at the end of a soak minus that after its first quarter.
    """

    __pydantic_config__ = _STRICT

    replicas: int | None = None
    promise_ms: float | None = None
    single_per_s: float | None = metric("texts/s", "higher")
    highest_per_s: float | None = metric("texts/s", "higher")
    worst_cosine: float | None = metric("", "higher")
    points: tuple[LoadPoint, ...] | None = None
    overload: LoadPoint | None = None
    overload_growth_bytes: int | None = metric("bytes", "lower")
    soak_growth_bytes: int | None = metric("bytes", "lower")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendInfo:
    """A backend as it was measured; ``base`` is the backend whose speed its precision is held against.

    ``settings`` are those it ran with, tuned or not; ``throughput_settings`` those in throughput mode, where
    the backend has modes.
    """

    __pydantic_config__ = _STRICT

    precision: str
    base: str | None
    settings: dict[str, str | int | bool]
    throughput_settings: dict[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One value of one setting, raced against the default of that setting.

    Attributes:
        setting: its name.
        value: what was tried.
        default: whether the backend's row has this value.
        kept: whether the setting has this value from now on.
        rounds: that all values of the setting were measured in; too few leave the rest None.
        speed_up: the default's time over this one's, geometric mean over the rounds.
        speed_up_ci: its 95 % interval, widened for the number of values that the default raced against.
    """

    __pydantic_config__ = _STRICT

    setting: str
    value: str | int | bool
    default: bool
    kept: bool
    rounds: int
    speed_up: float | None = None
    speed_up_ci: Interval | None = None


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
class ShardReference:
    """What the reference did on the machine that a shard of a merged run was measured on."""

    __pydantic_config__ = _STRICT

    latencies: tuple[Latency, ...] = ()
    throughput: Throughput = Throughput()  # frozen
    footprint: Footprint = Footprint()  # frozen
    load: Load | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that pytest-benchmark has no column for: the top-level ``embedopt`` key of a saved file.

    ``reference`` names the backend that accuracy and speed-ups of the others are held against;
    ``pareto_front`` those that no other beats on speed and fidelity at once;
    ``side_by_side`` holds the cases ``short`` and ``mixed`` of texts; ``load`` is by backend and way of
    batching; ``against`` is there where a base was measured beside this run. In a merged run,
    ``shard_references`` holds what the reference did beside each backend of another shard than the first.
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
    side_by_side: dict[str, SideBySide] = field(default_factory=dict)
    load: dict[str, dict[str, Load]] = field(default_factory=dict)
    against: Against | None = None
    shard_references: dict[str, ShardReference] = field(default_factory=dict)


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
