"""``embedopt calibrate``: false alarm rate and power of the gate on this machine."""

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import rich.console
import rich.progress
import typer

from embedopt.cli.encode import CacheOption
from embedopt.cli.judge import gate_settings
from embedopt.evidence import SlowdownSamples
from embedopt.files import write_whole
from embedopt.inference.backends import BACKENDS, select_backends, split_names
from embedopt.inference.hardware import usable_cores
from embedopt.inference.targets import project_folder
from embedopt.judge.gate.drawn_runs import Drawing, simulated
from embedopt.judge.gate.error_rates import error_rates
from embedopt.judge.gate.pair_variance import pair_variances
from embedopt.judge.gate.stats import fewest_pairs
from embedopt.measure.command_line import parse_batch_sizes
from embedopt.measure.corpus import load_corpus
from embedopt.measure.machine import this_machine
from embedopt.measure.options import AGAINST_BACKENDS, AGAINST_BATCH_SIZES
from embedopt.measure.pairs.known_slowdowns import SLOWDOWNS, SamplingPlan, collect_samples, read_samples
from embedopt.measure.pairs.process_pair import Work, cells_of
from embedopt.measure.pairs.project import holds_embedopt
from embedopt.measure.pairs.worker_client import Checkout, WorkerClient
from embedopt.measure.profiles import PROFILES
from embedopt.report.verdict_tables import render_error_rates, render_pair_variances
from embedopt.sampling import BUDGET_S
from embedopt.schema import to_json

_ROOT = Path(__file__).parents[2]


def calibrate(
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file to write the samples to.")] = Path(
        "calibration.json"
    ),
    resume: Annotated[
        Path | None, typer.Option(help="Samples to continue with; new ones go there, too.", metavar="FILE")
    ] = None,
    budget: Annotated[float, typer.Option(min=0, help="Seconds to collect samples for.")] = 7200.0,
    pairs: Annotated[int, typer.Option(min=1, help="Process pairs of each backend.")] = 60,
    backends: Annotated[str, typer.Option(help=f"all, or some of {', '.join(BACKENDS)}.")] = AGAINST_BACKENDS,
    batch_sizes: Annotated[
        str, typer.Option(help="Numbers of texts in a call, separated by commas.")
    ] = AGAINST_BATCH_SIZES,
    against_budget: Annotated[
        float, typer.Option(min=1, help="Seconds of each gate run that is drawn from the pairs.")
    ] = BUDGET_S,
    cache_dir: CacheOption = None,
) -> None:
    """Estimate how often the gate is wrong: collect process pairs with known slow-downs and judge them.

    The samples are saved after each pair. --resume continues a run that was stopped, on this machine or
    another; the samples of each hardware class have rates of their own. With --budget 0, nothing is
    collected, and the samples of --resume are judged. In a repository with targets, those are measured, with
    the texts of its benchmarks/corpus if there are any, and judged by the repository's rules.
    """
    project = project_folder()
    corpora = [folder / "benchmarks" / "corpus" for folder in (project, _ROOT)]
    names = [row.name for row in select_backends(split_names(backends))]
    plan = SamplingPlan(
        cells=cells_of(names, parse_batch_sizes(batch_sizes, "full")),
        work=Work(
            texts=load_corpus(next(filter(Path.is_dir, corpora), corpora[0])).mixed_texts,
            cache_dir=str(cache_dir) if cache_dir else None,
        ),
        invariance=PROFILES["full"].invariance,
        pairs=pairs,
        budget_s=budget,
    )
    by_class = {samples.hardware_class: samples for samples in (read_samples(resume) if resume else ())}
    collected = _collect(project, plan, by_class, resume or output).values()
    for samples in [samples for samples in collected if samples.samples] or collected:
        # The variances come first, since drawing runs takes minutes.
        variances, color = pair_variances(samples), sys.stdout.isatty()
        typer.echo(render_pair_variances(samples.hardware_class, variances, color=color), nl=False)
        typer.echo(_report(samples, Drawing(budget_s=against_budget)), nl=False)


def _report(samples: SlowdownSamples, drawing: Drawing) -> str:
    # Imported here: every command imports this file.
    from loky import ProcessPoolExecutor

    settings, console = gate_settings(), rich.console.Console(stderr=True)
    executor = ProcessPoolExecutor(usable_cores())
    try:
        with console.status("drawing gate runs") as spinner:
            # Without a terminal a spinner shows nothing, so each step is printed as a line.
            on_step = spinner.update if console.is_terminal else console.print
            rates = error_rates(samples, settings, drawing, on_step, executor)
            on_step("drawing simulated runs")
            without_others = dataclasses.replace(drawing, other_tool_runs=0)
            normal = simulated(samples, SLOWDOWNS, fewest_pairs(settings.level))
            simulated_rates = error_rates(normal, settings, without_others, on_step, executor)
    finally:
        executor.shutdown(kill_workers=True)  # a run that is ended must not wait for minutes of drawing
    return render_error_rates(samples.hardware_class, rates, simulated_rates, color=sys.stdout.isatty())


def _collect(
    project: Path, plan: SamplingPlan, by_class: Mapping[str, SlowdownSamples], output: Path
) -> Mapping[str, SlowdownSamples]:
    """Return the samples of each hardware class, with those of this machine that are collected now."""
    checkout = Checkout(
        name="worker", root=project, python=sys.executable, installed=not holds_embedopt(project)
    )
    machine = this_machine().hardware_class
    empty = SlowdownSamples(hardware_class=machine, samples=(), seconds=0.0, survey_s=0.0)
    earlier = by_class.get(machine, empty)
    progress = rich.progress.Progress(
        *rich.progress.Progress.get_default_columns(),
        rich.progress.MofNCompleteColumn(),
        console=rich.console.Console(stderr=True),
    )
    with progress:
        bar = progress.add_task("process pairs", total=plan.total)

        def save(collected: SlowdownSamples) -> None:
            all_samples = {**by_class, machine: collected}.values()
            write_whole(output, json.dumps([to_json(samples) for samples in all_samples]))
            progress.update(bar, completed=plan.done(collected))

        return {**by_class, machine: collect_samples(lambda: WorkerClient(checkout), plan, earlier, save)}
