"""The tables of a run that are shown on request: calls by batch size, retrieval, load tests and turns."""

from collections.abc import Sequence

from embedopt.judge.history.saved_runs import SavedRun
from embedopt.judge.standings import Ratio, Standing, standings
from embedopt.judge.summary import LoadRow, Row, load_rows, summary_rows
from embedopt.records import Accuracy, Footprint, LoadPoint, Run, SideBySideCase, Throughput
from embedopt.report.console import Columns, Sheet, number, percent, sheet


def detail_tables(saved: SavedRun, price_per_hour: float) -> list[Sheet]:
    """Return the tables of everything that a run measured, except those that decide."""
    rows, loads = summary_rows(saved, price_per_hour), load_rows(saved, price_per_hour)
    tables = [_calls(rows)] if rows else []
    if saved.run and (saved.run.accuracy or saved.run.footprint):
        tables.append(_scores(saved.run))
    if saved.run and (bulk := [item for item in saved.run.throughput.items() if item[1].bulk_per_s]):
        tables.append(_bulk(bulk))
    if loads:
        tables.append(_load_tests(loads))
    if any(row.curve for row in loads):
        tables.append(_arrival_rates(loads))
    if saved.run:
        tables += [
            _turns(name, case, standings(saved.run, case)) for name, case in saved.run.side_by_side.items()
        ]
    return tables


def promise(rows: Sequence[LoadRow]) -> str:
    """Return the time within which a run's load tests promise an answer, in words."""
    promise_ms = next((row.load_test.promise_ms for row in rows if row.load_test.promise_ms), None)
    return "the promised time" if promise_ms is None else f"{promise_ms:g} ms"


def _calls(rows: Sequence[Row]) -> Sheet:
    columns: Columns[Row] = (
        ("backend", lambda row: row.backend),
        ("batch", lambda row: str(row.latency.batch_size)),
        ("p50 ms", lambda row: number(row.latency.p50_ms, 1)),
        ("p95 ms", lambda row: number(row.latency.p95_ms, 1)),
        ("p99 ms", lambda row: number(row.latency.p99_ms, 1)),
        ("texts/s", lambda row: number(row.texts_per_s, 0)),
        ("speed-up", lambda row: number(row.speed_up, 1)),
        ("$/M texts", lambda row: number(row.dollars_per_million, 3)),
    )
    return sheet("Calls with a whole batch", columns, rows)


def _scores(run: Run) -> Sheet:
    def accuracy(name: str) -> Accuracy:
        return run.accuracy.get(name, Accuracy())

    def footprint(name: str) -> Footprint:
        return run.footprint.get(name, Footprint())

    columns: Columns[str] = (
        ("backend", str),
        ("recall@10", lambda name: number(accuracy(name).recall_at_10, 4)),
        ("top-10\noverlap", lambda name: number(accuracy(name).overlap_at_10, 4)),
        ("1st percentile\nof cosines", lambda name: number(accuracy(name).cosine_p1, 4)),
        ("clipped\nper million", lambda name: number(accuracy(name).clipped_share, 1, 1e6)),
        ("cold\nstart s", lambda name: number(footprint(name).load_s, 2)),
        ("peak\nMB", lambda name: number(footprint(name).peak_rss_bytes, 0, 1e-6)),
        ("Spearman\nx 100", lambda name: number(accuracy(name).spearman, 2)),
        ("over\nreference", lambda name: number(accuracy(name).spearman_distance, 2)),
    )
    has_pairs = any(scores.spearman is not None for scores in run.accuracy.values())
    names = [name for name in run.backends if name in run.accuracy or name in run.footprint]
    prompts = [
        f", {kind} after {prompt!r}"
        for kind, field in (("queries", "query_prompt"), ("texts", "document_prompt"))
        for prompt in sorted({getattr(scores, field) or "" for scores in run.accuracy.values()} - {""})
    ]
    title = f"Retrieval, start and memory{''.join(prompts)}"
    return sheet(title, columns if has_pairs else columns[:-2], names)


