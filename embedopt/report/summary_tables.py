"""What a terminal shows of a run: the tables that decide, comparisons, recommendations and searches."""

from collections.abc import Collection, Mapping, Sequence

from rich.console import RenderableType

from embedopt.errors import RecordError
from embedopt.judge.history.saved_runs import SavedRun, differences
from embedopt.judge.recommend import Recommendation
from embedopt.judge.summary import Factors, LoadRow, Row, load_rows, speed_up_factors, summary_rows
from embedopt.records import Run
from embedopt.report.console import Columns, Sheet, lines, number, percent, rendered, sheet, text
from embedopt.report.detail_tables import detail_tables, promise
from embedopt.report.words import describe_kept_results, describe_not_measured, some
from embedopt.schema import Interval
from embedopt.trial import Trial

_MORE = "more tables: pytest -v, or embedopt summary RUN.json --all"


def render_summary(saved: SavedRun, price_per_hour: float, *, everything: bool, color: bool = False) -> str:
    """Return the tables of one run that a choice of a backend rests on, or all tables.

    A run without latencies, such as one of scores only, shows all tables. Texts are priced at
    ``price_per_hour`` dollars for an hour of the machine.
    """
    deciding, details = deciding_tables(saved, price_per_hour), detail_tables(saved, price_per_hour)
    if not deciding and not details:
        return f"{saved.name} holds nothing that this suite measured\n"
    is_short = bool(saved.latencies) and not everything
    parts: list[RenderableType] = []
    for shown in (*deciding, *(() if is_short else details)):
        parts += [shown, ""]
    notes = [
        *describe_kept_results(saved.latencies),
        *(provenance(saved.run, price_per_hour) if saved.run else ()),
        *([_MORE] if is_short else ()),
    ]
    return rendered([*parts, *(text(note, style="dim") for note in notes)], color=color)


def deciding_tables(saved: SavedRun, price_per_hour: float) -> list[Sheet]:
    """Return the tables that a choice of a backend rests on."""
    rows, loads = summary_rows(saved, price_per_hour), load_rows(saved, price_per_hour)
    factors = speed_up_factors(saved)
    return [
        *([_key_results(rows, saved.run.pareto_front if saved.run else ())] if rows else ()),
        *([_speed_up(factors)] if factors else ()),
        *([_highest_rates(loads)] if any(row.load_test.highest_per_s for row in loads) else ()),
    ]


def _key_results(rows: Sequence[Row], front: Collection[str]) -> Sheet:
    smallest = {row.backend: row for row in sorted(rows, key=_batch_size, reverse=True)}
    largest = {row.backend: row for row in sorted(rows, key=_batch_size)}
    columns: Columns[str] = (
        ("backend", lambda name: f"{name}{' *' * (name in front)}"),
        ("p50 ms", lambda name: number(smallest[name].latency.p50_ms, 1)),
        ("p95 ms", lambda name: number(smallest[name].latency.p95_ms, 1)),
        ("p99 ms", lambda name: number(smallest[name].latency.p99_ms, 1)),
        ("texts/s", lambda name: number(largest[name].texts_per_s, 0)),
        ("speed-up", lambda name: number(largest[name].speed_up, 1)),
        ("$/M\ntexts", lambda name: number(largest[name].dollars_per_million, 3)),
        ("MB", lambda name: number(largest[name].footprint.disk_bytes, 1, 1e-6)),
        ("mean\ncosine", lambda name: number(largest[name].accuracy.cosine_mean, 4)),
        ("lowest\ncosine", lambda name: number(largest[name].accuracy.cosine_min, 4)),
        ("in any\nbatch", lambda name: number(largest[name].accuracy.batch_invariance_min, 5)),
    )
    title = f"Key results: latency of a call at batch size {_sizes(smallest)}, texts/s at {_sizes(largest)}"
    return sheet(title, columns, dict.fromkeys(row.backend for row in rows))


def _batch_size(row: Row) -> int:
    return row.latency.batch_size


def _sizes(rows: Mapping[str, Row]) -> str:
    return " or ".join(map(str, sorted({_batch_size(row) for row in rows.values()})))


def _speed_up(factors: Mapping[str, Factors]) -> Sheet:
    columns: Columns[str] = (
        ("backend", str),
        ("speed-up", lambda name: number(factors[name].total, 2)),
        ("runtime", lambda name: number(factors[name].runtime, 2)),
        ("precision", lambda name: number(factors[name].precision, 2)),
        ("batching", lambda name: number(factors[name].batching, 2)),
        ("padding", lambda name: number(factors[name].padding, 2)),
        ("padded in order", lambda name: percent(factors[name].in_order_padding)),
        ("padded by length", lambda name: percent(factors[name].planned_padding)),
    )
    title = "Where the speed comes from: speed-up = runtime x precision x batching x padding"
    return sheet(title, columns, factors)


