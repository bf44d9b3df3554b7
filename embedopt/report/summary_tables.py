"""Tables for a terminal: at most 100 columns, and plain where it is none."""

from collections.abc import Collection, Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table

from embedopt.errors import RecordError
from embedopt.judge.history.saved_runs import SavedRun, differences
from embedopt.judge.recommend import Recommendation
from embedopt.judge.standings import standings
from embedopt.judge.summary import Factors, Row, load_rows, speed_up_factors, summary_rows
from embedopt.records import Accuracy, Footprint, Run
from embedopt.report.console import lines, number, percent, rendered, table, text
from embedopt.report.rates import curves, highest_rates, side_by_side
from embedopt.trial import Trial


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
    if loads:
        parts += [highest_rates(loads), ""]
    if any(row.curve for row in loads):
        parts += [curves(loads), ""]
    for name, case in cases.items():
        assert run is not None
        parts += [side_by_side(name, case, standings(run, case)), ""]
    if run:
        parts += [text(_provenance(run), style="dim")]
    return rendered(parts, color=color)


def render_comparisons(bases: Sequence[SavedRun | RecordError], head: SavedRun) -> str:
    """Say of each stored run that pytest-benchmark was asked to compare with whether it can be compared."""
    if not bases:
        return (
            "nothing to compare with yet: no earlier run that can be read; this one is saved for the next\n"
        )
    return lines([str(base) if isinstance(base, RecordError) else _comparison(base, head) for base in bases])


def render_recommendation(answer: Recommendation, source: str) -> str:
    """Say what to use, by how much it is the cheapest, and what stands in the others' way.

    Args:
        answer: to the user's requirements.
        source: the run that the figures are from.
    """
    told = []
    if answer.chosen is not None:
        told += [f"{answer.chosen.backend}: {answer.chosen.texts_per_s:,.0f} texts/s (measured in {source})"]
        told += [
            f"  {answer.chosen.texts_per_s / other.texts_per_s:.2f}x {other.backend}, which would do too"
            for other in answer.others
        ]
    else:
        told += [f"no backend measured in {source} meets all that is asked"]
        told += [f"  without {option}: {', '.join(names)}" for option, names in answer.decisive.items()]
    told += [
        f"  not {backend}: {', '.join(f'{why} ({option})' for option, why in unmet.items())}"
        for backend, unmet in answer.obstacles.items()
    ]
    return lines(told)


def render_tuning(title: str, trials: Sequence[Trial], *, color: bool = False) -> str:
    """Return the table of a search for settings, and name the settings that there was no time for.

    Args:
        title: what was tuned, for what.
        trials: those of one setting follow each other, its default first.
        color: whether to use the terminal's colours.
    """
    shown = table(title, "setting", "value", "x default", "95 % interval", "rounds", "")
    for trial in trials:
        shown.add_row(
            text(trial.setting if trial.default else ""),
            text(str(trial.value) or "none"),
            number(trial.speed_up, 3),
            "-" if trial.speed_up_ci is None else "{:.3f} to {:.3f}".format(*trial.speed_up_ci),
            str(trial.rounds),
            "kept" if trial.kept else "",
        )
    untold = [trial for trial in trials if trial.default and trial.speed_up is None]
    notes = [
        text(f"{trial.setting}: the budget was too small for it, so the default stays") for trial in untold
    ]
    return rendered([shown, *notes], color=color)


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


def _key_results(rows: Sequence[Row], front: Collection[str]) -> Table:
    shown = table(
        "Key results (times in ms, of one call with a whole batch)",
        "backend", "batch", "p50", "p95", "p99", "texts/s", "x", "MB", "cosine", "min", "invar.", "$/M",
    )  # fmt: skip
    previous = None
    for row in rows:
        first = row.backend != previous
        once = [
            number(row.footprint.disk_bytes, 1, 1e-6),
            number(row.accuracy.cosine_mean, 4),
            number(row.accuracy.cosine_min, 4),
            number(row.accuracy.batch_invariance_min, 5),
        ]
        shown.add_row(
            text(f"{row.backend}{' *' * (row.backend in front)}" if first else ""),
            str(row.latency.batch_size),
            number(row.latency.p50_ms, 1),
            number(row.latency.p95_ms, 1),
            number(row.latency.p99_ms, 1),
            number(row.texts_per_s, 0),
            number(row.speed_up, 1),
            *(once if first else [""] * len(once)),
            number(row.dollars_per_million, 3),
        )
        previous = row.backend
    return shown


def _speed_up(factors: Mapping[str, Factors]) -> Table:
    shown = table(
        "Where the speed comes from: x = runtime x precision x batching x padding",
        "backend", "x", "runtime", "precision", "batching", "padding", "padded in order", "planned",
    )  # fmt: skip
    for name, split in factors.items():
        shown.add_row(
            text(name),
            *(
                number(value, 2)
                for value in (split.total, split.runtime, split.precision, split.batching, split.padding)
            ),
            percent(split.in_order_padding),
            percent(split.planned_padding),
        )
    return shown


def _scores(run: Run, names: Sequence[str]) -> Table:
    paired = any(found.spearman is not None for found in run.accuracy.values())
    columns = ("Spearman x 100", "to reference") if paired else ()
    shown = table(
        "What a search finds, and what it takes to start",
        "backend", "recall@10", "top-10 overlap", "cosine p1", "load s", "peak MB", *columns,
    )  # fmt: skip
    for name in names:
        found, weight = run.accuracy.get(name, Accuracy()), run.footprint.get(name, Footprint())
        spearman = [number(found.spearman, 2), number(found.spearman_distance, 2)] if paired else []
        shown.add_row(
            text(name),
            number(found.recall_at_10, 4),
            number(found.overlap_at_10, 4),
            number(found.cosine_p1, 4),
            number(weight.load_s, 2),
            number(weight.peak_rss_bytes, 0, 1e-6),
            *spearman,
        )
    return shown


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
