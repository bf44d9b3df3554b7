"""Samples are collected in an order that confuses nothing, kept as they come, and gone on with."""

from dataclasses import replace
from pathlib import Path

import pytest

from embedopt.errors import RecordError
from embedopt.evidence import Cell, SlowdownSamples
from embedopt.measure.pairs.known_slowdowns import (
    Effort,
    collect,
    pairs_of,
    read_calibration,
    slowdowns_of,
    write_calibration,
)
from embedopt.measure.pairs.process_pair import Work, cells_of
from tests.fakes import FakeClock
from tests.measure.pairs.stand_ins import FakeSide

NOTHING = SlowdownSamples(hardware_class="test", samples=(), seconds=0.0)
CELLS = cells_of(["fake", "torch-fp32"], [2])
EFFORT = Effort(cells=CELLS, work=Work(texts=("a", "b", "c"), cell_s=4.0), pairs=4, budget_s=1e9)


def _collect(effort: Effort, known: SlowdownSamples = NOTHING) -> tuple[SlowdownSamples, list[int]]:
    clock, done = FakeClock(), list[int]()
    found = collect(lambda: FakeSide(clock), effort, known, lambda _, pairs: done.append(pairs), clock)
    return found, done


def test_identical_sides_get_all_pairs_and_each_slow_down_half() -> None:
    found, done = _collect(EFFORT)
    counts = {(str(of.cell), of.slowdown): len(of.pairs) for of in found.samples if of.cell.backend == "fake"}
    assert counts == {
        ("fake batch 2", 0.0): 4,
        ("fake batch 2", 0.03): 2,
        ("fake batch 2", 0.05): 2,
        ("fake batch 2", 0.10): 2,
        ("fake batch 2", 0.20): 2,
        ("fake load", 0.0): 4,
    }
    assert done == list(range(1, 9))
    slowed = [of for of in found.samples if of.slowdown == 0.05]
    assert {round(pair.log_ratio, 6) for of in slowed for pair in of.pairs} == {0.04879}


def test_each_slow_down_meets_both_orders() -> None:
    assert [slowdowns_of(number) for number in range(4)] == [
        (0.0, 0.03, 0.10),
        (0.0, 0.03, 0.10),
        (0.0, 0.05, 0.20),
        (0.0, 0.05, 0.20),
    ]


def test_a_run_that_was_stopped_is_gone_on_with(tmp_path: Path) -> None:
    part, _ = _collect(replace(EFFORT, budget_s=0.1))
    assert [pairs_of(part, cell) for cell in CELLS] == [1, 1, 0, 0]
    write_calibration(tmp_path / "samples.json", part)
    known = read_calibration(tmp_path / "samples.json")
    assert known == part
    whole, done = _collect(EFFORT, known)
    assert whole.samples == _collect(EFFORT)[0].samples
    assert done == list(range(2, 9))
    assert [file.name for file in tmp_path.iterdir()] == ["samples.json"]


def test_samples_of_other_cells_are_refused() -> None:
    known, _ = _collect(EFFORT)
    other = replace(EFFORT, cells=(Cell(backend="fake", batch_size=8),))
    with pytest.raises(RecordError, match=r"is of fake batch 2, fake load, .*: ask for the same cells"):
        _collect(other, known)


@pytest.mark.parametrize("text", ["", "[]", '{"samples": 1}'])
def test_a_file_that_is_no_calibration_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text, encoding="utf8")
    with pytest.raises(
        RecordError, match=r"x\.json can't be read \(.*\); wanted samples that embedopt calibrate"
    ):
        read_calibration(tmp_path / "x.json")
