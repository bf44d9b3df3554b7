"""What of a run can be followed over time, each as a number that travels between machines of a class."""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from embedopt.errors import UsageError
from embedopt.judge.history.saved_runs import SavedRun
from embedopt.records import Accuracy, Footprint, Latency, ShardReference, Throughput
from embedopt.schema import Better, metrics

# A metric with one of these units is divided by the reference's of the same run: machines of one class
# differ in speed, and one machine from day to day, by more than most changes.
_RELATIVE = ("ms", "s", "texts/s")
_FIELDS = {"latency": Latency, "accuracy": Accuracy, "throughput": Throughput, "footprint": Footprint}
_REFERENCE = "torch-fp32"

# Every metric by its name in the records; throughput's rate goes by ``throughput``, since calls have one too.
METRICS: Mapping[str, tuple[str, str]] = {
    ("throughput" if (kind, name) == ("throughput", "texts_per_s") else name): (kind, name)
    for kind, record in _FIELDS.items()
    for name in metrics(record)
}
DEFAULT_METRIC = "p50_ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One number over time, the oldest first.

    Attributes:
        name: backend and batch size, or the full name of another suite's benchmark.
        better: which way is better.
        is_log: whether changes are ratios: values are above 0 and their noise is a share.
        runs: those that have the number.
        values: one a run.
    """

    name: str
    better: Better
    is_log: bool
    runs: tuple[SavedRun, ...]
    values: tuple[float, ...]


def describe_metric(metric: str) -> dict[str, str | bool]:
    """Return the unit of a metric, its better direction, and whether it is followed over the reference's."""
    kind, field = METRICS[metric]
    unit, better = metrics(_FIELDS[kind])[field]
    return {"unit": unit, "better": better, "relative": unit in _RELATIVE}


def series_of(runs: Sequence[SavedRun], metric: str = DEFAULT_METRIC) -> tuple[Series, ...]:
    """Return each series of a metric in runs of one kind, in the order in which they first appear.

    A time or a rate is over ``torch-fp32``'s of the same run and batch size, so that the reference itself has
    no series. A benchmark of another suite has no reference: its median in seconds is followed as it is.

    Raises:
        UsageError: there is no such metric.
    """
    if metric not in METRICS:
        raise UsageError(f"unknown metric {metric!r}; known are: {', '.join(METRICS)}")
    kind, field = METRICS[metric]
    unit, better = metrics(_FIELDS[kind])[field]
    found: dict[str, list[tuple[SavedRun, float]]] = {}
    for run in runs:
        for name, value in _values(run, kind, field, relative=unit in _RELATIVE):
            found.setdefault(name, []).append((run, value))
        if metric == DEFAULT_METRIC and run.run is None:
            for name, value in run.medians_s.items():
                found.setdefault(name, []).append((run, value))
    return tuple(
        Series(
            name=name,
            better=better,
            is_log=kind != "accuracy",
            runs=tuple(run for run, _ in points),
            values=tuple(value for _, value in points),
        )
        for name, points in found.items()
    )


def _values(run: SavedRun, kind: str, field: str, *, relative: bool) -> Iterator[tuple[str, float]]:
    """Yield the name and value of each number that a run has of a metric."""
    if kind == "latency":
        cells = {(of.backend, of.batch_size): getattr(of, field) for of in run.latencies}
    else:
        records = getattr(run.run, kind) if run.run else {}
        cells = {(backend, 0): getattr(record, field) for backend, record in records.items()}
    reference = run.run.reference if run.run else _REFERENCE
    bases = {size: value for (backend, size), value in cells.items() if backend == reference}
    shards = run.run.shard_references if run.run else {}
    of_shard = {backend: _of_reference(shard, kind, field) for backend, shard in shards.items()}
    for (backend, batch_size), value in cells.items():
        name = f"{backend} batch {batch_size}" if batch_size else backend
        base = of_shard.get(backend, bases).get(batch_size) if relative else 1.0
        usable = value is not None and base and (value > 0 or kind == "accuracy")
        if usable and math.isfinite(value / base) and not (relative and backend == reference):
            yield name, value / base


def _of_reference(shard: ShardReference, kind: str, field: str) -> dict[int, float | None]:
    """Return the reference's numbers beside the backends of another shard, by batch size."""
    if kind == "latency":
        return {of.batch_size: getattr(of, field) for of in shard.latencies}
    return {0: getattr(getattr(shard, kind), field)} if kind != "accuracy" else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """How the benchmarks of a run differ from those of the run before; ``renamed`` is old and new name."""

    new: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    vanished: tuple[str, ...] = ()


def roster(before: SavedRun, head: SavedRun) -> Roster:
    """Name new, renamed and vanished benchmarks.

    Renamed is one whose name is much like that of one that vanished, with the same parameters.
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
    return Roster(new=tuple(new), renamed=tuple(renamed), vanished=tuple(vanished))


def _parameters(name: str) -> str:
    return name.partition("[")[2]
