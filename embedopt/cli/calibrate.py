"""``embedopt calibrate``: how often is the gate wrong on this machine?"""

import sys
from pathlib import Path
from typing import Annotated

import rich.console
import rich.progress
import typer

from embedopt.errors import RecordError
from embedopt.evidence import SlowdownSamples
from embedopt.inference.backends import BACKENDS, select_backends, split_names
from embedopt.judge.gate.error_rates import Drawing, error_rates
from embedopt.judge.gate.settings import read_settings
from embedopt.measure.command_line import parse_batch_sizes
from embedopt.measure.corpus import load_corpus
from embedopt.measure.machine import this_machine
from embedopt.measure.options import AGAINST_BACKENDS, AGAINST_BATCH_SIZES
from embedopt.measure.pairs.known_slowdowns import Effort, collect, read_calibration, write_calibration
from embedopt.measure.pairs.process_pair import Work, cells_of
from embedopt.measure.pairs.worker_client import Checkout, WorkerClient
from embedopt.measure.pairs.worktree import ended_by_signals
from embedopt.report.verdict_tables import render_error_rates

_ROOT = Path(__file__).parents[2]


def calibrate(
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file for the samples.")] = Path(
        "calibration.json"
    ),
    resume: Annotated[
        Path | None, typer.Option(help="Go on with these samples, and write there.", metavar="FILE")
    ] = None,
    budget: Annotated[float, typer.Option(min=0, help="Seconds to collect for.")] = 7200.0,
    pairs: Annotated[int, typer.Option(min=1, help="Process pairs of each backend.")] = 60,
    backends: Annotated[str, typer.Option(help=f"all, or some of {', '.join(BACKENDS)}.")] = AGAINST_BACKENDS,
    batch_sizes: Annotated[str, typer.Option(help="Texts in a call.")] = AGAINST_BATCH_SIZES,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Where artifacts are kept.", envvar="EMBEDOPT_CACHE")
    ] = None,
) -> None:
    """Collect real process pairs, identical and slowed, and print how often each rule is right.

    The samples are written after each pair: a run that was stopped goes on with --resume. With --budget 0,
    nothing is collected, and what there is is judged.
    """
    names = [row.name for row in select_backends(split_names(backends))]
    work = Work(
        texts=load_corpus(_ROOT / "benchmarks" / "corpus").mixed_texts,
        cache_dir=str(cache_dir) if cache_dir else None,
    )
    cells = cells_of(names, parse_batch_sizes(batch_sizes, "full"))
    effort = Effort(cells=cells, work=work, pairs=pairs, budget_s=budget)
    known = _collected(effort, _known(resume), resume or output)
    found = error_rates(known, read_settings(_ROOT / "pyproject.toml", BACKENDS), Drawing())
    typer.echo(render_error_rates(found, color=sys.stdout.isatty()), nl=False)


def _known(resume: Path | None) -> SlowdownSamples:
    machine = this_machine().hardware_class
    if resume is None:
        return SlowdownSamples(hardware_class=machine, samples=(), seconds=0.0)
    known = read_calibration(resume)
    if known.hardware_class != machine:
        raise RecordError(
            f"{resume} is of {known.hardware_class}, this is {machine}: start a new one with -o"
        )
    return known


def _collected(effort: Effort, known: SlowdownSamples, output: Path) -> SlowdownSamples:
    place = Checkout(name="worker", root=_ROOT, python=sys.executable)
    progress = rich.progress.Progress(
        *rich.progress.Progress.get_default_columns(),
        rich.progress.MofNCompleteColumn(),
        console=rich.console.Console(stderr=True),
    )
    with ended_by_signals(), progress:
        bar = progress.add_task("process pairs", total=effort.total)

        def keep(collected: SlowdownSamples, done: int) -> None:
            write_calibration(output, collected)
            progress.update(bar, completed=done)

        return collect(lambda: WorkerClient(place), effort, known, keep)
