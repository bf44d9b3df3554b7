"""The cheapest backend that meets a user's requirements, and the Pareto front of speed and fidelity."""

import dataclasses
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from embedopt.judge.history.saved_runs import SavedRun
from embedopt.records import Accuracy, Footprint, Latency, Run, Throughput

# Lowest batch invariance that counts as independent of the batch: the bound of the backends that promise it.
_INVARIANT = 0.99999
# Cosines that agree to this many digits differ only by the order of additions.
_SAME_COSINE_DIGITS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A backend with the figures that requirements apply to; None for what was not measured.

    Attributes:
        texts_per_s: sustained rate of a call with many texts.
        p99_ms: 99th percentile of calls with one text.
        cosine_mean: mean cosine to the reference's embeddings.
        batch_invariance_min: lowest cosine between a text encoded alone and among others.
        disk_bytes: size of the files that it loads.
    """

    backend: str
    texts_per_s: float
    p99_ms: float | None
    cosine_mean: float | None
    batch_invariance_min: float | None
    disk_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a user requires of a backend; None or False for no requirement.

    Attributes:
        batch_invariant: whether a text must have the same embedding in any batch.
    """

    p99_ms: float | None = None
    min_cosine: float | None = None
    batch_invariant: bool = False
    max_mb: float | None = None

    def unmet(self, candidate: Candidate) -> Mapping[str, str]:
        """Return the requirements that a candidate misses: the figure that misses each, by option."""
        size_mb = None if candidate.disk_bytes is None else candidate.disk_bytes * 1e-6
        invariance, lowest = candidate.batch_invariance_min, _INVARIANT if self.batch_invariant else None
        checks = (
            ("--p99-ms", self.p99_ms, candidate.p99_ms, operator.le, "p99 {:.1f} ms"),
            ("--min-cosine", self.min_cosine, candidate.cosine_mean, operator.ge, "mean cosine {:.4f}"),
            ("--batch-invariant", lowest, invariance, operator.ge, "batch invariance {:.5f}"),
            ("--max-mb", self.max_mb, size_mb, operator.le, "{:.1f} MB"),
        )
        return {
            option: "not measured" if value is None else words.format(value)
            for option, required, value, meets, words in checks
            if required is not None and (value is None or not meets(value, required))
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The answer to :class:`Requirements`.

    Attributes:
        chosen: the cheapest backend that meets all requirements; None if none does.
        others: the other backends that meet them, the cheapest first.
        obstacles: for each backend that does not, what :meth:`Requirements.unmet` returns.
    """

    chosen: Candidate | None
    others: tuple[Candidate, ...]
    obstacles: Mapping[str, Mapping[str, str]]

    @property
    def decisive(self) -> Mapping[str, tuple[str, ...]]:
        """The backends that miss only one requirement, by its option."""
        backends: dict[str, tuple[str, ...]] = {}
        for backend, unmet in self.obstacles.items():
            if len(unmet) == 1:
                [option] = unmet
                backends[option] = (*backends.get(option, ()), backend)
        return backends


def candidates(saved: SavedRun) -> tuple[Candidate, ...]:
    """Return the backends whose throughput was measured, the fastest (and so the cheapest) first."""
    run = saved.run
    if run is None:
        return ()
    singles = {latency.backend: latency for latency in saved.latencies if latency.batch_size == 1}
    return _fastest_first(_candidate(run, name, rate, singles.get(name)) for name, rate in rates(run).items())


def cheapest(measured: Iterable[Candidate], requirements: Requirements) -> Recommendation:
    """Pick the cheapest that meets all requirements: the fastest, since an hour costs the same for all."""
    ordered = _fastest_first(measured)
    unmet = {candidate.backend: requirements.unmet(candidate) for candidate in ordered}
    suitable = tuple(candidate for candidate in ordered if not unmet[candidate.backend])
    return Recommendation(
        chosen=suitable[0] if suitable else None,
        others=suitable[1:],
        obstacles={backend: figures for backend, figures in unmet.items() if figures},
    )


def with_pareto_front(run: Run) -> Run:
    """Mark the Pareto front: backends for which no other is as fast and as near, and better in one."""
    points = {
        name: (rate, round(cosine, _SAME_COSINE_DIGITS))
        for name, rate in rates(run).items()
        if (cosine := run.accuracy.get(name, Accuracy()).cosine_mean) is not None
    }
    front = tuple(
        name
        for name, point in points.items()
        if not any(
            other != point and other[0] >= point[0] and other[1] >= point[1] for other in points.values()
        )
    )
    return dataclasses.replace(run, pareto_front=front)


def rates(run: Run) -> dict[str, float]:
    """Return texts per second of each backend whose throughput was measured, as of one machine.

    Those of another shard are scaled to the machine of the first shard by the reference's, so that the
    fastest backend is not the one with the fastest machine.
    """
    by_backend = {name: _rate(run, name) for name in run.throughput}
    return {name: rate for name, rate in by_backend.items() if rate}


def _fastest_first(unsorted: Iterable[Candidate]) -> tuple[Candidate, ...]:
    return tuple(sorted(unsorted, key=lambda candidate: -candidate.texts_per_s))


def _rate(run: Run, name: str) -> float | None:
    rate, here = run.throughput[name].texts_per_s, run.throughput.get(run.reference, Throughput()).texts_per_s
    there = run.shard_references[name].throughput.texts_per_s if name in run.shard_references else here
    return rate * here / there if rate and here and there else rate


def _candidate(run: Run, name: str, texts_per_s: float, single: Latency | None) -> Candidate:
    accuracy, footprint = run.accuracy.get(name, Accuracy()), run.footprint.get(name, Footprint())
    return Candidate(
        backend=name,
        texts_per_s=texts_per_s,
        p99_ms=single.p99_ms if single else None,
        cosine_mean=accuracy.cosine_mean,
        batch_invariance_min=accuracy.batch_invariance_min,
        disk_bytes=footprint.disk_bytes,
    )
