"""Base and head are measured in turns, and a pair yields one number for each cell."""

import dataclasses
import math
import random
from collections.abc import Sequence
from itertools import count

import pytest

from embedopt.clock import Clock
from embedopt.errors import MeasureError
from embedopt.evidence import Cell, PairedMetric, ProcessPair
from embedopt.measure.pairs import cells
from embedopt.measure.pairs.neighbours import Quad
from embedopt.measure.pairs.process_pair import LivePair, Work
from tests.fakes import FakeClock
from tests.measure.pairs.stand_ins import FakeClient

BATCH = Cell(backend="fake", batch_size=2)
COLD_START = Cell(backend="fake", batch_size=0, metric="load_s")
WORK = Work(texts=tuple(f"text {number}" for number in range(10)), cell_s=4.0)


def measure_pair(
    pair: LivePair,
    wanted: Sequence[Cell],
    work: Work,
    slowdowns: Sequence[float] = (0.0,),
    clock: Clock = lambda: 0.0,
) -> dict[tuple[Cell, float], ProcessPair]:
    """Measure the cells of a pair to their end."""
    return dict(cells.measure_pair(pair, wanted, work, slowdowns, clock))


def _figure(metric: PairedMetric) -> Cell:
    return Cell(backend="fake", batch_size=0, metric=metric)


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
    assert called[:4] == [first, second] * 2  # the warm-up
    # 4 s of quads of 0.4 s; each process is first in every other one.
    assert called[4:] == [first, second, second, first, second, first, first, second] * 5


def test_base_and_head_get_the_same_texts_and_each_pair_others() -> None:
    clock, base, head, _ = _clients()
    measure_pair(LivePair(number=0, base=base, head=head), [BATCH], WORK, clock=clock)
    assert base.texts == head.texts
    assert _plain(base.texts[0]) == ["text 0", "text 1"]
    measure_pair(LivePair(number=1, base=base, head=head), [BATCH], WORK, clock=clock)
    assert _plain(base.texts[2 + 2 * 10]) == ["text 7", "text 8"]


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
        assert len(texts) == len(set(texts)) == 2 * (2 + 2 * 10)


def test_log_ratios_are_of_heads_time_over_bases_time_and_cold_starts_have_one() -> None:
    clock, base, head, _ = _clients(head_s=0.11)
    head.load_s = 3.0
    measured = measure_pair(LivePair(number=1, base=base, head=head), [BATCH, COLD_START], WORK, clock=clock)
    assert list(measured) == [(COLD_START, 0.0), (BATCH, 0.0)]
    assert measured[BATCH, 0.0].log_ratio == pytest.approx(math.log(1.1))
    assert measured[BATCH, 0.0].base_ms[:2] == pytest.approx((100.0, 100.0))
    assert measured[COLD_START, 0.0].log_ratio == pytest.approx(math.log(3.0))


def test_slow_downs_count_for_the_head_alone_and_are_interleaved() -> None:
    """Base does the same work off its clock: 2 s to load, 4 calls to warm up, 40 plain and 40 slowed."""
    clock, base, head, _ = _clients()
    measured = measure_pair(LivePair(number=0, base=base, head=head), [BATCH], WORK, (0.0, 0.5), clock)
    assert measured[BATCH, 0.0].log_ratio == pytest.approx(0.0)
    assert measured[BATCH, 0.5].log_ratio == pytest.approx(math.log(1.5))
    assert set(measured[BATCH, 0.5].base_ms) == {100.0}
    assert measured[BATCH, 0.5].disagreement == ""
    assert clock.now_s == pytest.approx(2.0 + 4 * 0.1 + 40 * 0.1 + 40 * 0.15)
    assert base.texts == head.texts
    # Each slow-down is measured on the same batch, but for the numbers.
    assert len({tuple(_plain(batch)) for batch in base.texts[2:6]}) == 1


