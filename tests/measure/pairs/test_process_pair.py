"""Base and head are called in turns, and a pair yields one number."""

import dataclasses
import math
import random
from itertools import count

import pytest

from embedopt.evidence import Cell
from embedopt.measure.pairs.process_pair import LivePair, Work, measure_pair, summarise_pair
from tests.fakes import FakeClock
from tests.measure.pairs.stand_ins import FakeClient

BATCH = Cell(backend="fake", batch_size=2)
COLD_START = Cell(backend="fake", batch_size=0, metric="load_s")
WORK = Work(texts=tuple(f"text {number}" for number in range(10)), cell_s=4.0)


def _clients(base_s: float = 0.1, head_s: float = 0.1) -> tuple[FakeClock, FakeClient, FakeClient, list[str]]:
    clock, log = FakeClock(), list[str]()
    return clock, FakeClient(clock, base_s, log, "base"), FakeClient(clock, head_s, log, "head"), log


@pytest.mark.parametrize(("number", "first", "second"), [(0, "base", "head"), (1, "head", "base")])
def test_base_and_head_are_called_in_turns_and_alternate_in_being_first(
    number: int, first: str, second: str
) -> None:
    clock, base, head, log = _clients()
    measure_pair(LivePair(number=number, base=base, head=head), [BATCH], WORK, clock=clock)
    assert log[:2] == [f"{first} load", f"{second} load"]
    called = [line.removesuffix(" time") for line in log[2:]]
    assert called[:6] == [first, second] * 3  # the warm-up
    assert called[6:] == [first, second, second, first] * 10  # 4 s of quads of 0.4 s


def test_base_and_head_get_the_same_texts_and_each_pair_others() -> None:
    clock, base, head, _ = _clients()
    measure_pair(LivePair(number=0, base=base, head=head), [BATCH], WORK, clock=clock)
    assert base.texts == head.texts
    assert _plain(base.texts[0]) == ["text 0", "text 1"]
    measure_pair(LivePair(number=1, base=base, head=head), [BATCH], WORK, clock=clock)
    assert _plain(base.texts[3 + 2 * 10]) == ["text 7", "text 8"]


def _plain(texts: list[str]) -> list[str]:
    """Return texts without the numbers that make them new."""
    return [text.rpartition(" ")[0] for text in texts]


def test_no_process_gets_a_text_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count(1_000)
    monkeypatch.setattr(random, "randrange", lambda *_: next(numbers))
    clock, base, head, _ = _clients()
    measure_pair(LivePair(number=0, base=base, head=head), [BATCH], WORK, clock=clock)
    for client in (base, head):
        texts = [text for batch in client.texts for text in batch]
        assert len(texts) == len(set(texts)) == 2 * (3 + 2 * 10)


def test_log_ratios_are_of_heads_time_over_bases_time_and_cold_starts_have_one() -> None:
    clock, base, head, _ = _clients(head_s=0.11)
    head.load_s = 3.0
    measured = measure_pair(LivePair(number=1, base=base, head=head), [BATCH, COLD_START], WORK, clock=clock)
    assert list(measured) == [(BATCH, 0.0), (COLD_START, 0.0)]
    assert measured[BATCH, 0.0].log_ratio == pytest.approx(math.log(1.1))
    assert measured[BATCH, 0.0].base_ms[:2] == pytest.approx((100.0, 100.0))
    assert measured[COLD_START, 0.0].log_ratio == pytest.approx(math.log(3.0))


def test_slow_downs_apply_to_the_head_alone_and_are_interleaved() -> None:
    clock, base, head, _ = _clients()
    measured = measure_pair(LivePair(number=0, base=base, head=head), [BATCH], WORK, (0.0, 0.2), clock)
    assert measured[BATCH, 0.0].log_ratio == pytest.approx(0.0)
    assert measured[BATCH, 0.2].log_ratio == pytest.approx(math.log(1.2))
    assert base.texts == head.texts
    # Each slow-down is measured on the same batch, but for the numbers.
    assert len({tuple(_plain(batch)) for batch in base.texts[3:7]}) == 1


@pytest.mark.parametrize(("call_s", "calls"), [(100.0, 2 * 5), (1e-5, 2 * 200)])
def test_calls_fill_the_planned_time_but_their_number_is_bounded(call_s: float, calls: int) -> None:
    clock, base, head, _ = _clients(call_s, call_s)
    measured = measure_pair(LivePair(number=0, base=base, head=head), [BATCH], WORK, clock=clock)
    assert len(measured[BATCH, 0.0].head_ms) == calls


def test_a_few_disturbed_quads_do_not_change_the_log_ratio() -> None:
    base_s = [0.1] * 16
    head_s = [0.1] * 14 + [5.0, 7.0]
    assert summarise_pair(base_s, head_s).log_ratio == pytest.approx(0.0)


def test_a_worker_hears_of_trust_only_where_there_is_some() -> None:
    """A base from before model code could run refuses an argument that it does not know."""
    plain = {"backend": "fake", "model": None, "cache_dir": None}
    assert WORK.opening("fake", of_base=True) == plain
    trusting = dataclasses.replace(WORK, trust_remote_code=True)
    assert trusting.opening("fake", of_base=True) == {**plain, "trust_remote_code": True}
