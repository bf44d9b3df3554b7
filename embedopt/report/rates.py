"""Tables of speed: backends that took turns, and what a server keeps under load."""

from collections.abc import Sequence

from rich.table import Table

from embedopt.judge.standings import Ratio, Standing
from embedopt.judge.summary import LoadRow
from embedopt.records import LoadPoint, SideBySideCase
from embedopt.report.console import number, percent, table, text


def side_by_side(name: str, case: SideBySideCase, standings: Sequence[Standing]) -> Table:
    """Return the table of backends that took turns."""
    rounds = len(next(iter(case.turns.values())).texts_per_s)
    shown = table(
        f"Side by side on {name} texts: {case.texts} of {case.mean_tokens:.1f} tokens, {rounds} turns each",
        "backend", "texts/s", "x", "(range)", f"{case.default} is x", "(range)", "p50", "p99", "of roof",
    )  # fmt: skip
    for standing in standings:
        shown.add_row(
            text(standing.backend),
            number(standing.texts_per_s, 0),
            *_ratio(standing.over_reference, 1),
            *_ratio(standing.default_over, 2),
            number(standing.p50_ms, 1),
            number(standing.p99_ms, 1),
            percent(standing.roofline_share),
        )
    return shown


def _ratio(ratio: Ratio | None, digits: int) -> tuple[str, str]:
    if ratio is None:
        return "-", ""
    return f"{ratio.median:.{digits}f}", f"({ratio.low:.{digits}f}-{ratio.high:.{digits}f})"


def highest_rates(rows: Sequence[LoadRow]) -> Table:
    """Return the table of the highest rate that each way of batching keeps."""
    promise_ms = next((row.load.promise_ms for row in rows if row.load.promise_ms), None)
    within = "the promise" if promise_ms is None else f"{promise_ms:g} ms"
    shown = table(
        f"Under load: the highest rate with 99 % answered within {within}",
        "backend", "batching", "replicas", "texts/s", "x", "$/M", "one by one",
        "worst cosine", "3x MB", "soak MB",
    )  # fmt: skip
    for row in rows:
        shown.add_row(
            text(row.backend),
            text(row.batching),
            number(row.load.replicas, 0),
            number(row.load.highest_per_s, 0),
            number(row.speed_up, 1),
            number(row.dollars_per_million, 3),
            number(row.load.single_per_s, 0),
            number(row.load.worst_cosine, 5),
            number(row.load.overload_growth_bytes, 1, 1e-6),
            number(row.load.soak_growth_bytes, 1, 1e-6),
        )
    return shown


def curves(rows: Sequence[LoadRow]) -> Table:
    """Return the table of latency over arrival rate."""
    shown = table(
        "Latency in ms over arrival rate (kept: of all requests, within the promise)",
        "backend", "batching", "rate/s", "p50", "p95", "p99", "kept", "refused", "slowest refusal", "sender",
    )  # fmt: skip
    for row in rows:
        overload = (row.load.overload,) if row.load.overload else ()
        for place, point in enumerate((*row.curve, *overload)):
            names = (row.backend, row.batching) if place == 0 else ("", "")
            shown.add_row(*map(text, names), *_curve_cells(point))
    return shown


def _curve_cells(point: LoadPoint) -> list[str]:
    return [
        number(point.rate_per_s, 0),
        number(point.p50_ms, 1),
        number(point.p95_ms, 1),
        number(point.p99_ms, 1),
        percent(point.kept_share),
        percent(point.refused_share),
        number(point.refusal_ms, 2),
        "late" if point.fell_behind else percent(point.generator_cpu),
    ]
