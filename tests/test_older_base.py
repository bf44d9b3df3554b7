"""A commit from before modules were moved and renamed still serves as a base: the worker's protocol held."""

from collections.abc import Callable
from pathlib import Path

import pytest

from embedopt.errors import UsageError
from embedopt.evidence import Cell, PairsWanted
from embedopt.measure.pairs import worktree
from embedopt.measure.pairs.gate_run import GatePlan, measure_gate_run
from embedopt.measure.pairs.process_pair import Work

ROOT = Path(__file__).parents[1]
BASE = "f0c97f6ba88fe535cb9743edf973d98c6f7d8769"
CELL = Cell(backend="onnx-fp32", batch_size=2)


def test_a_base_from_before_the_move_can_be_compared_and_has_the_same_scores(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    try:
        worktree.resolve(ROOT, BASE)
    except UsageError:
        pytest.skip(f"this clone has no commit {BASE[:7]}: fetch it with git fetch --unshallow")
    plan = GatePlan(
        ref=BASE,
        head=ROOT,
        backends=(CELL.backend,),
        batch_sizes=(CELL.batch_size,),
        budget_s=600.0,
        invariance={"invariance_texts": 2, "invariance_rounds": 1},
    )
    work = Work(
        texts=("nurse, night shift", "welder in zurich", "java and python"),
        model=str(tiny_model()),
        cache_dir=str(tmp_path / "cache"),
        cell_s=0.0,
    )
    many = Cell(backend=CELL.backend, batch_size=0, metric="texts_per_s")
    wanted = [[PairsWanted(cell=cell, pairs=1) for cell in (CELL, many)], []]
    gate_run = measure_gate_run(plan, work, lambda _: lambda _: wanted.pop(0), lambda _: None)
    # Calls of a millisecond may seem to disagree between the two clocks on a busy machine.
    counts = {known.cell.metric: len(known.log_ratios) for known in gate_run.cells}
    disagreeing = [reason for reason in gate_run.not_comparable if "where its client waits" in reason.why]
    counts |= {reason.cell.metric: 1 for reason in disagreeing if reason.cell}
    assert counts == {"latency": 1, "texts_per_s": 1, "load_s": 1, "peak_rss_bytes": 1, "grown_rss_bytes": 0}
    assert gate_run.not_comparable == tuple(disagreeing)
    # Others are of a busy machine.
    assert [note for note in gate_run.notes if note.startswith("batcher ")] == [
        "batcher is not compared: the base's worker can't measure it; a newer base can"
    ]
    heads = {exact.metric: exact.head for exact in gate_run.exact}
    bases = {exact.metric: exact.base for exact in gate_run.exact}
    # Beside the weights, an artifact holds what reads texts, and the probes: some kB more than then.
    assert heads.pop("disk_bytes") == pytest.approx(bases.pop("disk_bytes"), abs=10_000)
    # Each side plans its own batches, by costs that it measures, and sums of fp32 depend on the batch.
    assert bases == pytest.approx(heads, abs=1e-7)
    assert {"cosine_mean", "batch_invariance_min"} <= heads.keys()
