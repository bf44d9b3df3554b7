"""The page of a history: one HTML file that opens from disk, without a network.

The file holds all that it shows as data. This module makes that data as plain values, and the page's script
only draws it. The page's policy lets a browser run only its two scripts, by their digests, and fetch nothing.
"""

import base64
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

from embedopt.errors import RecordError
from embedopt.evidence import cell_name
from embedopt.judge.history.saved_runs import History, Kind, SavedRun
from embedopt.judge.history.series import DEFAULT_METRIC, METRICS, Series, describe_metric, series_of
from embedopt.judge.history.trend import changes, levels
from embedopt.judge.newest import newest_answers
from embedopt.judge.recommend import rates
from embedopt.judge.summary import dollars_per_million, load_rows
from embedopt.records import Accuracy, LoadPoint
from embedopt.report.detail_tables import detail_tables
from embedopt.report.escape import short
from embedopt.report.summary_tables import deciding_tables
from embedopt.report.words import describe_damaged, describe_not_measured, describe_older

# Significant digits of a number that is drawn; a cosine needs six.
_DIGITS = 7
# Longest description of a damaged file in characters; it begins with the file's path.
_LONGEST_NOTE = 500


def render_page(history: History, price_per_hour: float) -> str:
    """Return the page of a history as HTML; texts are priced at ``price_per_hour`` dollars an hour.

    Raises:
        RecordError: the history has no run.
    """
    if not history.runs:
        raise RecordError("the history has no run that can be shown: run pytest benchmarks/ first")
    # Importing plotly takes a second; only this file of it is needed.
    plotly = (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf8")
    script = _asset("page.js")
    data = json.dumps(page_data(history, price_per_hour), allow_nan=False, separators=(",", ":"))
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; base-uri 'none'; "
        f"form-action 'none'; script-src {_digest(plotly)} {_digest(script)}"
    )
    return Template(_asset("page.html")).substitute(
        policy=policy,
        style=_asset("page.css"),
        # Without "<", no string in the data can end the element that holds it.
        data=data.replace("<", "\\u003c"),
        plotly=plotly,
        script=script,
    )


def page_data(history: History, price_per_hour: float) -> dict[str, Any]:
    """Return all that the page shows, as JSON values."""
    kinds = history.kinds
    newest_first = dict.fromkeys(run.kind for _, run in reversed(history.runs))
    return {
        "notes": [short(note, _LONGEST_NOTE) for note in _notes(history)],
        "default_metric": DEFAULT_METRIC,
        "price_per_hour": price_per_hour,
        "metrics": {name: describe_metric(name) for name in METRICS},
        "kinds": _rounded([_kind(kind, kinds[kind], price_per_hour) for kind in newest_first]),
    }


def _notes(history: History) -> tuple[str, ...]:
    newest = history.runs[-1][1]
    older = describe_older(newest_answers(newest, history.before(newest)))
    return (*describe_damaged(history.damaged), *describe_not_measured(newest.run), *older)


