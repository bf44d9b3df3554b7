"""Tables for a terminal: at most 100 columns, and plain where it is none."""

import io
from collections.abc import Collection, Mapping, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from embedopt.errors import RecordError
from embedopt.judge.history import SavedRun, differences
from embedopt.judge.recommend import Recommendation
from embedopt.judge.side_by_side import Ratio, Standing, standings
from embedopt.judge.summary import Factors, LoadRow, Row, load_rows, speed_up_factors, summary_rows
from embedopt.records import Accuracy, Footprint, LoadPoint, Run, SideBySide, Trial

WIDTH = 100


def render_summary(saved: SavedRun, price_per_hour: float, *, color: bool = False) -> str:
    """Return the tables of one run: what to choose, and where the speed comes from.

    Args:
        saved: the run.
        price_per_hour: of the machine, in dollars.
        color: whether to use the terminal's colours.
    """
    rows = summary_rows(saved, price_per_hour)
    run = saved.run
    scored = sorted({*run.accuracy, *run.footprint}, key=list(run.backends).index) if run else []
    cases = run.side_by_side if run else {}
    loads = load_rows(saved, price_per_hour)
    if not rows and not scored and not cases and not loads:
        return f"{saved.name}: nothing that this suite measured in it\n"
    parts: list[RenderableType] = []
    if rows:
        parts += [_key_results(rows, run.pareto_front if run else ()), ""]
    if factors := speed_up_factors(saved):
        parts += [_speed_up(factors), ""]
    if run and scored:
        parts += [_scores(run, scored), ""]
    if any(row.load.points for row in loads):
        parts += [_highest_rates(loads), "", _curves(loads), ""]
    for name, case in cases.items():
        assert run is not None
        parts += [_side_by_side(name, case, standings(run, case)), ""]
    if run:
        parts += [Text(_provenance(run), style="dim")]
    return _rendered(parts, color=color)


def render_comparisons(bases: Sequence[SavedRun | RecordError], head: SavedRun) -> str:
    """Say of each stored run that pytest-benchmark was asked to compare with whether it can be compared."""
    if not bases:
        return (
            "nothing to compare with yet: no earlier run that can be read; this one is saved for the next\n"
        )
    return "".join(
        f"{base if isinstance(base, RecordError) else _comparison(base, head)}\n" for base in bases
    )


def render_recommendation(answer: Recommendation, source: str) -> str:
    """Say what to use, by how much it is the cheapest, and what stands in the others' way.

    Args:
        answer: to the user's wishes.
        source: the run that the figures are from.
    """
    lines = []
    if answer.chosen is not None:
        lines += [f"{answer.chosen.backend}: {answer.chosen.texts_per_s:,.0f} texts/s (measured in {source})"]
        lines += [
            f"  {answer.chosen.texts_per_s / other.texts_per_s:.2f}x {other.backend}, which would do too"
            for other in answer.others
        ]
    else:
        lines += [f"no backend measured in {source} meets all that is asked"]
        lines += [f"  without {option}: {', '.join(names)}" for option, names in answer.decisive.items()]
    lines += [
        f"  not {backend}: {', '.join(f'{why} ({option})' for option, why in unmet.items())}"
        for backend, unmet in answer.obstacles.items()
    ]
    return "\n".join(lines) + "\n"


def render_tuning(title: str, trials: Sequence[Trial], *, color: bool = False) -> str:
    """Return the table of a search for settings, and name the settings that there was no time for.

    Args:
        title: what was tuned, for what.
        trials: those of one setting follow each other, its default first.
        color: whether to use the terminal's colours.
    """
    table = _table(title, "setting", "value", "x default", "95 % interval", "rounds", "")
    for trial in trials:
        table.add_row(
            Text(trial.setting if trial.default else ""),
            Text(str(trial.value) or "none"),
            _number(trial.speed_up, 3),
            "-" if trial.speed_up_ci is None else "{:.3f} to {:.3f}".format(*trial.speed_up_ci),
            str(trial.rounds),
            "kept" if trial.kept else "",
        )
    untold = [trial for trial in trials if trial.default and trial.speed_up is None]
    notes = [
        Text(f"{trial.setting}: the budget was too small for it, so the default stays") for trial in untold
    ]
    return _rendered([table, *notes], color=color)


def _comparison(base: SavedRun, head: SavedRun) -> str:
    common = len(base.benchmarks & head.benchmarks)
    if not common:
        return f"{base.name} can't be compared with this one: no benchmark is in both"
    shared = f"{common} of {len(head.benchmarks)} benchmarks are in both"
    if base.run is None or head.run is None:
        return f"{base.name} has no embedopt record: whether it can be compared is not known; {shared}"
    if found := differences(base.run, head.run):
        why = "".join(f"\n  {difference}" for difference in found)
        return f"{base.name} can't be compared with this one, whatever the table above shows:{why}"
    return f"compared with {base.name}: same hardware class, model, corpus and profile; {shared}"


def _rendered(parts: Sequence[RenderableType], *, color: bool) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=WIDTH,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
    )
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False, title_style="bold"
    )
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _key_results(rows: Sequence[Row], front: Collection[str]) -> Table:
    table = _table(
        "Key results (times in ms, of one call with a whole batch)",
        "backend", "batch", "p50", "p95", "p99", "texts/s", "x", "MB", "cosine", "min", "invar.", "$/M",
    )  # fmt: skip
    previous = None
    for row in rows:
        first = row.backend != previous
        once = [
            _number(row.footprint.disk_bytes, 1, 1e-6),
            _number(row.accuracy.cosine_mean, 4),
            _number(row.accuracy.cosine_min, 4),
            _number(row.accuracy.batch_invariance_min, 5),
        ]
        table.add_row(
            Text(f"{row.backend}{' *' * (row.backend in front)}" if first else ""),
            str(row.latency.batch_size),
            _number(row.latency.p50_ms, 1),
            _number(row.latency.p95_ms, 1),
            _number(row.latency.p99_ms, 1),
            _number(row.texts_per_s, 0),
            _number(row.speed_up, 1),
            *(once if first else [""] * len(once)),
            _number(row.dollars_per_million, 3),
        )
        previous = row.backend
    return table


