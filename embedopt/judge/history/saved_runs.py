"""Reads files that pytest-benchmark saved: every table, verdict and page gets its runs from here."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeGuard

from embedopt.errors import RecordError, reason_of
from embedopt.records import SCHEMA, Footprint, Latency, Run, ShardReference, Throughput
from embedopt.schema import from_json

# Names that pytest-benchmark gives to its files: they begin with a counter.
_SAVED = "[0-9][0-9][0-9][0-9]*_*.json"
# A saved run with all its samples has a few MB, but a file from a stranger's pull request may have any size.
_LARGEST_BYTES = 200_000_000
_LONGEST_INTEGER = 18
# What pytest-benchmark writes in place of a commit where there is no repository, or git fails.
_NO_COMMITS = (None, "", "unversioned", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What times and scores depend on besides the code: runs of one kind make one history."""

    hardware_class: str
    model: str
    corpus: str

    def __str__(self) -> str:
        return f"{self.hardware_class} | model {self.model[:12]} | corpus {self.corpus[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedRun:
    """One saved file.

    Attributes:
        run: embedopt's record; None for a file that another suite wrote.
        latencies: the records of the latency benchmarks in it.
        time: when it was measured; None for a run that is not saved yet.
        commit: the commit that was measured; empty where it is unknown.
        dirty: whether files differed from that commit.
        medians_s: median time of each benchmark without a :class:`Latency`, by full name.
        cpu: name and core count of the CPU, as pytest-benchmark saw it.
    """

    name: str
    run: Run | None
    benchmarks: frozenset[str]
    latencies: tuple[Latency, ...]
    time: datetime | None = None
    commit: str = ""
    dirty: bool = False
    medians_s: Mapping[str, float] = field(default_factory=dict)
    cpu: str = "unknown CPU"

    @property
    def kind(self) -> Kind:
        """The history it belongs to; without embedopt's record, the CPU alone decides."""
        if self.run is None:
            return Kind(hardware_class=self.cpu, model="unknown", corpus="unknown")
        return Kind(
            hardware_class=self.run.hardware_class,
            model=self.run.model.digest,
            corpus=self.run.corpus.digest,
        )

    def is_same_code(self, other: "SavedRun") -> bool:
        """Return whether both measured one commit; False where it is unknown, or files differed from it."""
        return bool(self.commit) and self.commit == other.commit and not (self.dirty or other.dirty)

    def reference_of(self, backend: str) -> ShardReference:
        """Return the results of the reference on the machine and in the run that measured a backend."""
        run = self.run
        if run is None or backend in run.shard_references:
            return run.shard_references[backend] if run else ShardReference()
        return ShardReference(
            latencies=tuple(latency for latency in self.latencies if latency.backend == run.reference),
            throughput=run.throughput.get(run.reference, Throughput()),
            footprint=run.footprint.get(run.reference, Footprint()),
            load=run.load.get(run.reference, {}).get("none"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Saved runs with their times, the oldest first, and an error for each file that can't be read."""

    runs: tuple[tuple[datetime, SavedRun], ...] = ()
    damaged: tuple[RecordError, ...] = ()

    def before(self, head: SavedRun) -> tuple[SavedRun, ...]:
        """Return the runs of ``head``'s kind that are older, the oldest first."""
        return tuple(
            run
            for time, run in self.runs
            if run.kind == head.kind and (head.time is None or time < head.time)
        )

    def including(self, head: SavedRun) -> "History":
        """Return the history with a run added at its time; unchanged if it has that run under any name."""
        if head.time is None or any(replace(run, name=head.name) == head for _, run in self.runs):
            return self
        return replace(self, runs=tuple(sorted([*self.runs, (head.time, head)], key=_by_time)))

    @property
    def kinds(self) -> Mapping[Kind, tuple[SavedRun, ...]]:
        """The runs of each kind, the oldest first; kinds in the order in which they first appear."""
        by_kind: dict[Kind, list[SavedRun]] = {}
        for _, run in self.runs:
            by_kind.setdefault(run.kind, []).append(run)
        return {kind: tuple(runs) for kind, runs in by_kind.items()}


def read_history(folder: Path) -> History:
    """Read all runs that pytest-benchmark saved in a folder and below; a missing folder has none.

    A run that is in several files counts once.
    """
    by_time: dict[datetime, History] = {}
    damaged: list[RecordError] = []
    for file in sorted(folder.rglob(_SAVED)):
        try:
            time, run = _timed_run(file)
            by_time[time] = by_time.get(time, History()).including(run)
        except RecordError as error:
            damaged.append(error)
    runs = sorted((timed for history in by_time.values() for timed in history.runs), key=_by_time)
    return History(runs=tuple(runs), damaged=tuple(damaged))


def _by_time(timed: tuple[datetime, SavedRun]) -> tuple[datetime, str]:
    return timed[0], timed[1].name


def _timed_run(file: Path) -> tuple[datetime, SavedRun]:
    run = read_run(file)
    if run.time is None:
        raise RecordError(f"{file} has no datetime; wanted a file that pytest-benchmark saved")
    return run.time, run


def read_run(path: Path) -> SavedRun:
    """Read one saved file; errors are those of :func:`read_file`."""
    return read_file(path)[0]


def read_file(path: Path) -> tuple[SavedRun, dict[str, Any]]:
    """Read one saved file; return the run and the whole content of the file.

    Raises:
        RecordError: the file can't be read, is no pytest-benchmark file, or has a record of another schema.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise RecordError(f"{path} has more than {_LARGEST_BYTES:,} bytes; wanted a saved run")
        values = json.loads(path.read_text(encoding="utf8"), parse_int=_integer)
    except OSError as error:
        raise RecordError(f"{path}: {reason_of(error)}; wanted a saved run") from None
    except (ValueError, RecursionError):
        raise RecordError(f"{path} is damaged: it is not JSON; delete it, or run the suite again") from None
    try:
        return parse_run(path.name, values), values
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from None


def run_files(path: Path) -> list[Path]:
    """Return a file as it is; of a folder, all JSON files in it and below."""
    return sorted(path.rglob("*.json")) if path.is_dir() else [path]


def only_run_file(path: Path) -> Path:
    """Return a file as it is; of a folder, the one saved run in it.

    Raises:
        RecordError: the folder holds none, or several.
    """
    files = run_files(path)
    if len(files) != 1:
        raise RecordError(f"{path} has {len(files)} saved runs; wanted one: name the file, or merge them")
    return files[0]


def parse_run(name: str, values: Mapping[str, Any]) -> SavedRun:
    """Read the content of a saved file.

    Raises:
        RecordError: the content is no pytest-benchmark file, or has a record of another schema.
    """
    if not isinstance(values, Mapping) or not isinstance(values.get("benchmarks"), list):
        raise RecordError("it has no list of benchmarks; wanted a file that pytest-benchmark saved")
    if not all(isinstance(bench, Mapping) for bench in values["benchmarks"]):
        raise RecordError(
            "one of its benchmarks is no JSON object; wanted a file that pytest-benchmark saved"
        )
    extras = [bench.get("extra_info") for bench in values["benchmarks"]]
    machine, info = values.get("machine_info"), values.get("commit_info")
    commit = info if isinstance(info, Mapping) else {}
    return SavedRun(
        name=name,
        run=run_from_json(values["embedopt"]) if "embedopt" in values else None,
        benchmarks=frozenset(str(bench.get("fullname")) for bench in values["benchmarks"]),
        latencies=tuple(from_json(Latency, extra) for extra in extras if _is_latency(extra)),
        time=_time(values.get("datetime")),
        commit="" if commit.get("id") in _NO_COMMITS else str(commit["id"]),
        dirty=bool(commit.get("dirty")),
        medians_s=_medians_s(values["benchmarks"]),
        cpu=_cpu(machine) if isinstance(machine, Mapping) else "unknown CPU",
    )


def run_from_json(values: Mapping[str, Any]) -> Run:
    """Read the top-level ``embedopt`` key of a saved file.

    Raises:
        RecordError: the record has another schema, or a field is missing, unknown or of the wrong type.
    """
    schema = values.get("schema") if isinstance(values, Mapping) else None
    if schema != SCHEMA:
        raise RecordError(
            f"record has schema {schema!r}, wanted {SCHEMA}: read it with the embedopt that wrote it"
        )
    return from_json(Run, values)


def _integer(digits: str) -> float:
    """Read an integer; one with too many digits becomes a float, which is refused later if it is infinite."""
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)


def _time(value: object) -> datetime | None:
    """Read a time as pytest-benchmark writes it; without a zone, as before version 5.0, it is UTC."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(str(value))
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # the latter: a zone shifts it before year 1 or after year 9999
        raise RecordError(f"datetime is {value!r}; wanted one like 2026-01-31T12:00:00+00:00") from None


def _medians_s(benchmarks: list[Mapping[str, Any]]) -> dict[str, float]:
    medians = {
        str(bench.get("fullname")): stats.get("median")
        for bench in benchmarks
        if isinstance(stats := bench.get("stats"), Mapping) and not _is_latency(bench.get("extra_info"))
    }
    return {
        name: float(median)
        for name, median in medians.items()
        if isinstance(median, int | float) and 0 < median < math.inf
    }


def _cpu(machine: Mapping[str, Any]) -> str:
    """Return the CPU's name and cores from py-cpuinfo; pytest-benchmark before 3.2 has no mapping for it."""
    info = machine.get("cpu")
    cpu = info if isinstance(info, Mapping) else {}
    name = cpu.get("brand_raw") or cpu.get("brand") or machine.get("processor") or "unknown CPU"
    return f"{name} | {cpu.get('count', 'unknown')} cores"


def _is_latency(extra: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(extra, Mapping) and {"backend", "batch_size", "p50_ms"} <= set(extra)


def differences(base: Run, head: Run) -> tuple[str, ...]:
    """Return the reasons why times and scores of two runs can't be compared; empty if they can."""
    checked = (
        ("hardware class", base.hardware_class, head.hardware_class),
        ("model", base.model.digest, head.model.digest),
        ("corpus", base.corpus.digest, head.corpus.digest),
        ("profile", base.profile, head.profile),
    )
    names = {
        named.digest: f"{named.name} ({named.digest[:12]})"
        for named in (base.model, head.model, base.corpus, head.corpus)
    }
    return tuple(
        f"its {name} is {names.get(old, old)}, this one's is {names.get(new, new)}"
        for name, old, new in checked
        if old != new
    )
