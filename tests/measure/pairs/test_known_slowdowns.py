"""Samples with known slow-downs: collected in a balanced order, saved after each pair, and resumed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from embedopt.errors import RecordError
from embedopt.evidence import Cell, SlowdownSamples
from embedopt.measure.pairs.known_slowdowns import (
    SamplingPlan,
    collect_samples,
    pairs_of,
    read_samples,
    slowdowns_of,
)
from embedopt.measure.pairs.process_pair import Work, cells_of
from embedopt.schema import to_json
from tests.fakes import FakeClock
from tests.measure.pairs.stand_ins import FakeClient

NOTHING = SlowdownSamples(hardware_class="test", samples=(), seconds=0.0)
CELLS = cells_of(["fake", "torch-fp32"], [2])
PLAN = SamplingPlan(cells=CELLS, work=Work(texts=("a", "b", "c"), cell_s=4.0), pairs=4, budget_s=1e9)


def _collect(plan: SamplingPlan, earlier: SlowdownSamples = NOTHING) -> tuple[SlowdownSamples, list[int]]:
    """Return the samples, and the number of pairs that were done each time it was reported."""
    clock, done = FakeClock(), list[int]()
    samples = collect_samples(
        lambda: FakeClient(clock), plan, earlier, lambda so_far: done.append(plan.done(so_far)), clock
    )
    return samples, done


def test_no_slow_down_gets_all_pairs_and_each_slow_down_half() -> None:
    collected, done = _collect(PLAN)
    counts = {
        (str(sample.cell), sample.slowdown): len(sample.pairs)
        for sample in collected.samples
        if sample.cell.backend == "fake"
    }
    assert counts == {
        ("fake batch 2", 0.0): 4,
        ("fake batch 2", 0.03): 2,
        ("fake batch 2", 0.05): 2,
        ("fake batch 2", 0.10): 2,
        ("fake batch 2", 0.20): 2,
        ("fake load", 0.0): 4,
    }
    assert done == list(range(1, 9))
    slowed = [sample for sample in collected.samples if sample.slowdown == 0.05]
    assert {round(pair.log_ratio, 6) for sample in slowed for pair in sample.pairs} == {0.04879}


def test_each_slow_down_is_measured_in_both_orders_of_base_and_head() -> None:
    assert [slowdowns_of(number) for number in range(4)] == [
        (0.0, 0.03, 0.10),
        (0.0, 0.03, 0.10),
        (0.0, 0.05, 0.20),
        (0.0, 0.05, 0.20),
    ]


def test_a_run_that_was_stopped_can_be_resumed(tmp_path: Path) -> None:
    part, _ = _collect(replace(PLAN, budget_s=0.1))
    assert [pairs_of(part, cell) for cell in CELLS] == [1, 1, 0, 0]
    (tmp_path / "samples.json").write_text(json.dumps(to_json(part)), encoding="utf8")
    earlier = read_samples(tmp_path / "samples.json")
    assert earlier == part
    whole, done = _collect(PLAN, earlier)
    assert whole.samples == _collect(PLAN)[0].samples
    assert done == list(range(2, 9))


def test_samples_of_other_cells_are_refused() -> None:
    earlier, _ = _collect(PLAN)
    other = replace(PLAN, cells=(Cell(backend="fake", batch_size=8),))
    with pytest.raises(RecordError, match=r"are of fake batch 2, fake load, .*; wanted the cells of this"):
        _collect(other, earlier)


@pytest.mark.parametrize("text", ["", "[]", '{"samples": 1}'])
def test_a_file_without_samples_is_an_error_of_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text, encoding="utf8")
    with pytest.raises(
        RecordError, match=r"x\.json can't be read \(.*\); wanted samples that embedopt calibrate"
    ):
        read_samples(tmp_path / "x.json")
