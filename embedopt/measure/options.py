"""What was asked for: profiles, and the options of a run, checked."""

import math
import shutil
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embedopt.errors import UsageError
from embedopt.inference.backends import REFERENCE, Backend, select_backends, split_names
from embedopt.measure.pairs.worktree import resolve

ProfileName = Literal["full", "quick"]
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
# Of --against, where the user names none: what two cores can tell within the default budget.
AGAINST_BACKENDS = "torch-fp32,onnx-fp32,onnx-int8"
AGAINST_BATCH_SIZES = "1,8,32"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTestPlan:
    """How much load is put on a server.

    Attributes:
        shares: arrival rates, as shares of what the replicas encode one by one.
        point_s: seconds at each of them, and at each rate of the search.
        search_steps: bisections of the search for the highest rate; 0 for no search.
        verify_s: seconds at the rate found.
        overload_s: seconds at three times that rate; 0 for none.
        texts: that arrive, at most.
    """

    shares: tuple[float, ...]
    point_s: float
    search_steps: int
    verify_s: float
    overload_s: float
    texts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How much is measured.

    Attributes:
        backends: names as in ``--backends``, where the user gives none.
        batch_sizes: of the latency benchmarks, where the user gives none.
        single_calls: timed calls at batch 1; 368 is what a p99 with an interval takes.
        batch_calls: timed calls at larger batches, at least.
        latency_s: seconds that the calls at a larger batch fill.
        throughput_s: seconds of planned encoding.
        in_order_s: seconds of encoding in batches as they come.
        throughput_texts: texts that throughput is measured on, at most.
        turns: that each backend has beside the others; 0 to leave that out.
        turn_texts: that a backend encodes in its turn, at most.
        turn_calls: with one text each in a turn.
        invariance_texts: texts that batch invariance is measured on.
        invariance_rounds: batches that each of them is seen in.
        footprint_texts: texts that the process which loads a backend encodes at batch 32.
        load: how much load is put on a server.
    """

    backends: str
    batch_sizes: tuple[int, ...]
    single_calls: int
    batch_calls: int
    latency_s: float
    throughput_s: float
    in_order_s: float
    throughput_texts: int
    turns: int
    turn_texts: int
    turn_calls: int
    invariance_texts: int
    invariance_rounds: int
    footprint_texts: int
    load: LoadTestPlan


PROFILES: Mapping[str, Profile] = {
    "full": Profile(
        backends="all",
        batch_sizes=BATCH_SIZES,
        single_calls=400,
        batch_calls=10,
        latency_s=0.4,
        throughput_s=4.0,
        in_order_s=3.0,
        throughput_texts=100_000,
        turns=3,
        turn_texts=400,
        turn_calls=125,
        invariance_texts=128,
        invariance_rounds=3,
        footprint_texts=128,
        load=LoadTestPlan(
            shares=(1 / 3, 2 / 3, 1.0),
            point_s=2.0,
            search_steps=3,
            verify_s=5.0,
            overload_s=30.0,
            texts=805,
        ),
    ),
    "quick": Profile(
        # Those that load without sentence-transformers, which takes 5 s to import, and the reference.
        backends="torch-fp32,onnx-fp32,onnx-int8,onnx-int8-per-tensor,onnx-int8-block",
        batch_sizes=(1, 32),
        single_calls=200,
        batch_calls=6,
        latency_s=0.2,
        throughput_s=0.3,
        in_order_s=0.2,
        throughput_texts=96,
        turns=0,
        turn_texts=0,
        turn_calls=0,
        invariance_texts=40,
        invariance_rounds=2,
        footprint_texts=32,
        load=LoadTestPlan(
            shares=(1 / 3,),
            point_s=0.7,
            search_steps=0,
            verify_s=0.0,
            overload_s=0.0,
            texts=64,
        ),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRunOptions:
    """What ``--against`` asks for, checked.

    Attributes:
        ref: commit, branch or tag of the base.
        head: folder of the code that is compared with it.
        python: interpreter of the base's own environment; None for this one.
        budget_s: seconds for all of it.
        threshold: of ``--gate-threshold``; None for the settings'.
        backends: that are compared.
        batch_sizes: likewise.
    """

    ref: str
    head: Path
    python: str | None
    budget_s: float
    threshold: float | None
    backends: tuple[Backend, ...]
    batch_sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0.0 < self.budget_s < math.inf:
            raise UsageError(f"--against-budget is {self.budget_s:g}; wanted seconds, above 0")

    @property
    def questions(self) -> tuple[tuple[int, str], ...]:
        """What is judged of each backend: a batch size (0 for none) and a kind of figure."""
        return (*((size, "time") for size in self.batch_sizes), (0, "load"), (0, "size"), (0, "accuracy"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked for, checked. ``backends`` always begin with the reference."""

    backends: tuple[Backend, ...]
    batch_sizes: tuple[int, ...]
    profile: ProfileName
    corpus: Path
    model: str | None = None
    cache_dir: Path | None = None
    min_cosine: float = 0.95
    pairs: Path | None = None
    price_per_hour: float = 0.05
    slo_p99_ms: float = 50.0
    soak_s: float = 0.0
    against: GateRunOptions | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.price_per_hour < math.inf:
            raise UsageError(f"--price-per-hour is {self.price_per_hour}; wanted dollars, 0 or more")
        if not 0.0 <= self.soak_s < math.inf:
            raise UsageError(f"--soak-s is {self.soak_s}; wanted seconds, 0 or more")
        if not 0.0 < self.slo_p99_ms < math.inf:
            raise UsageError(f"--slo-p99-ms is {self.slo_p99_ms}; wanted milliseconds above 0")
        if not -1.0 <= self.min_cosine <= 1.0:
            raise UsageError(f"--min-cosine is {self.min_cosine}; wanted a cosine, from -1 to 1")


