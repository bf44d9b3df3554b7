"""Two sides are called in turns, and a pair yields one number."""

import math

import pytest

from embedopt.evidence import Cell
from embedopt.measure.pairs.process_pair import Pair, Work, measure_pair, sampled
from tests.fakes import FakeClock
from tests.measure.pairs.stand_ins import FakeSide

BATCH = Cell(backend="fake", batch_size=2)
LOAD = Cell(backend="fake", batch_size=0, metric="load_s")
WORK = Work(texts=tuple(f"text {number}" for number in range(10)), cell_s=4.0)


def _sides(base_s: float = 0.1, head_s: float = 0.1) -> tuple[FakeClock, FakeSide, FakeSide, list[str]]:
    clock, log = FakeClock(), list[str]()
    return clock, FakeSide(clock, base_s, log, "base"), FakeSide(clock, head_s, log, "head"), log


@pytest.mark.parametrize(("number", "first", "second"), [(0, "base", "head"), (1, "head", "base")])
def test_sides_are_called_in_turns_and_take_turns_in_being_first(
    number: int, first: str, second: str
) -> None:
    clock, base, head, log = _sides()
    measure_pair(Pair(number, base, head), [BATCH], WORK, clock=clock)
    assert log[:2] == [f"{first} load", f"{second} load"]
    timed = [line.removesuffix(" time") for line in log[2:]]
    assert timed[:6] == [first, second] * 3  # the warm-up
    assert timed[6:] == [first, second, second, first] * 10  # 4 s of quads of 0.4 s


def test_both_sides_get_the_same_texts_and_each_pair_others() -> None:
    clock, base, head, _ = _sides()
    measure_pair(Pair(0, base, head), [BATCH], WORK, clock=clock)
    assert base.texts == head.texts
    assert base.texts[0] == ["text 0", "text 1"]
    measure_pair(Pair(1, base, head), [BATCH], WORK, clock=clock)
    assert base.texts[3 + 2 * 10] == ["text 7", "text 8"]


def test_the_ratio_is_heads_time_over_bases_and_the_load_is_measured_too() -> None:
    clock, base, head, _ = _sides(head_s=0.11)
    head.load_s = 3.0
    found = measure_pair(Pair(1, base, head), [BATCH, LOAD], WORK, clock=clock)
    assert list(found) == [(BATCH, 0.0), (LOAD, 0.0)]
    assert found[BATCH, 0.0].log_ratio == pytest.approx(math.log(1.1))
    assert found[BATCH, 0.0].base_ms[:2] == pytest.approx((100.0, 100.0))
    assert found[LOAD, 0.0].log_ratio == pytest.approx(math.log(3.0))


def test_slow_downs_are_of_the_head_alone_and_are_measured_side_by_side() -> None:
    clock, base, head, _ = _sides()
    found = measure_pair(Pair(0, base, head), [BATCH], WORK, (0.0, 0.2), clock)
    assert found[BATCH, 0.0].log_ratio == pytest.approx(0.0)
    assert found[BATCH, 0.2].log_ratio == pytest.approx(math.log(1.2))
    assert base.texts == head.texts
    assert len(set(map(tuple, base.texts[3:7]))) == 1  # a batch meets every slow-down


@pytest.mark.parametrize(("call_s", "calls"), [(100.0, 2 * 5), (1e-5, 2 * 200)])
def test_calls_fill_the_time_within_bounds(call_s: float, calls: int) -> None:
    clock, base, head, _ = _sides(call_s, call_s)
    found = measure_pair(Pair(0, base, head), [BATCH], WORK, clock=clock)
    assert len(found[BATCH, 0.0].head_ms) == calls


def test_a_few_disturbed_quads_do_not_move_the_number() -> None:
    base_s = [0.1] * 16
    head_s = [0.1] * 14 + [5.0, 7.0]
    assert sampled(base_s, head_s).log_ratio == pytest.approx(0.0)
