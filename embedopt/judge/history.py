"""Reads saved pytest-benchmark files: the one way in for every table, gate and page."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from embedopt.errors import RecordError
from embedopt.records import Latency, Run, from_json, run_from_json


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedRun:
    """One saved file.

    Attributes:
        name: the file's name.
        run: our record; None for a file that another suite wrote.
        benchmarks: the full names of all benchmarks in it.
        latencies: of the latency benchmarks in it.
    """

    name: str
    run: Run | None
    benchmarks: frozenset[str]
    latencies: tuple[Latency, ...]


def read_run(path: Path) -> SavedRun:
    """Read one saved file.

    Raises:
        RecordError: it can't be read, is no pytest-benchmark file, or holds a record of another schema.
    """
    try:
        values = json.loads(path.read_text(encoding="utf8"))
    except OSError as error:
        raise RecordError(
            f"{path}: {(error.strerror or 'it is unreadable').lower()}; wanted a saved run"
        ) from None
    except ValueError:
        raise RecordError(f"{path} is damaged: it is not JSON; delete it, or run the suite again") from None
    try:
        return parse_run(path.name, values)
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from None


def newest_run(folder: Path) -> SavedRun:
    """Read the run that ``--benchmark-compare`` takes by itself: the last by file name, then by folder.

    Raises:
        RecordError: there is none, or it can't be read.
    """
    files = sorted(folder.rglob("[0-9][0-9][0-9][0-9]_*.json"), key=lambda file: (file.name, file.parent))
    if not files:
        raise RecordError(f"{folder} has no saved run: run pytest benchmarks/ first, or name a file")
    return read_run(files[-1])


def parse_run(name: str, values: Mapping[str, Any]) -> SavedRun:
    """Read the content of a saved file.

    Raises:
        RecordError: it is no pytest-benchmark file, or holds a record of another schema.
    """
    if not isinstance(values, Mapping) or not isinstance(values.get("benchmarks"), list):
        raise RecordError("no list of benchmarks in it; wanted a file that pytest-benchmark saved")
    if not all(isinstance(bench, Mapping) for bench in values["benchmarks"]):
        raise RecordError("a benchmark in it is no object; wanted a file that pytest-benchmark saved")
    extras = [bench.get("extra_info") for bench in values["benchmarks"]]
    return SavedRun(
        name=name,
        run=run_from_json(values["embedopt"]) if "embedopt" in values else None,
        benchmarks=frozenset(str(bench.get("fullname")) for bench in values["benchmarks"]),
        latencies=tuple(from_json(Latency, extra) for extra in extras if _is_latency(extra)),
    )


def _is_latency(extra: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(extra, Mapping) and {"backend", "batch_size", "p50_ms"} <= set(extra)


def differences(base: Run, head: Run) -> tuple[str, ...]:
    """Say in words why the times and scores of two runs can't be compared; empty when they can."""
    checked = (
        ("hardware class", base.hardware_class, head.hardware_class),
        ("model", base.model.digest, head.model.digest),
        ("corpus", base.corpus.digest, head.corpus.digest),
        ("profile", base.profile, head.profile),
    )
    names = {
        digest: f"{named.name} ({digest[:12]})"
        for named in (base.model, head.model, base.corpus, head.corpus)
        for digest in [named.digest]
    }
    return tuple(
        f"its {what} is {names.get(old, old)}, this one's is {names.get(new, new)}"
        for what, old, new in checked
        if old != new
    )