def _highest_rates(rows: Sequence[LoadRow]) -> Sheet:
    rates = {(row.backend, row.batching): number(row.load_test.highest_per_s, 0) for row in rows}
    batchings = dict.fromkeys(row.batching for row in rows)
    highest = f"the highest requests/s with 99 % answered within {promise(rows)}"
    return Sheet(
        title=f"Under load: {highest}, by way of batching",
        heads=["backend", *batchings],
        rows=[
            [backend, *(rates.get((backend, batching), "-") for batching in batchings)]
            for backend in dict.fromkeys(row.backend for row in rows)
        ],
    )


def provenance(run: Run, price_per_hour: float) -> list[str]:
    """Return lines that say where and on what a run was measured, and what the table heads mean."""
    tokens = f" of {run.corpus.mean_tokens:.1f} tokens" if run.corpus.mean_tokens else ""
    return [
        f"{run.profile} profile on {run.hardware_class}",
        f"model {run.model.name} ({run.model.digest[:12]}), "
        f"corpus {run.corpus.name} ({run.corpus.digest[:12]}): {run.corpus.texts} texts{tokens}",
        f"speed-up: texts/s over {run.reference} one by one; $/M texts: dollars per million texts at "
        f"${price_per_hour:g} an hour",
        "in any batch: lowest cosine between a text encoded alone and the same text among 31 others",
        "*: no other backend is as fast and as near to the reference, and better in one",
        "-: not measured, or too few calls for an interval (a p95 takes 72, a p99 368)",
        *describe_not_measured(run),
    ]


def render_comparisons(
    bases: Sequence[SavedRun | RecordError], head: SavedRun, earlier: Sequence[str], named: str = ""
) -> str:
    """Say of each stored run that pytest-benchmark compares ``head`` with whether the two can be compared.

    In ``bases``, an error stands for a stored run that can't be read. ``named`` is the option with its value
    where that names a run; ``earlier`` are the names of the stored runs.
    """
    if not bases and named and earlier:
        return lines([f"no run that can be read is {named}; wanted one of these: {some(earlier)}"])
    if not bases:
        return (
            "nothing to compare with yet: no earlier run that can be read; this one is saved for the next\n"
        )
    return lines([str(base) if isinstance(base, RecordError) else _comparison(base, head) for base in bases])


def render_recommendation(answer: Recommendation, source: str) -> str:
    """Say what to use, by how much it is the cheapest, and which requirements the others miss.

    ``source`` names the run that the figures are from.
    """
    if chosen := answer.chosen:
        shown = [f"{chosen.backend}: {chosen.texts_per_s:,.0f} texts/s (measured in {source})"]
        shown += [
            f"  {chosen.texts_per_s / other.texts_per_s:.2f}x {other.backend}, which meets them too"
            for other in answer.others
        ]
    else:
        shown = [f"no backend measured in {source} meets all requirements"]
        shown += [f"  without {option}: {', '.join(names)}" for option, names in answer.decisive.items()]
    shown += [
        f"  not {backend}: {', '.join(f'{figure} ({option})' for option, figure in unmet.items())}"
        for backend, unmet in answer.obstacles.items()
    ]
    return lines(shown)


def render_tuning(title: str, trials: Sequence[Trial], *, color: bool = False) -> str:
    """Return the table of a search for settings, and a line for each that the budget was too small for.

    The trials of one setting are adjacent, its default first; the title says what was tuned.
    """
    columns: Columns[Trial] = (
        ("setting", lambda trial: trial.setting if trial.default else ""),
        ("value", lambda trial: str(trial.value) or "none"),
        ("speed-up", lambda trial: number(trial.speed_up, 3)),
        ("95 % interval", lambda trial: _interval(trial.speed_up_ci)),
        ("rounds", lambda trial: str(trial.rounds)),
        ("", lambda trial: "kept" if trial.kept else ""),
    )
    undecided = [trial.setting for trial in trials if trial.default and trial.speed_up is None]
    notes = [
        text(f"{setting}: the budget was too small to decide, so the default stays") for setting in undecided
    ]
    return rendered([sheet(title, columns, trials), *notes], color=color)


def _interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _comparison(base: SavedRun, head: SavedRun) -> str:
    common = len(base.benchmarks & head.benchmarks)
    if not common:
        return f"{base.name} can't be compared with this one: no benchmark is in both"
    shared = f"{common} of {len(head.benchmarks)} benchmarks are in both"
    if base.run is None or head.run is None:
        return f"{base.name} has no embedopt record, so whether it can be compared is unknown; {shared}"
    if reasons := differences(base.run, head.run):
        listed = "".join(f"\n  {reason}" for reason in reasons)
        return f"{base.name} can't be compared with this one, whatever the table above shows:{listed}"
    return f"compared with {base.name}: same hardware class, model, corpus and profile; {shared}"