def _speed_up(factors: Mapping[str, Factors]) -> Table:
    table = _table(
        "Where the speed comes from: x = runtime x precision x batching x padding",
        "backend", "x", "runtime", "precision", "batching", "padding", "padded in order", "planned",
    )  # fmt: skip
    for name, split in factors.items():
        table.add_row(
            Text(name),
            *(
                _number(value, 2)
                for value in (split.total, split.runtime, split.precision, split.batching, split.padding)
            ),
            _percent(split.in_order_padding),
            _percent(split.planned_padding),
        )
    return table


def _scores(run: Run, names: Sequence[str]) -> Table:
    paired = any(found.spearman is not None for found in run.accuracy.values())
    columns = ("Spearman x 100", "to reference") if paired else ()
    table = _table(
        "What a search finds, and what it takes to start",
        "backend", "recall@10", "top-10 overlap", "cosine p1", "load s", "peak MB", *columns,
    )  # fmt: skip
    for name in names:
        found, weight = run.accuracy.get(name, Accuracy()), run.footprint.get(name, Footprint())
        spearman = [_number(found.spearman, 2), _number(found.spearman_distance, 2)] if paired else []
        table.add_row(
            Text(name),
            _number(found.recall_at_10, 4),
            _number(found.overlap_at_10, 4),
            _number(found.cosine_p1, 4),
            _number(weight.load_s, 2),
            _number(weight.peak_rss_bytes, 0, 1e-6),
            *spearman,
        )
    return table


def _side_by_side(name: str, case: SideBySide, standings: Sequence[Standing]) -> Table:
    rounds = len(next(iter(case.turns.values())).texts_per_s)
    table = _table(
        f"Side by side on {name} texts: {case.texts} of {case.mean_tokens:.1f} tokens, {rounds} turns each",
        "backend", "texts/s", "x", "(range)", f"{case.default} is x", "(range)", "p50", "p99", "of roof",
    )  # fmt: skip
    for standing in standings:
        table.add_row(
            Text(standing.backend),
            _number(standing.texts_per_s, 0),
            *_ratio(standing.over_reference, 1),
            *_ratio(standing.default_over, 2),
            _number(standing.p50_ms, 1),
            _number(standing.p99_ms, 1),
            _percent(standing.roofline_share),
        )
    return table


def _ratio(ratio: Ratio | None, digits: int) -> tuple[str, str]:
    if ratio is None:
        return "-", ""
    return f"{ratio.median:.{digits}f}", f"({ratio.low:.{digits}f}-{ratio.high:.{digits}f})"


def _highest_rates(rows: Sequence[LoadRow]) -> Table:
    promise_ms = next(row.load.promise_ms for row in rows if row.load.promise_ms)
    table = _table(
        f"Under load: the highest rate with 99 % answered within {promise_ms:g} ms",
        "backend", "batching", "replicas", "texts/s", "x", "$/M", "one by one", "worst cosine", "soak MB",
    )  # fmt: skip
    for row in rows:
        table.add_row(
            Text(row.backend),
            Text(row.batching),
            _number(row.load.replicas, 0),
            _number(row.load.highest_per_s, 0),
            _number(row.speed_up, 1),
            _number(row.dollars_per_million, 3),
            _number(row.load.single_per_s, 0),
            _number(row.load.worst_cosine, 5),
            _number(row.load.soak_growth_bytes, 1, 1e-6),
        )
    return table


def _curves(rows: Sequence[LoadRow]) -> Table:
    table = _table(
        "Latency in ms over arrival rate (kept: of all requests, within the promise)",
        "backend", "batching", "rate/s", "p50", "p95", "p99", "kept", "refused", "slowest refusal", "sender",
    )  # fmt: skip
    for row in rows:
        overload = (row.load.overload,) if row.load.overload else ()
        for place, point in enumerate((*row.curve, *overload)):
            names = (row.backend, row.batching) if place == 0 else ("", "")
            table.add_row(*map(Text, names), *_curve_cells(point))
    return table


def _curve_cells(point: LoadPoint) -> list[str]:
    return [
        _number(point.rate_per_s, 0),
        _number(point.p50_ms, 1),
        _number(point.p95_ms, 1),
        _number(point.p99_ms, 1),
        _percent(point.kept_share),
        _percent(point.refused_share),
        _number(point.refusal_ms, 2),
        "late" if point.fell_behind else _percent(point.generator_cpu),
    ]


def _provenance(run: Run) -> str:
    tokens = f", {run.corpus.mean_tokens:.1f} tokens on average" if run.corpus.mean_tokens else ""
    return (
        f"{run.profile} profile on {run.hardware_class}\n"
        f"model {run.model.name} ({run.model.digest[:12]})\n"
        f"corpus {run.corpus.name} ({run.corpus.digest[:12]}): {run.corpus.texts} texts{tokens}\n"
        f"x: texts/s over {run.reference} one by one     $/M: dollars per million texts\n"
        "invar.: worst cosine of a text encoded alone to itself among 31 others\n"
        "*: no other backend is as fast and as near to the reference, and better in one\n"
        "-: not measured, or too few calls for an interval (a p95 takes 72, a p99 368)"
    )


def _number(value: float | None, digits: int, scale: float = 1.0) -> str:
    return "-" if value is None else f"{value * scale:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
