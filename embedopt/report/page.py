"""What the page shows: a history as plain values, made here, so that its script only draws."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from embedopt.evidence import cell_name
from embedopt.judge.cost import dollars_per_million
from embedopt.judge.history.saved_runs import History, Kind, SavedRun
from embedopt.judge.history.series import DEFAULT_METRIC, METRICS, Series, describe_metric, series_of
from embedopt.judge.history.trend import changes, levels
from embedopt.judge.summary import load_rows
from embedopt.records import Accuracy, LoadPoint
from embedopt.report.escape import short
from embedopt.report.words import describe_damaged

# Of a number that is drawn; a cosine needs six.
_DIGITS = 7
# Of what is wrong with a file, which begins with the file's path.
_LONGEST_NOTE = 500


def page_data(history: History, price_per_hour: float) -> dict[str, Any]:
    """Return all that the page shows, as JSON values.

    Args:
        history: its runs, of all kinds.
        price_per_hour: of the machine, in dollars.
    """
    kinds = history.kinds
    newest_first = dict.fromkeys(run.kind for _, run in reversed(history.runs))
    return {
        "notes": [short(note, _LONGEST_NOTE) for note in describe_damaged(history.damaged)],
        "default_metric": DEFAULT_METRIC,
        "price_per_hour": price_per_hour,
        "metrics": {name: describe_metric(name) for name in METRICS},
        "kinds": [_kind(kind, kinds[kind], price_per_hour) for kind in newest_first],
    }


def _kind(kind: Kind, runs: Sequence[SavedRun], price_per_hour: float) -> dict[str, Any]:
    index = {id(run): place for place, run in enumerate(runs)}
    series = {metric: [_series(of, index) for of in series_of(runs, metric)] for metric in METRICS}
    backends = dict.fromkeys(backend for run in reversed(runs) if run.run for backend in run.run.backends)
    others = dict.fromkeys(of["backend"] for found in series.values() for of in found)
    return {
        "label": _name(str(kind)),
        "hardware_class": _name(kind.hardware_class),
        "reference": " or ".join(sorted({_name(run.run.reference) for run in runs if run.run})),
        "backends": list(dict.fromkeys(map(_name, backends)) | others),
        "runs": [_run(run, before) for before, run in zip((None, *runs), runs)],  # noqa: B905  # the last has no next
        "series": {metric: found for metric, found in series.items() if found},
        "latest": {
            "latency": _newest(runs, index, _latency),
            "throughput": _newest(runs, index, lambda run: _throughput(run, price_per_hour)),
            "load": _newest(runs, index, lambda run: _load(run, price_per_hour)),
        },
    }


def _run(run: SavedRun, before: SavedRun | None) -> dict[str, Any]:
    environment = _environment(run)
    earlier = _environment(before) if before else environment
    return {
        "name": _name(run.name),
        "time": run.time.isoformat() if run.time else "",
        "commit": _name(run.commit),
        "environment": [_name(f"{name} {value}") for name, value in environment.items()],
        "changed": [
            _name(f"{name} {earlier.get(name, 'none')} -> {environment.get(name, 'none')}")
            for name in {**earlier, **environment}
            if earlier.get(name) != environment.get(name)
        ],
    }


def _environment(run: SavedRun) -> Mapping[str, str]:
    if run.run is None:
        return {}
    machine = run.run.machine
    return {
        "profile": run.run.profile,
        "system": machine.system,
        "Python": machine.python,
        **machine.libraries,
    }


def _series(of: Series, index: Mapping[int, int]) -> dict[str, Any]:
    changed = changes(of)
    backend = _name(of.backend)
    return {
        "name": cell_name(backend, of.batch_size),
        "backend": backend,
        "batch": of.batch_size,
        "is_log": of.is_log,
        "at": [index[id(run)] for run in of.runs],
        "value": [_rounded(value) for value in of.values],
        "changes": [{"at": change.at, "effect": _rounded(change.effect)} for change in changed],
        "levels": [
            {
                "start": level.start,
                "stop": level.stop,
                "low": _rounded(level.low),
                "high": _rounded(level.high),
            }
            for level in levels(of, changed)
        ],
    }


def _newest(
    runs: Sequence[SavedRun], index: Mapping[int, int], rows_of: Callable[[SavedRun], list[dict[str, Any]]]
) -> dict[str, Any]:
    """Return the rows of the newest run that has any."""
    for run in reversed(runs):
        if rows := rows_of(run):
            return {"run": index[id(run)], "rows": rows}
    return {"run": None, "rows": []}


def _latency(run: SavedRun) -> list[dict[str, Any]]:
    return [
        {
            "backend": _name(of.backend),
            "batch": of.batch_size,
            "p50": of.p50_ms,
            "p50_ci": of.p50_ci_ms,
            "p95": of.p95_ms,
            "p95_ci": of.p95_ci_ms,
            "p99": of.p99_ms,
            "p99_ci": of.p99_ci_ms,
            "rate": of.texts_per_s,
        }
        for of in run.latencies
    ]


def _throughput(run: SavedRun, price_per_hour: float) -> list[dict[str, Any]]:
    if run.run is None:
        return []
    return [
        {
            "backend": _name(backend),
            "rate": found.texts_per_s,
            "cost": dollars_per_million(found.texts_per_s, price_per_hour),
            "cosine": run.run.accuracy.get(backend, Accuracy()).cosine_mean,
            "front": backend in run.run.pareto_front,
        }
        for backend, found in run.run.throughput.items()
        if found.texts_per_s
    ]


def _load(run: SavedRun, price_per_hour: float) -> list[dict[str, Any]]:
    return [
        {
            "backend": _name(row.backend),
            "batching": _name(row.batching),
            "promise_ms": row.load.promise_ms,
            "points": [_point(point) for point in row.curve if point.p50_ms is not None],
        }
        for row in load_rows(run, price_per_hour)
    ]


def _point(point: LoadPoint) -> dict[str, Any]:
    percentiles = {"p50": point.p50_ms, "p95": point.p95_ms, "p99": point.p99_ms}
    # The highest one that the run had enough answers for is drawn.
    drawn = max(name for name, value in percentiles.items() if value is not None)
    return {"rate": point.rate_per_s, **percentiles, "drawn": drawn, "kept": point.kept_share}


def _name(text: str) -> str:
    """Return text short enough to show, with a digest where that is not all of it: two stay two."""
    shown = short(text)
    if shown == text:
        return shown
    return f"{shown} {hashlib.sha256(text.encode(errors='backslashreplace')).hexdigest()[:8]}"


def _rounded(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