@pytest.mark.parametrize(("call_s", "calls"), [(100.0, 2 * 4), (1e-5, 2 * 100)])
def test_calls_fill_the_planned_time_but_their_number_is_bounded(call_s: float, calls: int) -> None:
    clock, base, head, _ = _clients(call_s, call_s)
    measured = measure_pair(LivePair(number=0, base=base, head=head), [BATCH], WORK, clock=clock)
    assert len(measured[BATCH, 0.0].head_ms) == calls


def test_a_few_disturbed_quads_do_not_change_the_log_ratio() -> None:
    base = cells.Times([0.1] * 16, [0.1] * 16)
    head = cells.Times([0.1] * 14 + [5.0, 7.0], [0.1] * 14 + [5.0, 7.0])
    calm = [Quad(seconds=1.0, others_s=0.0)] * 8
    assert cells.summarise_pair(base, head, calm).log_ratio == pytest.approx(0.0)


def test_quads_in_which_others_took_the_cpu_are_left_out_of_base_and_head() -> None:
    """Three quads of eight: more than trimming bears."""
    base, head = cells.Times([0.1] * 16, [0.1] * 16), cells.Times([0.1] * 10 + [0.2] * 6, [0.1] * 16)
    quads = [Quad(seconds=1.0, others_s=0.0)] * 5 + [Quad(seconds=1.0, others_s=0.9)] * 3
    pair = cells.summarise_pair(base, head, quads)
    assert pair.log_ratio == pytest.approx(0.0)
    assert (pair.base_ms, pair.head_ms) == ((100.0,) * 10, (100.0,) * 10)
    assert (pair.quads, pair.disturbed) == (8, 3)


def test_what_the_machine_does_besides_the_two_workers_is_read_around_each_quad() -> None:
    clock, base, head, _ = _clients()
    base.others_share = 0.5  # while the base is called
    measured = measure_pair(LivePair(number=0, base=base, head=head), [BATCH], WORK, clock=clock)
    assert (measured[BATCH, 0.0].quads, measured[BATCH, 0.0].disturbed) == (10, 10)


def test_quads_name_the_batch_size_in_turns_and_a_call_with_many_texts_is_planned() -> None:
    clock, base, head, _ = _clients()
    many = _figure("texts_per_s")
    measured = measure_pair(LivePair(number=0, base=base, head=head), [BATCH, many], WORK, clock=clock)
    calls = 2 + 2 * 10  # the warm-up, then two a quad
    assert base.batch_sizes[:calls] == [None, 2, *([None] * 4 + [2] * 4) * 2, *[None] * 4]
    assert base.batch_sizes[calls:] == [None] * (1 + 2 * 10)
    assert {len(texts) for texts in base.texts[calls:]} == {64}
    assert measured[many, 0.0].base_ms == pytest.approx((100.0,) * 20)


def test_a_rate_that_falls_has_a_log_ratio_above_0() -> None:
    clock, base, head, _ = _clients(head_s=0.2)
    pair = LivePair(number=0, base=base, head=head)
    base.latencies_ms, head.latencies_ms = [10.0, 10.0], [20.0, 801.0]  # promised: eight calls, 800 ms
    many, kept = _figure("texts_per_s"), _figure("kept_per_s")
    measured = measure_pair(pair, [many, kept], WORK, clock=clock)
    assert measured[many, 0.0].log_ratio == pytest.approx(math.log(2))
    assert measured[kept, 0.0].log_ratio == pytest.approx(math.log(2))
    # Two fifths of the ten texts a second that base encodes one by one.
    assert (measured[kept, 0.0].base_ms, measured[kept, 0.0].head_ms) == ((4.0,), (2.0,))


def test_batchers_are_driven_in_turns_at_the_same_rate_and_measured_once() -> None:
    clock, base, head, log = _clients(head_s=0.2)
    base.latencies_ms, head.latencies_ms = [10.0, 50.0, 20.0], [60.0, 50.0, None]
    p50, p99 = _figure("served_p50_ms"), _figure("served_p99_ms")
    measured = measure_pair(LivePair(number=1, base=base, head=head), [p50, p99], WORK, clock=clock)
    driven = [line.removesuffix(" load_test") for line in log if line.endswith("load_test")]
    assert driven == ["head", "base", "head", "base", "base", "head"]  # a warm-up, then one turn
    assert {*base.rates_per_s, *head.rates_per_s} == {4.0}
    # The median of 6, 1 and 400: each request is compared with the same one of base.
    assert measured[p50, 0.0].log_ratio == pytest.approx(math.log(6))
    assert measured[p99, 0.0].head_ms == (8000.0,)  # no answer counts as ten promises


