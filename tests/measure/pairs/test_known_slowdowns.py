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

NOTHING = SlowdownSamples(hardware_class="test", samples=(), seconds=0.0, survey_s=0.0)
CELLS = tuple(cell for cell in cells_of(["fake", "torch-fp32"], [2]) if cell.metric in ("latency", "load_s"))
PLAN = SamplingPlan(
    cells=CELLS,
    work=Work(texts=("a", "b", "c"), cell_s=4.0),
    invariance={"invariance_texts": 2, "invariance_rounds": 1},
    pairs=4,
    budget_s=1e9,
)


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
        **{("fake batch 2", slowdown): 2 for slowdown in (0.01, 0.02, 0.03, 0.05, 0.10)},
        ("fake load", 0.0): 4,
    }
    assert done == list(range(1, 9))
    slowed = [sample for sample in collected.samples if sample.slowdown == 0.05]
    assert {round(pair.log_ratio, 6) for sample in slowed for pair in sample.pairs} == {0.04879}


def test_the_first_half_of_the_pairs_has_identical_sides_only() -> None:
    assert [slowdowns_of(number, 4) for number in range(4)] == [
        *[(0.0,)] * 2,
        *[(0.0, 0.01, 0.02, 0.03, 0.05, 0.10)] * 2,
    ]


def test_a_run_that_was_stopped_can_be_resumed(tmp_path: Path) -> None:
    part, _ = _collect(replace(PLAN, budget_s=0.1))
    assert [pairs_of(part, cell) for cell in CELLS] == [1, 1, 0, 0]
    (tmp_path / "samples.json").write_text(json.dumps([to_json(part)]), encoding="utf8")
    [earlier] = read_samples(tmp_path / "samples.json")
    assert earlier == part
    whole, done = _collect(PLAN, earlier)
    assert whole.samples == _collect(PLAN)[0].samples
    assert done == list(range(2, 9))


def test_pairs_whose_slow_downs_only_the_head_worked_for_are_refused(tmp_path: Path) -> None:
    """Files from then say nothing of the seconds before a gate run's first pair."""
    values = to_json(_collect(replace(PLAN, budget_s=0.1))[0])
    del values["survey_s"]
    (tmp_path / "old.json").write_text(json.dumps([values]), encoding="utf8")
    with pytest.raises(
        RecordError,
        match=r"old\.json can't be read \(.*survey_s.*\); wanted .* writes: collect",
    ):
        read_samples(tmp_path / "old.json")


def test_a_sitting_measures_what_a_gate_run_takes_before_its_first_pair() -> None:
    """Of each side, 2 s to load what is not loaded yet; without a budget, nothing is measured."""
    assert _collect(PLAN)[0].survey_s == 4.0
    assert _collect(replace(PLAN, budget_s=0.0), replace(NOTHING, survey_s=7.0))[0].survey_s == 7.0


def test_a_later_sitting_adds_cells_without_measuring_the_others_again() -> None:
    earlier, _ = _collect(PLAN)
    more = replace(PLAN, cells=(*CELLS, Cell(backend="fake", batch_size=8)))
    assert more.done(earlier) == 4
    whole, done = _collect(more, earlier)
    assert [pairs_of(whole, cell) for cell in more.cells] == [4] * 5
    assert done == [5, 6, 7, 8]


def test_no_more_pairs_are_done_than_a_shorter_plan_has() -> None:
    earlier, _ = _collect(PLAN)
    shorter = replace(PLAN, pairs=2)
    assert (shorter.done(earlier), shorter.total) == (4, 4)


@pytest.mark.parametrize("text", ["", "[]", '{"samples": 1}'])
def test_a_file_without_samples_is_an_error_of_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text, encoding="utf8")
    with pytest.raises(
        RecordError,
        match=r"x\.json can't be read \(.*\); wanted samples that embedopt calibrate writes: collect",
    ):
        read_samples(tmp_path / "x.json")


def test_a_pair_says_what_each_cell_took_with_its_slow_downs_shared_out_evenly() -> None:
    """Ten quads of four calls and two to warm up, of 0.1 s; those of both sides take 21 % more in all."""
    collected, _ = _collect(PLAN)
    seconds = {
        (sample.cell.metric, sample.slowdown): [round(pair.seconds, 3) for pair in sample.pairs]
        for sample in collected.samples
        if sample.cell.backend == "fake"
    }
    assert seconds["load_s", 0.0] == [2.0] * 4
    assert seconds["latency", 0.0] == [4.4, 4.4, 4.207, 4.207]
    assert seconds["latency", 0.05] == [4.207, 4.207]


def test_artifacts_are_built_before_the_first_pair() -> None:
    """A process that builds one opens with several times the memory: it is not measured."""
    clock, clients = FakeClock(), list[FakeClient]()

    def start() -> FakeClient:
        clients.append(FakeClient(clock, log=[]))
        return clients[-1]

    collect_samples(start, replace(PLAN, pairs=1), NOTHING, lambda _: None, clock)
    assert (clients[0].log, clients[0].closed) == ([" load", " load"], 1)
    assert len(clients) == 1 + 1 + 2 * 2  # the second measures what a gate run does before its first pair