def _asset(name: str) -> str:
    return (resources.files("embedopt.report") / "assets" / name).read_text(encoding="utf8")


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _kind(kind: Kind, runs: Sequence[SavedRun], price_per_hour: float) -> dict[str, Any]:
    index = {id(run): position for position, run in enumerate(runs)}
    # Where the newest run left something out, its charts show older answers.
    completed = (*runs[:-1], newest_answers(runs[-1], runs[:-1]).run)
    by_metric = {metric: [_series(one, index) for one in series_of(runs, metric)] for metric in METRICS}
    backends = dict.fromkeys(backend for run in reversed(runs) if run.run for backend in run.run.backends)
    others = dict.fromkeys(one["backend"] for series in by_metric.values() for one in series)
    return {
        "label": _name(str(kind)),
        "hardware_class": _name(kind.hardware_class),
        "reference": " or ".join(sorted({_name(run.run.reference) for run in runs if run.run})),
        "backends": list(dict.fromkeys(map(_name, backends)) | others),
        "runs": [_run(run, before) for before, run in zip((None, *runs), runs, strict=False)],
        "series": {metric: series for metric, series in by_metric.items() if series},
        "latest": {
            "latency": _newest(completed, _latency),
            "throughput": _newest(completed, lambda run: _throughput(run, price_per_hour)),
            "load": _newest(completed, lambda run: _load_tests(run, price_per_hour)),
            "tables": _newest(completed, lambda run: _tables(run, price_per_hour)),
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


def _series(series: Series, index: Mapping[int, int]) -> dict[str, Any]:
    changed = changes(series)
    backend = _name(series.backend)
    return {
        "name": cell_name(backend, series.batch_size),
        "backend": backend,
        "batch": series.batch_size,
        "is_log": series.is_log,
        "at": [index[id(run)] for run in series.runs],
        "value": list(series.values),
        "changes": [dataclasses.asdict(change) for change in changed],
        "levels": [dataclasses.asdict(level) for level in levels(series, changed)],
    }


def _newest(runs: Sequence[SavedRun], rows_of: Callable[[SavedRun], list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the rows of the newest run that has any."""
    for position, run in reversed(list(enumerate(runs))):
        if rows := rows_of(run):
            return {"run": position, "rows": rows}
    return {"run": None, "rows": []}


def _latency(run: SavedRun) -> list[dict[str, Any]]:
    return [
        {
            "backend": _name(latency.backend),
            "batch": latency.batch_size,
            "p50": latency.p50_ms,
            "p50_ci": latency.p50_ci_ms,
            "p95": latency.p95_ms,
            "p95_ci": latency.p95_ci_ms,
            "p99": latency.p99_ms,
            "p99_ci": latency.p99_ci_ms,
            "rate": latency.texts_per_s,
        }
        for latency in run.latencies
    ]


def _throughput(run: SavedRun, price_per_hour: float) -> list[dict[str, Any]]:
    if run.run is None:
        return []
    return [
        {
            "backend": _name(backend),
            "rate": rate,
            "cost": dollars_per_million(rate, price_per_hour),
            "cosine": run.run.accuracy.get(backend, Accuracy()).cosine_mean,
            "front": backend in run.run.pareto_front,
        }
        for backend, rate in rates(run.run).items()
    ]


def _load_tests(run: SavedRun, price_per_hour: float) -> list[dict[str, Any]]:
    return [
        {
            "backend": _name(row.backend),
            "batching": _name(row.batching),
            "promise_ms": row.load_test.promise_ms,
            "points": [_point(point) for point in row.curve if point.p50_ms is not None],
        }
        for row in load_rows(run, price_per_hour)
    ]


def _tables(run: SavedRun, price_per_hour: float) -> list[dict[str, Any]]:
    """Return the tables that the terminal shows of a run."""
    tables = (*deciding_tables(run, price_per_hour), *detail_tables(run, price_per_hour))
    return [
        {
            "title": _name(shown.title),
            "heads": [_name(" ".join(head.split())) for head in shown.heads],
            "rows": [[_name(cell) for cell in row] for row in shown.rows],
        }
        for shown in tables
    ]


def _point(point: LoadPoint) -> dict[str, Any]:
    percentiles = {"p50": point.p50_ms, "p95": point.p95_ms, "p99": point.p99_ms}
    # The highest percentile that has enough answers is drawn.
    drawn = max(name for name, value in percentiles.items() if value is not None)
    return {"rate": point.rate_per_s, **percentiles, "drawn": drawn, "kept": point.kept_share}


def _name(text: str) -> str:
    """Return text short enough to show; shortened text ends with a digest, so that no two become the same."""
    shown = short(text)
    if shown == text:
        return shown
    return f"{shown} {hashlib.sha256(text.encode(errors='backslashreplace')).hexdigest()[:8]}"


def _rounded(values: Any) -> Any:
    """Return JSON values with floats rounded to the digits that are drawn; one that is not finite is null."""
    if isinstance(values, dict):
        return {name: _rounded(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_rounded(value) for value in values]
    if not isinstance(values, float):
        return values
    return float(f"{values:.{_DIGITS}g}") if math.isfinite(values) else None