def _bulk(rows: Sequence[tuple[str, Throughput]]) -> Sheet:
    columns: Columns[tuple[str, Throughput]] = (
        ("backend", lambda row: row[0]),
        ("texts/s", lambda row: number(row[1].bulk_per_s, 0)),
        ("of it\nencoding", lambda row: percent(row[1].bulk_share)),
        ("peak\nMB", lambda row: number(row[1].bulk_peak_bytes, 0, 1e-6)),
        ("resume s", lambda row: number(row[1].bulk_resume_s, 2)),
    )
    return sheet("Bulk: from Parquet to Parquet", columns, rows)


def _load_tests(rows: Sequence[LoadRow]) -> Sheet:
    columns: Columns[LoadRow] = (
        ("backend", lambda row: row.backend),
        ("batching", lambda row: row.batching),
        ("replicas", lambda row: number(row.load_test.replicas, 0)),
        ("requests/s", lambda row: number(row.load_test.highest_per_s, 0)),
        ("speed-up", lambda row: number(row.speed_up, 1)),
        ("$/M\ntexts", lambda row: number(row.dollars_per_million, 3)),
        ("one by one\ntexts/s", lambda row: number(row.load_test.single_per_s, 0)),
        ("lowest\ncosine", lambda row: number(row.load_test.worst_cosine, 5)),
        ("MB grown in\noverload", lambda row: number(row.load_test.overload_growth_bytes, 1, 1e-6)),
        ("MB grown\nin soak", lambda row: number(row.load_test.soak_growth_bytes, 1, 1e-6)),
    )
    title = f"Under load: the highest requests/s with 99 % answered within {promise(rows)}"
    return sheet(title, columns, rows)


def _arrival_rates(rows: Sequence[LoadRow]) -> Sheet:
    columns: Columns[tuple[LoadRow, LoadPoint]] = (
        ("backend", lambda entry: entry[0].backend),
        ("batching", lambda entry: entry[0].batching),
        ("requests/s", lambda entry: number(entry[1].rate_per_s, 0)),
        ("p50 ms", lambda entry: number(entry[1].p50_ms, 1)),
        ("p95 ms", lambda entry: number(entry[1].p95_ms, 1)),
        ("p99 ms", lambda entry: number(entry[1].p99_ms, 1)),
        ("in time", lambda entry: percent(entry[1].kept_share)),
        ("refused", lambda entry: percent(entry[1].refused_share)),
        ("slowest\nrefusal ms", lambda entry: number(entry[1].refusal_ms, 2)),
        (
            "generator\nCPU",
            lambda entry: "too late" if entry[1].fell_behind else percent(entry[1].generator_cpu),
        ),
        ("sent late\nms (p99)", lambda entry: number(entry[1].late_ms, 2)),
    )
    title = f"Under load: latency at each arrival rate (in time: answered within {promise(rows)})"
    points = [
        (row, point) for row in rows for point in (*row.curve, row.load_test.overload) if point is not None
    ]
    return sheet(title, columns, points)


def _turns(name: str, case: SideBySideCase, ordered: Sequence[Standing]) -> Sheet:
    columns: Columns[Standing] = (
        ("backend", lambda standing: standing.backend),
        ("texts/s", lambda standing: number(standing.texts_per_s, 0)),
        ("speed-up", lambda standing: _median(standing.over_reference, 1)),
        ("(range)", lambda standing: _range(standing.over_reference, 1)),
        (f"{case.default}\nover it", lambda standing: _median(standing.default_over, 2)),
        ("(range)", lambda standing: _range(standing.default_over, 2)),
        ("p50 ms", lambda standing: number(standing.p50_ms, 1)),
        ("p99 ms", lambda standing: number(standing.p99_ms, 1)),
        ("share of\nroofline", lambda standing: percent(standing.roofline_share)),
    )
    rounds = len(next(iter(case.turns.values())).texts_per_s)
    title = (
        f"Side by side on {name} texts: {case.texts} of {case.mean_tokens:.1f} tokens, {rounds} turns each"
    )
    return sheet(title, columns, ordered)


def _median(ratio: Ratio | None, digits: int) -> str:
    return number(ratio.median if ratio else None, digits)


def _range(ratio: Ratio | None, digits: int) -> str:
    return f"({ratio.low:.{digits}f}-{ratio.high:.{digits}f})" if ratio else ""
