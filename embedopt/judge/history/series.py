"""Figures of saved runs over time, made comparable between the machines of a class."""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from embedopt.errors import UsageError
from embedopt.evidence import cell_name
from embedopt.judge.history.saved_runs import SavedRun
from embedopt.records import Accuracy, Footprint, Latency, ShardReference, Throughput
from embedopt.schema import Better, metrics

# A metric with one of these units is divided by the reference's in the same run: the speed of machines of one
# class, and of one machine from day to day, differs by more than most changes.
_RELATIVE = ("ms", "s", "texts/s")
_FIELDS = {"latency": Latency, "accuracy": Accuracy, "throughput": Throughput, "footprint": Footprint}
_REFERENCE = "torch-fp32"

# Every metric by its name in the records; the rate of throughput is named ``throughput``, since calls have a
# ``texts_per_s``, too.
METRICS: Mapping[str, tuple[str, str]] = {
    ("throughput" if (kind, name) == ("throughput", "texts_per_s") else name): (kind, name)
    for kind, record in _FIELDS.items()
    for name in metrics(record)
}
DEFAULT_METRIC = "p50_ms"
# Figures of the bulk benchmark are not divided: the reference takes no part in it.
BULK_METRICS = ("bulk_per_s", "bulk_peak_bytes", "bulk_resume_s")
_Key = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One figure over time.

    Attributes:
        metric: name of the figure among :data:`METRICS`.
        backend: name of the backend, or full name of another suite's benchmark.
        batch_size: texts in a call; 0 for a figure that has no batch size.
        is_log: whether changes are ratios: values are above 0 and their noise is a share.
        runs: the runs that have the figure, the oldest first.
    """

    metric: str
    backend: str
    batch_size: int
    better: Better
    is_log: bool
    runs: tuple[SavedRun, ...]
    values: tuple[float, ...]

    @property
    def name(self) -> str:
        """Backend and batch size in words."""
        return cell_name(self.backend, self.batch_size)


def describe_metric(metric: str) -> dict[str, str | bool]:
    """Return the unit of a metric, its better direction, and whether it is divided by the reference's."""
    kind, field = METRICS[metric]
    unit, better = metrics(_FIELDS[kind])[field]
    return {"unit": unit, "better": better, "relative": _is_relative(metric)}


def _is_relative(metric: str) -> bool:
    kind, field = METRICS[metric]
    return metric not in BULK_METRICS and metrics(_FIELDS[kind])[field][0] in _RELATIVE


def series_of(runs: Sequence[SavedRun], metric: str = DEFAULT_METRIC) -> tuple[Series, ...]:
    """Return each series of a metric in runs of one kind, in the order in which they first appear.

    A time or a rate is divided by ``torch-fp32``'s in the same run at the same batch size, so the reference
    itself has no series. A benchmark of another suite has no reference: its series is its median in seconds.

    Raises:
        UsageError: there is no such metric.
    """
    if metric not in METRICS:
        raise UsageError(f"unknown metric {metric!r}; known are: {', '.join(METRICS)}")
    kind, field = METRICS[metric]
    better = metrics(_FIELDS[kind])[field][1]
    points: dict[_Key, list[tuple[SavedRun, float]]] = {}
    for run in runs:
        for key, value in _values(run, kind, field, relative=_is_relative(metric)):
            points.setdefault(key, []).append((run, value))
        if metric == DEFAULT_METRIC and run.run is None:
            for name, value in run.medians_s.items():
                points.setdefault((name, 0), []).append((run, value))
    return tuple(
        Series(
            metric=metric,
            backend=backend,
            batch_size=batch_size,
            better=better,
            is_log=kind != "accuracy",
            runs=tuple(run for run, _ in pairs),
            values=tuple(value for _, value in pairs),
        )
        for (backend, batch_size), pairs in points.items()
    )


def _values(run: SavedRun, kind: str, field: str, *, relative: bool) -> Iterator[tuple[_Key, float]]:
    """Yield each value that a run has of a metric, with its backend and batch size."""
    if kind == "latency":
        cells = {(latency.backend, latency.batch_size): getattr(latency, field) for latency in run.latencies}
    else:
        records = getattr(run.run, kind) if run.run else {}
        cells = {(backend, 0): getattr(record, field) for backend, record in records.items()}
    reference = run.run.reference if run.run else _REFERENCE
    own = {size: value for (backend, size), value in cells.items() if backend == reference}
    shards = run.run.shard_references if run.run else {}
    references = {backend: _reference_values(shard, kind, field) for backend, shard in shards.items()}
    for (backend, batch_size), value in cells.items():
        divisor = references.get(backend, own).get(batch_size) if relative else 1.0
        usable = value is not None and divisor and divisor > 0 and (value > 0 or kind == "accuracy")
        if usable and math.isfinite(value / divisor) and not (relative and backend == reference):
            yield (backend, batch_size), value / divisor


def _reference_values(shard: ShardReference, kind: str, field: str) -> dict[int, float | None]:
    """Return a shard's values of the reference by batch size."""
    if kind == "latency":
        return {latency.batch_size: getattr(latency, field) for latency in shard.latencies}
    return {0: getattr(getattr(shard, kind), field)} if kind != "accuracy" else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """Full names of benchmarks that only one of two runs has; ``renamed`` has pairs of old and new names."""

    new: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    vanished: tuple[str, ...] = ()


def roster(before: SavedRun, head: SavedRun) -> Roster:
    """Return the new, renamed and vanished benchmarks of a run.

    A new benchmark counts as renamed if its name is similar to that of a vanished one with the same
    parameters. What a partial run left out has not vanished.
    """
    vanished = sorted(before.benchmarks - head.benchmarks)
    new, renamed = [], []
    for name in sorted(head.benchmarks - before.benchmarks):
        alike = [old for old in vanished if _parameters(old) == _parameters(name)]
        match difflib.get_close_matches(name, alike, n=1, cutoff=0.7):
            case [old]:
                renamed.append((old, name))
                vanished.remove(old)
            case _:
                new.append(name)
    is_part = head.run is not None and head.run.part is not None
    return Roster(new=tuple(new), renamed=tuple(renamed), vanished=() if is_part else tuple(vanished))


def _parameters(name: str) -> str:
    return name.partition("[")[2]