def test_a_backend_that_opens_with_more_memory_has_a_log_ratio_above_0() -> None:
    clock, base, head, _ = _clients()
    head.peak_bytes += 128_000_000
    peak = _figure("peak_rss_bytes")
    measured = measure_pair(LivePair(number=0, base=base, head=head), [BATCH, peak], WORK, clock=clock)
    assert list(measured) == [(peak, 0.0), (BATCH, 0.0)]
    assert measured[peak, 0.0].log_ratio == pytest.approx(math.log(2.28))


def test_what_every_call_keeps_shows_in_the_memory_after_ten_thousand() -> None:
    """The fakes begin with 100 MB; the head keeps 40 kB of each call, the first 32 included."""
    clock, base, head, _ = _clients()
    head.kept_bytes = 40_000
    grown = _figure("grown_rss_bytes")
    measured = measure_pair(LivePair(number=0, base=base, head=head), [grown], WORK, clock=clock)
    assert measured[grown, 0.0].base_ms == (100e6,)
    assert measured[grown, 0.0].head_ms == (100e6 + 32 * 40_000 + 400e6,)
    assert base.texts == head.texts
    assert len(base.texts) == 32 + 48


def test_a_worker_that_divides_its_times_by_three_disagrees_with_its_client() -> None:
    clock, base, head, _ = _clients(base_s=0.002, head_s=0.002 / 3)
    head.idle_s = 0.002 * 2 / 3  # what it does not count, its client waits for
    measured = measure_pair(LivePair(number=0, base=base, head=head), [BATCH], WORK, clock=clock)
    assert measured[BATCH, 0.0].disagreement == (
        "base says 2.00 ms where its client waits 2.00 ms, head says 0.67 ms where its client waits 2.00 ms; "
        "wanted clocks that agree: see time() in embedopt/measure/worker.py"
    )


@pytest.mark.parametrize(("idle_s", "agrees"), [(0.001, True), (0.0012, False)])
def test_clocks_agree_up_to_half_a_millisecond_and_a_fifth_of_the_call(idle_s: float, agrees: bool) -> None:
    clock, base, head, _ = _clients(base_s=0.002, head_s=0.002)
    head.idle_s = idle_s
    measured = measure_pair(LivePair(number=0, base=base, head=head), [BATCH], WORK, clock=clock)
    assert (measured[BATCH, 0.0].disagreement == "") == agrees


def test_a_batcher_whose_worker_counts_less_time_disagrees_too() -> None:
    clock, base, head, _ = _clients()
    head.hidden_s = 3.0
    p50 = _figure("served_p50_ms")
    measured = measure_pair(LivePair(number=0, base=base, head=head), [p50], WORK, clock=clock)
    assert measured[p50, 0.0].disagreement.startswith(
        "base says 2500.00 ms where its client waits 2500.00 ms"
    )


def test_a_worker_hears_of_trust_only_where_there_is_some() -> None:
    """A base from before model code could run refuses an argument that it does not know."""
    plain = {"backend": "fake", "model": None, "cache_dir": None}
    assert WORK.opening("fake", of_base=True) == plain
    trusting = dataclasses.replace(WORK, trust_remote_code=True)
    assert trusting.opening("fake", of_base=True) == {**plain, "trust_remote_code": True}


def test_two_workers_that_answer_unlike_numbers_of_requests_end_in_one_line() -> None:
    clock, base, head, _ = _clients()
    base.latencies_ms = [10.0, 10.0]
    with pytest.raises(MeasureError, match=r"the worker of base answered 4 requests and that of head 2, "):
        measure_pair(LivePair(number=0, base=base, head=head), [_figure("kept_per_s")], WORK, clock=clock)
