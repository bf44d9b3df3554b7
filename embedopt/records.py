"""The records that a run saves: written to JSON by what measures, read back by what judges.

None stands for what was not measured.
"""

from dataclasses import field
from typing import Annotated

from embedopt.conditions import BackendInfo, CorpusInfo, Machine, Model
from embedopt.evidence import GateRun
from embedopt.schema import OMIT_EMPTY, Interval, metric, record

SCHEMA = 1
# The batch size that stands for many texts at once.
LARGE_BATCH = 32
# A repeated call that takes less than this share of a new call's time was answered from kept results.
KEPT_SHARE = 0.5


@record
class Percentiles:
    """Percentiles of times with their 95 % intervals (order statistics)."""

    p50_ms: float | None = metric("ms", "lower")
    p95_ms: float | None = metric("ms", "lower")
    p99_ms: float | None = metric("ms", "lower")
    p50_ci_ms: Interval | None = None
    p95_ci_ms: Interval | None = None
    p99_ci_ms: Interval | None = None


@record
class Latency(Percentiles):
    """Times of one benchmark's calls.

    Attributes:
        batches: mean number of batches that a call with several texts was planned into.
        replicas: mean number of batches that such a call encoded at the same time.
        repeated_share: time of a repeated call over that of a new one; well below 1, results are kept.
    """

    backend: str
    batch_size: int
    calls: int
    texts_per_s: float | None = metric("texts/s", "higher")
    batches: Annotated[float | None, OMIT_EMPTY] = None
    replicas: Annotated[float | None, OMIT_EMPTY] = None
    repeated_share: Annotated[float | None, OMIT_EMPTY] = None


