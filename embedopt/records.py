"""What crosses from measuring to judging: frozen records, written to JSON and read back.

Records of one backend hold None for what was not measured.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from embedopt.errors import RecordError
from embedopt.evidence import GateRun
from embedopt.schema import Interval, from_json, metric, record

SCHEMA = 1


@record
class Latency:
    """The time of one call, from one benchmark; its intervals are at 95 % (order statistics)."""

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


@record
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


@record
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

    batch_size: int | None = None
    in_order_per_s: float | None = metric("texts/s", "higher")
    texts_per_s: float | None = metric("texts/s", "higher")
    in_order_padding: float | None = metric("share", "lower")
    padding: float | None = metric("share", "lower")
    seconds: float | None = None
    replicas: int | None = None


@record
class Footprint:
    """What a backend weighs, from a process that loads only it.

    Attributes:
        disk_bytes: files that it loads.
        load_s: cold start, from the start of the process to the first embedding.
        peak_rss_bytes: largest resident memory while it loads and encodes.
    """

    disk_bytes: int | None = metric("bytes", "lower")
    load_s: float | None = metric("s", "lower")
    peak_rss_bytes: int | None = metric("bytes", "lower")


@record
class Turns:
    """What a backend did in its turns beside others, a figure for each round.

    Attributes:
        texts_per_s: one call with all texts, in throughput mode.
        one_by_one_per_s: calls with one text each, in latency mode.
        p50_ms: of those calls, over all rounds.
        p99_ms: likewise.
    """

    texts_per_s: tuple[float, ...]
    one_by_one_per_s: tuple[float, ...]
    p50_ms: float | None = metric("ms", "lower")
    p99_ms: float | None = metric("ms", "lower")


@record
class SideBySideCase:
    """Backends that took turns on the same texts, and what plain matrix products reach on the same cores.

    Attributes:
        texts: how many.
        mean_tokens: of a text, padding left out.
        turns: of each backend.
        roofline_per_s: operations per second of plain matrix products, by precision, a figure for each round.
        operations_per_token: that the model's own products by weights take.
        default: the backend that the others are held against.
    """

    texts: int
    mean_tokens: float
    turns: dict[str, Turns]
    roofline_per_s: dict[str, tuple[float, ...]]
    operations_per_token: int
    default: str


@record
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

    rate_per_s: float
    seconds: float
    p50_ms: float | None = metric("ms", "lower")
    p95_ms: float | None = metric("ms", "lower")
    p99_ms: float | None = metric("ms", "lower")
    p50_ci_ms: Interval | None = None
    p95_ci_ms: Interval | None = None
    p99_ci_ms: Interval | None = None
    kept_share: float | None = metric("share", "higher")
    refused_share: float | None = metric("share", "lower")
    refusal_ms: float | None = metric("ms", "lower")
    lost: int | None = metric("", "lower")
    worst_cosine: float | None = metric("", "higher")
    generator_cpu: float | None = None
    fell_behind: bool = False


@record
class LoadTest:
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

    replicas: int | None = None
    promise_ms: float | None = None
    single_per_s: float | None = metric("texts/s", "higher")
    highest_per_s: float | None = metric("texts/s", "higher")
    worst_cosine: float | None = metric("", "higher")
    points: tuple[LoadPoint, ...] | None = None
    overload: LoadPoint | None = None
    overload_growth_bytes: int | None = metric("bytes", "lower")
    soak_growth_bytes: int | None = metric("bytes", "lower")


@record
class BackendInfo:
    """A backend as it was measured; ``base`` is the backend whose speed its precision is held against.

    ``settings`` are those it ran with, tuned or not; ``throughput_settings`` those in throughput mode, where
    the backend has modes.
    """

    precision: str
    base: str | None
    settings: dict[str, str | int | bool]
    throughput_settings: dict[str, str | int | bool] = field(default_factory=dict)


@record
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

    setting: str
    value: str | int | bool
    default: bool
    kept: bool
    rounds: int
    speed_up: float | None = None
    speed_up_ci: Interval | None = None


@record
class Machine:
    """Where it ran. The CPU, its instruction sets, cores and threads make the hardware class."""

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


@record
class Model:
    """Which weights, by the sha256 of all files that loading them reads."""

    name: str
    digest: str


@record
class CorpusInfo:
    """Which texts, by the sha256 of their contents in order."""

    name: str
    digest: str
    texts: int
    mean_tokens: float | None


@record
class ShardReference:
    """What the reference did on the machine that a shard of a merged run was measured on."""

    latencies: tuple[Latency, ...] = ()
    throughput: Throughput = Throughput()  # frozen
    footprint: Footprint = Footprint()  # frozen
    load: LoadTest | None = None


@record
class Run:
    """All that pytest-benchmark has no column for: the top-level ``embedopt`` key of a saved file.

    ``reference`` names the backend that accuracy and speed-ups of the others are held against;
    ``pareto_front`` those that no other beats on speed and fidelity at once;
    ``side_by_side`` holds the cases ``short`` and ``mixed`` of texts; ``load`` is by backend and way of
    batching; ``against`` is there where a base was measured beside this run. In a merged run,
    ``shard_references`` holds what the reference did beside each backend of another shard than the first.
    """

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
    side_by_side: dict[str, SideBySideCase] = field(default_factory=dict)
    load: dict[str, dict[str, LoadTest]] = field(default_factory=dict)
    against: GateRun | None = None
    shard_references: dict[str, ShardReference] = field(default_factory=dict)


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
