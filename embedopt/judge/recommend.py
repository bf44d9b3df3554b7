"""Which configuration is the cheapest that meets what a user asks, and which are worth a look at all?"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from embedopt.judge.history.saved_runs import SavedRun
from embedopt.records import Accuracy, Footprint, Latency, Run, Throughput

# As in the bounds of the backends that promise it.
_INVARIANT = 0.99999
# Nearer cosines than this differ by the order of additions only.
_SAME_COSINE_DIGITS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A backend with what a wish can be held against; None for what was not measured.

    ``texts_per_s`` is sustained, in throughput mode; ``p99_ms``, of a call with one text, and the scores
    of the embeddings are of latency mode.
    """

    backend: str
    texts_per_s: float
    p99_ms: float | None
    cosine_mean: float | None
    batch_invariance_min: float | None
    disk_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a user asks for; None or False for what does not matter."""

    p99_ms: float | None = None
    min_cosine: float | None = None
    batch_invariant: bool = False
    max_mb: float | None = None

    def unmet(self, candidate: Candidate) -> Mapping[str, str]:
        """Say of each wish that a candidate does not meet, by its option, what stands in the way."""
        checks = {
            "--p99-ms": (self.p99_ms, candidate.p99_ms, 1.0, -1, "p99 {:.1f} ms"),
            "--min-cosine": (self.min_cosine, candidate.cosine_mean, 1.0, 1, "mean cosine {:.4f}"),
            "--batch-invariant": (
                _INVARIANT if self.batch_invariant else None,
                candidate.batch_invariance_min,
                1.0,
                1,
                "batch invariance {:.5f}",
            ),
            "--max-mb": (self.max_mb, candidate.disk_bytes, 1e-6, -1, "{:.1f} MB"),
        }
        return {
            option: "not measured" if value is None else words.format(value * scale)
            for option, (wanted, value, scale, sign, words) in checks.items()
            if wanted is not None and (value is None or sign * value * scale < sign * wanted)
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The answer to :class:`Requirements`.

    Attributes:
        chosen: the cheapest that meets all; None when none does.
        others: the rest that meet all, the cheapest first.
        obstacles: for each that does not, what stands in the way, by option.
    """

    chosen: Candidate | None
    others: tuple[Candidate, ...]
    obstacles: Mapping[str, Mapping[str, str]]

    @property
    def decisive(self) -> Mapping[str, tuple[str, ...]]:
        """The requirements that alone stand in the way, each with the backends that would do without it."""
        alone: dict[str, tuple[str, ...]] = {}
        for backend, unmet in self.obstacles.items():
            if len(unmet) == 1:
                [option] = unmet
                alone[option] = (*alone.get(option, ()), backend)
        return alone


def candidates(saved: SavedRun) -> tuple[Candidate, ...]:
    """Return the backends whose throughput was measured, the fastest (and so the cheapest) first."""
    if saved.run is None:
        return ()
    singles = {latency.backend: latency for latency in saved.latencies if latency.batch_size == 1}
    found = [
        _candidate(saved.run, name, rate, singles.get(name))
        for name in saved.run.throughput
        if (rate := _rate(saved.run, name))
    ]
    return tuple(sorted(found, key=lambda candidate: -candidate.texts_per_s))


def cheapest(found: Iterable[Candidate], requirements: Requirements) -> Recommendation:
    """Pick the cheapest candidate that meets all requirements: the machine's price is the same for all."""
    ordered = sorted(found, key=lambda candidate: -candidate.texts_per_s)
    unmet = {candidate.backend: requirements.unmet(candidate) for candidate in ordered}
    fitting = [candidate for candidate in ordered if not unmet[candidate.backend]]
    return Recommendation(
        chosen=fitting[0] if fitting else None,
        others=tuple(fitting[1:]),
        obstacles={backend: why for backend, why in unmet.items() if why},
    )


def with_pareto_front(run: Run) -> Run:
    """Mark the backends that no other beats on speed and fidelity at once."""
    points = {
        name: (rate, round(cosine, _SAME_COSINE_DIGITS))
        for name in run.throughput
        if (rate := _rate(run, name))
        and (cosine := run.accuracy.get(name, Accuracy()).cosine_mean) is not None
    }
    front = tuple(
        name
        for name, (rate, cosine) in points.items()
        if not any(
            other != (rate, cosine) and other[0] >= rate and other[1] >= cosine for other in points.values()
        )
    )
    return dataclasses.replace(run, pareto_front=front)


def _rate(run: Run, name: str) -> float | None:
    """Return texts per second, of another shard's backend as on the machine of the first shard."""
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