@record
class Accuracy:
    """How near a backend's embeddings are to the reference's.

    Attributes:
        cosine_mean: mean cosine to the reference's embedding of the same text.
        cosine_p1: 1st percentile of these cosines.
        cosine_min: smallest of these cosines.
        max_abs_error: largest difference of a component.
        batch_invariance_min: smallest cosine between a text encoded alone and in a batch with 31 others.
        recall_at_10: share of a query's relevant texts among its 10 nearest, averaged over queries.
        overlap_at_10: share of the reference's 10 nearest among this backend's, averaged over queries.
        query_prompt: string that retrieval put before each query, if any.
        document_prompt: string that retrieval put before each text that queries search, if any.
        spearman: rank correlation of cosines with judged scores of sentence pairs, times 100.
        spearman_distance: ``spearman`` minus the reference's.
        clipped_share: share of the activations that a recipe's fixed scales clip.
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
    clipped_share: Annotated[float | None, OMIT_EMPTY] = metric("", "lower")
    query_prompt: Annotated[str | None, OMIT_EMPTY] = None
    document_prompt: Annotated[str | None, OMIT_EMPTY] = None


@record
class Throughput:
    """Sustained texts per second, in forced batches of the texts as they come and in planned batches.

    Attributes:
        batch_size: texts in a batch of the texts as they come.
        in_order_per_s: texts per second of forced batches: ``batch_size`` texts as they come, padded.
        texts_per_s: texts per second of one call with all texts, which plans its batches by length.
        in_order_padding: share of padding in the batches of the texts as they come.
        padding: share of padding in the planned batches.
        seconds: seconds spent in planned encoding.
        replicas: planned batches that were encoded at the same time.
        bulk_texts: number of texts that the bulk benchmark encoded.
        bulk_per_s: texts per second from a Parquet file to a folder of Parquet files.
        bulk_share: share of that time that encoding took; the rest is reading, checking and writing.
        bulk_resume_s: seconds that the same command takes when nothing is left to encode.
        bulk_peak_bytes: largest resident memory of the process from the file to the folder.
    """

    batch_size: int | None = None
    in_order_per_s: float | None = metric("texts/s", "higher")
    texts_per_s: float | None = metric("texts/s", "higher")
    in_order_padding: float | None = metric("share", "lower")
    padding: float | None = metric("share", "lower")
    seconds: float | None = None
    replicas: int | None = None
    bulk_texts: Annotated[int | None, OMIT_EMPTY] = None
    bulk_per_s: float | None = metric("texts/s", "higher")
    bulk_share: float | None = metric("share", "higher")
    bulk_resume_s: float | None = metric("s", "lower")
    bulk_peak_bytes: int | None = metric("bytes", "lower")


@record
class Footprint:
    """Disk and memory that a backend takes, in a process that opens nothing else.

    Attributes:
        disk_bytes: size of the files that the backend reads.
        load_s: seconds of a cold start, from the start of the process to the first embedding.
        peak_rss_bytes: largest resident memory of the process while it encodes.
    """

    disk_bytes: int | None = metric("bytes", "lower")
    load_s: float | None = metric("s", "lower")
    peak_rss_bytes: int | None = metric("bytes", "lower")


@record
class Turns:
    """Speed of a backend that took turns with others on the same texts.

    Attributes:
        texts_per_s: texts per second of one call with all texts, for each round.
        one_by_one_per_s: texts per second of calls with one text, for each round.
        p50_ms: median of the calls with one text, over all rounds; ``p99_ms`` likewise.
    """

    texts_per_s: tuple[float, ...]
    one_by_one_per_s: tuple[float, ...]
    p50_ms: float | None = metric("ms", "lower")
    p99_ms: float | None = metric("ms", "lower")


@record
class SideBySideCase:
    """Backends that took turns on the same texts, and the roofline of the same cores.

    Attributes:
        mean_tokens: mean number of tokens of a text, without padding.
        roofline_per_s: operations per second of plain matrix products, by precision, for each round.
        operations_per_token: operations of the model's products by weights for one token.
        default: backend that the others are compared with.
    """

    texts: int
    mean_tokens: float
    turns: dict[str, Turns]
    roofline_per_s: dict[str, tuple[float, ...]]
    operations_per_token: int
    default: str


@record
class LoadPoint(Percentiles):
    """A server at one arrival rate. Latencies count from the intended arrival of a request to its answer.

    Attributes:
        kept_share: share of all requests that were answered within the promise.
        refused_share: share of all requests that were refused.
        refusal_ms: latency of the slowest refusal.
        lost: number of requests that got an error or no answer.
        worst_cosine: smallest cosine between an answer and the same text encoded alone.
        generator_cpu: share of a core that sending the requests took; for an endpoint, this process.
        late_ms: 99th percentile of how late the generator sent the requests.
        fell_behind: whether the generator sent too late for latencies to mean anything; there are none then.
    """

    rate_per_s: float
    seconds: float
    kept_share: float | None = metric("share", "higher")
    refused_share: float | None = metric("share", "lower")
    refusal_ms: float | None = metric("ms", "lower")
    lost: int | None = metric("", "lower")
    worst_cosine: float | None = metric("", "higher")
    generator_cpu: float | None = None
    late_ms: Annotated[float | None, OMIT_EMPTY] = None
    fell_behind: bool = False


@record
class LoadTest:
    """A backend under open-loop load, behind one way of batching.

    Attributes:
        promise_ms: latency that the 99th percentile is held to.
        single_per_s: texts per second that the replicas encode one by one, without a queue.
        highest_per_s: highest arrival rate at which 99 % of all requests are answered within the promise.
        worst_cosine: smallest cosine between an answer and the same text encoded alone, over all rates.
        points: results at fixed shares of ``single_per_s``, then at the rates of the search.
        overload: result at three times ``highest_per_s``.
        overload_growth_bytes: growth of resident memory during the overload.
        soak_growth_bytes: growth of resident memory during a soak, after its first quarter.
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
class ShardReference:
    """The reference's results on the machine that measured one shard of a merged run."""

    latencies: tuple[Latency, ...] = ()
    throughput: Throughput = Throughput()  # frozen
    footprint: Footprint = Footprint()  # frozen
    load: LoadTest | None = None


@record
class Part:
    """Marks an incomplete run: options or an interruption left benchmarks out.

    Attributes:
        failed: by question, which is the name of a benchmark's file, the backends that it failed for.
    """

    failed: dict[str, tuple[str, ...]] = field(default_factory=dict)


@record
class Run:
    """A whole run: the top-level ``embedopt`` key of a saved file.

    Attributes:
        reference: backend that the accuracy and speed of the others are compared with.
        pareto_front: backends that no other backend beats in both speed and accuracy.
        side_by_side: backends in turns, for the cases ``short`` and ``mixed`` of texts.
        load: load tests by backend and way of batching.
        against: comparison with a base; None without ``--against``.
        shard_references: in a merged run, the reference's results for each backend of the other shards.
        part: None for a complete run, and for one of an older embedopt.
        not_measured: by the name of a figure, why it is None although its benchmark ran.
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
    part: Annotated[Part | None, OMIT_EMPTY] = None
    not_measured: Annotated[dict[str, str], OMIT_EMPTY] = field(default_factory=dict)