def parse_backends(names: str | None, profile: ProfileName) -> tuple[Backend, ...]:
    """Read ``--backends a,b``; None for the profile's.

    The reference is always among them, as what the others are held against.

    Raises:
        UsageError: a name is unknown, or there is none; the message lists the known ones.
    """
    return select_backends([REFERENCE, *split_names(PROFILES[profile].backends if names is None else names)])


def parse_batch_sizes(sizes: str | None, profile: ProfileName) -> tuple[int, ...]:
    """Read ``--batch-sizes 1,8``; None for the profile's.

    Raises:
        UsageError: a size is not among the known ones, which the message lists.
    """
    if sizes is None:
        return PROFILES[profile].batch_sizes
    asked = [size.strip() for size in sizes.split(",") if size.strip()]
    known = {str(size): size for size in BATCH_SIZES}
    unknown = [size for size in asked if size not in known]
    if unknown or not asked:
        named = ", ".join(unknown) or repr(sizes)
        raise UsageError(f"unknown batch size {named}; known are: {', '.join(known)}")
    return tuple(sorted({known[size] for size in asked}))


def parse_gate_run(option: Namespace, head: Path) -> GateRunOptions | None:
    """Read ``--against`` and what goes with it; None where it was not given.

    Args:
        option: the options of the command line.
        head: folder of the code that is compared.

    Raises:
        UsageError: an option means nothing, or there is no such base.
    """
    if option.against is None:
        return None
    resolve(head, option.against)  # a name that is wrong is told before anything is measured
    return GateRunOptions(
        ref=option.against,
        head=head,
        python=_interpreter(option.against_python) if option.against_python else None,
        budget_s=option.against_budget,
        threshold=option.gate_threshold,
        backends=select_backends(split_names(option.backends or AGAINST_BACKENDS)),
        batch_sizes=parse_batch_sizes(option.batch_sizes or AGAINST_BATCH_SIZES, option.profile),
    )


def _interpreter(asked: str) -> str:
    """Return the whole path of an interpreter: it runs in another folder than the one it was named in."""
    found = shutil.which(asked)
    if found is None:
        raise UsageError(f"--against-python {asked} can't be run; wanted a Python interpreter")
    # Not resolved: the python of a virtual environment is a link, and knows by its place where it belongs.
    return str(Path(found).absolute())


def parse_options(option: Namespace, head: Path) -> Options:
    """Read all of a run's options.

    Args:
        option: the options of the command line.
        head: folder of the code that runs.

    Raises:
        UsageError: one of them means nothing; the message says what would.
    """
    threshold = option.gate_threshold
    if threshold is not None and not 0.0 < threshold < 1.0:
        raise UsageError(f"--gate-threshold is {threshold:g}; wanted a share, 0.03 for 3 %")
    return Options(
        backends=parse_backends(option.backends, option.profile),
        batch_sizes=parse_batch_sizes(option.batch_sizes, option.profile),
        profile=option.profile,
        corpus=option.corpus or head / "benchmarks" / "corpus",
        model=option.model,
        cache_dir=option.cache_dir,
        min_cosine=option.min_cosine,
        pairs=option.pairs,
        price_per_hour=option.price_per_hour,
        slo_p99_ms=option.slo_p99_ms,
        soak_s=option.soak_s,
        against=parse_gate_run(option, head),
    )
