"""One test a promise, then random events: every accepted request gets exactly one answer, its own.

Time is a fake clock, batches are encoded by :meth:`AdaptiveBatcher.step` on the test's own thread; the tests
on real threads wait for answers, never for a time.
"""

import asyncio
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedopt.errors import EmbedoptError, InputError, Overloaded
from embedopt.inference.encoder import FloatArray, IntArray
from embedopt.serving.batcher import AdaptiveBatcher
from embedopt.serving.policy import Cost, Limits
from tests.fakes import FakeClock, FakeEncoder, fake_embedding

CLOCK = FakeClock()
TEXT = "a " * 14  # of 16 tokens, as many as a text is taken for before the first is counted


def _cost(base_s: float = 0.001, token_s: float = 0.0001) -> Cost:
    return Cost().learned(10, base_s + 10 * token_s).learned(100, base_s + 100 * token_s)


def make_batcher(
    encoder: FakeEncoder, clock: FakeClock = CLOCK, *, start: bool = False, **limits: float
) -> AdaptiveBatcher:
    return AdaptiveBatcher(
        encoder,
        Limits(**limits),  # type: ignore[arg-type]  # integers where they should be
        cost=_cost(),
        clock=clock,
        start=start,
    )


def admitted(batcher: AdaptiveBatcher, texts: int = 1000) -> int:
    """How many requests a batcher accepts at a time."""
    for accepted in range(texts):
        try:
            batcher.submit(TEXT)
        except Overloaded:
            return accepted
    return texts


def is_answer(future: "Future[FloatArray]", text: str) -> bool:
    return bool(np.array_equal(future.result(timeout=0), fake_embedding(text)))


class Raising:
    """Told of a call, it raises the next of these, while there are any."""

    def __init__(self, *errors: BaseException) -> None:
        self._errors = list(errors)

    def __call__(self, _: int) -> None:
        if self._errors:
            raise self._errors.pop()


class CountingEncoder(FakeEncoder):
    """Tells ``on_count`` which texts it counts."""

    def __init__(self, on_count: Callable[[list[str]], None]) -> None:
        super().__init__()
        self._on_count = on_count

    def _token_counts(self, texts: list[str]) -> IntArray:
        self._on_count(texts)
        return super()._token_counts(texts)


class GuiltyEncoder(FakeEncoder):
    """Can't encode texts with "guilty" in them, and says which."""

    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        embeddings = super()._encode(texts, batch_size)
        for text in texts:
            if "guilty" in text:
                raise ValueError(text)
        return embeddings


class ShortEncoder(FakeEncoder):
    """Loses the last embedding of each batch."""

    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        return super()._encode(texts, batch_size)[:-1]


def test_a_lone_request_is_encoded_alone_and_at_once() -> None:
    encoder = FakeEncoder()
    batcher = make_batcher(encoder)
    future = batcher.submit("welder")
    assert batcher.step() == 1
    assert is_answer(future, "welder")
    assert encoder.calls == [["welder"]]
    assert batcher.step() == 0


def test_what_has_gathered_goes_next_in_one_batch_each_answer_to_its_own_text() -> None:
    encoder = FakeEncoder()
    batcher = make_batcher(encoder)
    texts = ["a b", "c d", "e f"]
    futures = [batcher.submit(text) for text in texts]
    assert batcher.step() == 3
    assert encoder.calls == [texts]
    assert all(map(is_answer, futures, texts))


def test_requests_that_come_while_a_batch_is_encoded_wait_for_the_next() -> None:
    late: list[Future[FloatArray]] = []
    encoder = FakeEncoder(on_encode=lambda _: late.append(batcher.submit("late")) if not late else None)
    batcher = make_batcher(encoder)
    first = batcher.submit("first")
    batcher.step()
    assert is_answer(first, "first")
    assert not late[0].done()
    batcher.step()
    assert is_answer(late[0], "late")
    assert encoder.calls == [["first"], ["late"]]


def test_texts_of_like_length_share_a_batch_and_the_oldest_comes_first() -> None:
    encoder = FakeEncoder()
    clock = FakeClock()
    batcher = make_batcher(encoder, clock, promise_ms=100.0)
    long, longer = "a " * 60, "b " * 61
    for text in (long, "x", longer, "y"):
        batcher.submit(text)
        clock.advance(0.0001)
    assert [batcher.step(), batcher.step()] == [2, 2]
    assert encoder.calls == [[long, longer], ["x", "y"]]


def test_a_full_queue_refuses_at_once() -> None:
    batcher = make_batcher(FakeEncoder(), max_waiting=2)
    accepted = [batcher.submit("a"), batcher.submit("b")]
    with pytest.raises(Overloaded, match=r"^2 requests wait; wanted fewer than that: try again later$"):
        batcher.submit("c")
    batcher.close()
    assert [future.done() for future in accepted] == [True, True]


def test_a_cancelled_request_makes_room_in_a_full_queue() -> None:
    encoder = FakeEncoder()
    batcher = make_batcher(encoder, max_waiting=1)
    assert batcher.submit("a").cancel()
    future = batcher.submit("b")
    batcher.step()
    assert is_answer(future, "b")
    assert encoder.calls == [["b"]]


def test_cancelled_requests_make_room_at_once_where_it_was_time_that_lacked() -> None:
    batcher = make_batcher(FakeEncoder(), promise_ms=50.0)
    futures = [batcher.submit(TEXT) for _ in range(28)]
    assert admitted(batcher) == 0
    assert all(future.cancel() for future in futures)
    assert admitted(batcher) == 28


def test_what_would_be_answered_later_than_promised_is_refused_at_once() -> None:
    """28 texts of 16 tokens are 44.8 ms, and five batches of 1 ms each: one more would be late."""
    batcher = make_batcher(FakeEncoder(), promise_ms=50.0)
    assert admitted(batcher) == 28
    with pytest.raises(Overloaded, match=r"^an answer would take 5\d ms; wanted 50: try again later$"):
        batcher.submit(TEXT)


def test_an_idle_batcher_accepts_what_must_be_late() -> None:
    """Else a machine slower than the promise would never answer, and never learn that it is not."""

    def ask_while_busy(_: int) -> None:
        with pytest.raises(Overloaded, match=r"^an answer would take 200\d ms; wanted 50: try again later$"):
            batcher.submit("c")

    encoder = FakeEncoder(on_encode=ask_while_busy)
    batcher = AdaptiveBatcher(encoder, cost=_cost(base_s=1.0), clock=CLOCK, start=False)
    future = batcher.submit("a")
    with pytest.raises(Overloaded):
        batcher.submit("b")
    assert batcher.step() == 1
    assert is_answer(future, "a")


def test_a_deadline_that_cant_be_met_is_refused_at_once() -> None:
    batcher = make_batcher(FakeEncoder())
    with pytest.raises(Overloaded, match=r"^an answer would take 3 ms; wanted 1: try again later$"):
        batcher.submit("a", timeout_s=0.001)
    with pytest.raises(Overloaded, match=r"^an answer would take 3 ms; wanted 0: try again later$"):
        batcher.submit("a", timeout_s=-1.0)


def test_a_time_that_is_no_number_is_refused_at_once() -> None:
    said = r"^timeout_s is nan; wanted seconds, or None for an answer at any time$"
    with pytest.raises(InputError, match=said):
        make_batcher(FakeEncoder()).submit("a", timeout_s=math.nan)


def test_what_is_being_encoded_delays_those_who_come() -> None:
    """A batch of 16 tokens and the one after it take 2.6 ms each."""
    accepted: list[Future[FloatArray]] = []

    def ask_while_busy(_: int) -> None:
        if not accepted:
            with pytest.raises(Overloaded, match=r"^an answer would take 5 ms; wanted 4: try again later$"):
                batcher.submit(TEXT, timeout_s=0.004)
            accepted.append(batcher.submit(TEXT, timeout_s=0.006))

    batcher = make_batcher(FakeEncoder(on_encode=ask_while_busy))
    batcher.submit(TEXT)
    assert [batcher.step(), batcher.step()] == [1, 1]
    assert is_answer(accepted[0], TEXT)


def test_free_replicas_share_what_has_gathered() -> None:
    encoder = FakeEncoder()
    encoder.replicas = 2
    batcher = make_batcher(encoder)
    for text in ("a", "b", "c", "d"):
        batcher.submit(text)
    batcher.step()
    assert encoder.calls == [["a", "b"]]


def test_texts_are_encoded_as_they_were_tokenised() -> None:
    class Tokenizing(FakeEncoder):
        def _tokenized(self, texts: list[str]) -> list[str]:
            return [f"{text}, tokenised" for text in texts]

    encoder = Tokenizing()
    batcher = make_batcher(encoder)
    batcher.submit("a")
    batcher.step()
    assert encoder.calls == [["a, tokenised"]]


def test_an_answer_keeps_no_other_in_memory() -> None:
    batcher = make_batcher(FakeEncoder())
    futures = [batcher.submit("a"), batcher.submit("b")]
    batcher.step()
    assert [future.result(timeout=0).base for future in futures] == [None, None]


def test_a_deadline_that_can_no_longer_be_met_is_refused_and_not_encoded() -> None:
    encoder = FakeEncoder()
    clock = FakeClock()
    batcher = make_batcher(encoder, clock)
    early, late = batcher.submit("early", timeout_s=0.010), batcher.submit("late", timeout_s=0.020)
    clock.advance(0.009)
    assert batcher.step() == 2
    assert str(early.exception()) == "there is no time left to answer: try again later"
    assert isinstance(early.exception(), Overloaded)
    assert is_answer(late, "late")
    assert encoder.calls == [["late"]]


def test_the_nearest_deadline_goes_first() -> None:
    encoder = FakeEncoder()
    batcher = make_batcher(encoder)
    batcher.submit("a " * 80)
    batcher.submit("b", timeout_s=0.040)
    batcher.step()
    assert encoder.calls == [["b"]]


def test_a_cancelled_request_is_not_encoded() -> None:
    encoder = FakeEncoder()
    batcher = make_batcher(encoder)
    cancelled, kept = batcher.submit("a " * 80), batcher.submit("b")
    assert cancelled.cancel()
    assert batcher.step() == 1  # and no batch is made around it
    assert encoder.calls == [["b"]]
    assert is_answer(kept, "b")


def test_what_is_being_encoded_cant_be_cancelled() -> None:
    cancelled: list[bool] = []
    encoder = FakeEncoder(on_encode=lambda _: cancelled.append(future.cancel()))
    batcher = make_batcher(encoder)
    future = batcher.submit("a")
    batcher.step()
    assert cancelled == [False]
    assert is_answer(future, "a")


def test_of_a_batch_that_fails_only_the_guilty_text_fails_with_its_own_error() -> None:
    encoder = GuiltyEncoder()
    batcher = make_batcher(encoder)
    texts = ["a", "guilty b", "c", "guilty d"]
    futures = [batcher.submit(text) for text in texts]
    batcher.close()
    assert sorted(map(len, encoder.calls))[-1] > 1
    errors = [futures[index].exception() for index in (1, 3)]
    assert [(str(error), error and error.__context__) for error in errors] == [
        ("guilty b", None),
        ("guilty d", None),
    ]
    assert is_answer(futures[0], "a")
    assert is_answer(futures[2], "c")


def test_of_a_batch_that_fails_what_has_become_too_late_is_not_tried_again() -> None:
    clock = FakeClock()
    encoder = GuiltyEncoder(on_encode=lambda _: clock.advance(0.010))
    batcher = make_batcher(encoder, clock)
    late, guilty = batcher.submit("a", timeout_s=0.011), batcher.submit("guilty")
    assert batcher.step() == 2
    assert encoder.calls == [["a", "guilty"], ["guilty"]]
    assert str(late.exception()) == "there is no time left to answer: try again later"
    assert str(guilty.exception()) == "guilty"


def test_rows_that_cant_be_copied_are_errors_of_their_texts() -> None:
    class Strange(FakeEncoder):
        def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
            embeddings = super()._encode(texts, batch_size)
            return [None] * len(texts) if "x" in texts else embeddings  # type: ignore[return-value]  # so wrong

    batcher = make_batcher(Strange())
    futures = [batcher.submit("x"), batcher.submit("y")]
    assert batcher.step() == 2
    assert str(futures[0].exception()) == "'NoneType' object has no attribute 'copy'"
    assert is_answer(futures[1], "y")


@pytest.mark.parametrize("kind", [StopIteration, SystemExit])
def test_what_no_event_loop_can_raise_reaches_the_owner_as_an_error(kind: type[BaseException]) -> None:
    encoder = FakeEncoder(on_encode=Raising(kind("no"), kind("no")))
    with make_batcher(encoder, start=True) as batcher:
        told = batcher.submit("a").exception(timeout=60)
        assert str(told) == f"fake ended with {kind.__name__}: no"
        assert type(told and told.__cause__) is kind
        with pytest.raises(EmbedoptError) as awaited:
            asyncio.run(batcher.embed("b"))
        assert (str(awaited.value), type(awaited.value.__cause__)) == (str(told), kind)
        np.testing.assert_array_equal(batcher.submit("c").result(timeout=60), fake_embedding("c"))


def test_ctrl_c_goes_through_and_leaves_no_request_unanswered() -> None:
    batcher = make_batcher(FakeEncoder(on_encode=Raising(KeyboardInterrupt("stop"))))
    encoded = [batcher.submit("a"), batcher.submit("b")]
    waiting = batcher.submit("c " * 80)
    with pytest.raises(KeyboardInterrupt):
        batcher.step()
    said = "fake ended with KeyboardInterrupt: stop"
    assert [str(future.exception(timeout=0)) for future in encoded] == [said, said]
    batcher.close()
    assert is_answer(waiting, "c " * 80)


def test_a_callback_that_raises_harms_nobody_else() -> None:
    """Not even what is no error: where a loop has ended, its callback raises CancelledError."""

    def give_up(_: "Future[FloatArray]") -> None:
        raise asyncio.CancelledError

    batcher = make_batcher(FakeEncoder())
    futures = [batcher.submit("a"), batcher.submit("b")]
    futures[0].add_done_callback(give_up)
    assert batcher.step() == 2
    assert all(map(is_answer, futures, ("a", "b")))


def test_a_failure_teaches_nothing_of_costs() -> None:
    """It is quick: else everybody would be let in."""
    batcher = make_batcher(GuiltyEncoder(), promise_ms=50.0)
    for _ in range(100):
        batcher.submit("guilty " * 14)
        batcher.step()
    assert admitted(batcher) == 28


def test_a_result_of_the_wrong_length_fails_the_whole_batch() -> None:
    encoder = ShortEncoder()
    batcher = make_batcher(encoder)
    futures = [batcher.submit("a"), batcher.submit("b")]
    batcher.step()
    assert {str(future.exception()) for future in futures} == {
        "fake returned 1 embeddings for 2 texts: whose they are is not known; mend the encoder"
    }
    assert len(encoder.calls) == 1


def test_texts_that_cant_be_counted_are_encoded_all_the_same() -> None:
    class Countless(FakeEncoder):
        def _token_counts(self, texts: list[str]) -> IntArray:
            raise ValueError("no tokenizer")

    batcher = make_batcher(Countless())
    future = batcher.submit("a")
    batcher.step()
    assert is_answer(future, "a")


@pytest.mark.parametrize("text", ["\ud800", None, 7])
def test_a_text_that_is_none_is_refused_at_once(text: str) -> None:
    with pytest.raises(InputError, match=r"^text 0 "):
        make_batcher(FakeEncoder()).submit(text)


def test_costs_are_learnt_as_it_runs() -> None:
    """A machine ten times slower than it was is soon known for it: as few are let in as if it always was."""
    clock = FakeClock()
    encoder = FakeEncoder(on_encode=lambda texts: clock.advance(0.010 + 0.016 * texts))
    batcher = make_batcher(encoder, clock, promise_ms=200.0)
    for size in (1, 2, 3) * 100:
        for _ in range(size):
            batcher.submit(TEXT)
        while batcher.step():
            pass
    slow = AdaptiveBatcher(
        FakeEncoder(), Limits(promise_ms=200.0), cost=_cost(0.010, 0.001), clock=clock, start=False
    )
    assert admitted(batcher) == admitted(slow) < admitted(make_batcher(encoder, clock, promise_ms=200.0))


def test_the_usual_length_of_a_text_is_learnt_as_it_runs() -> None:
    """What comes is taken for as long: 62 tokens, 7.2 ms."""
    clock = FakeClock()
    batcher = make_batcher(FakeEncoder(on_encode=lambda _: clock.advance(0.0072)), clock)
    for _ in range(300):
        batcher.submit("a " * 60)
        batcher.step()
    with pytest.raises(Overloaded, match=r"^an answer would take 7 ms; wanted 5: try again later$"):
        batcher.submit("a", timeout_s=0.005)


def test_where_all_answers_are_late_fewer_are_accepted() -> None:
    """Down to those that are expected within a quarter of the promise."""
    clock = FakeClock()
    batcher = make_batcher(FakeEncoder(on_encode=lambda _: clock.advance(0.060)), clock, promise_ms=50.0)
    for _ in range(100):
        batcher.submit(TEXT)
        batcher.step()
    assert admitted(batcher) == 1
    with pytest.raises(Overloaded, match=r"wanted 12: try again later$"):
        batcher.submit(TEXT)


def test_without_known_costs_it_tries_a_few_texts_first() -> None:
    encoder = FakeEncoder(on_encode=lambda texts: clock.advance(0.004 * texts))
    clock = FakeClock()
    batcher = AdaptiveBatcher(encoder, clock=clock, start=False)
    assert len(encoder.calls) == 6
    with pytest.raises(Overloaded, match=r"^an answer would take"):
        batcher.submit("a", timeout_s=0.0001)


def test_closing_drains() -> None:
    batcher = make_batcher(FakeEncoder(), start=True)
    futures = [batcher.submit(str(number)) for number in range(5)]
    batcher.close()
    batcher.close()
    assert all(is_answer(future, str(number)) for number, future in enumerate(futures))
    with pytest.raises(EmbedoptError, match=r"^the batcher is closed: make a new one$"):
        batcher.submit("late")


def test_closing_without_draining_refuses_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, without a step: what was counted for an earlier batch, and what has just come."""
    encoder = FakeEncoder()
    batcher = make_batcher(encoder)
    batcher.submit("a")
    refused = [batcher.submit("b " * 80)]
    batcher.step()
    refused += [batcher.submit("c")]
    cancelled = batcher.submit("d")
    assert cancelled.cancel()
    monkeypatch.setattr(batcher, "step", None)
    batcher.close(drain=False)
    said = "the batcher was closed before this was encoded"
    assert [str(future.exception(timeout=0)) for future in refused] == [said, said]
    assert encoder.calls == [["a"]]
    assert cancelled.cancelled()


def test_closing_without_draining_refuses_what_is_being_counted() -> None:
    def close(_: list[str]) -> None:
        batcher.close(drain=False)

    encoder = CountingEncoder(on_count=close)
    batcher = make_batcher(encoder)
    future = batcher.submit("a")
    batcher.step()
    assert str(future.exception(timeout=0)) == "the batcher was closed before this was encoded"
    assert encoder.calls == []


def test_an_answers_callback_may_submit_and_close() -> None:
    answered: list[Future[FloatArray]] = []

    def again(_: "Future[FloatArray]") -> None:
        answered.append(batcher.submit("second"))
        batcher.close()

    batcher = make_batcher(FakeEncoder(), start=True)
    batcher.submit("first").add_done_callback(again)
    while not answered:
        threading.Event().wait(0.001)
    np.testing.assert_array_equal(answered[0].result(timeout=60), fake_embedding("second"))
    batcher.close()


def test_each_replica_has_a_batch_of_its_own() -> None:
    """Two batches are in the encoder at once: each waits there until the other has come."""
    both = threading.Barrier(2, timeout=60)

    def meet(_: int) -> None:
        both.wait()

    encoder = FakeEncoder(on_encode=meet)
    encoder.replicas = 2
    with make_batcher(encoder, start=True) as batcher:
        futures = [batcher.submit("a"), batcher.submit("b c d e f g h i j k")]
        np.testing.assert_array_equal(futures[0].result(timeout=60), fake_embedding("a"))
    assert sorted(map(len, encoder.calls)) == [1, 1]


def test_callbacks_on_two_replicas_may_both_close() -> None:
    encoder = FakeEncoder()
    encoder.replicas = 2
    together, closed = threading.Barrier(2, timeout=60), threading.Barrier(3, timeout=60)

    def close(_: "Future[FloatArray]") -> None:
        together.wait()
        batcher.close()
        closed.wait()

    batcher = make_batcher(encoder, start=True)
    for text in ("a", "b c d e f g h i j k"):
        batcher.submit(text).add_done_callback(close)
    closed.wait()
    batcher.close()


def test_a_long_text_is_counted_by_itself() -> None:
    counted: list[list[str]] = []
    batcher = make_batcher(CountingEncoder(on_count=counted.append))
    long = "b " * 5001
    for text in ("a", long, "c"):
        batcher.submit(text)
    assert [batcher.step() for _ in range(3)] == [1, 1, 1]
    assert counted == [["a"], [long], ["c"]]


def test_while_a_huge_text_is_counted_others_are_encoded() -> None:
    """And nobody else takes the huge one."""
    counting, go_on = threading.Event(), threading.Event()
    huge = "a " * 10_000

    def hold(texts: list[str]) -> None:
        if huge in texts:
            counting.set()
            assert go_on.wait(timeout=60)

    encoder = CountingEncoder(on_count=hold)
    encoder.replicas = 2
    with make_batcher(encoder, start=True) as batcher:
        future = batcher.submit(huge)
        assert counting.wait(timeout=60)
        np.testing.assert_array_equal(batcher.submit("b").result(timeout=60), fake_embedding("b"))
        assert encoder.calls == [["b"]]
        go_on.set()
        np.testing.assert_array_equal(future.result(timeout=60), fake_embedding(huge))
    assert encoder.calls == [["b"], [huge]]


def test_the_event_loop_is_never_blocked() -> None:
    """While a batch is in the encoder, the loop runs on; what it does next lets the encoder go on."""
    inside, go_on = threading.Event(), threading.Event()

    def wait(_: int) -> None:
        inside.set()
        assert go_on.wait(timeout=60)

    async def ask() -> FloatArray:
        answer = asyncio.ensure_future(batcher.embed("a"))
        await asyncio.to_thread(inside.wait, 60)
        go_on.set()
        return await answer

    with make_batcher(FakeEncoder(on_encode=wait), start=True) as batcher:
        np.testing.assert_array_equal(asyncio.run(ask()), fake_embedding("a"))


def test_cancelling_a_task_drops_its_request() -> None:
    encoder = FakeEncoder()
    batcher = make_batcher(encoder)

    async def give_up() -> None:
        task = asyncio.ensure_future(batcher.embed("a"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    asyncio.run(give_up())
    assert batcher.step() == 0
    assert encoder.calls == []


def test_several_loops_and_threads_at_once_get_their_own_answers() -> None:
    encoder = FakeEncoder()
    encoder.replicas = 2
    wrong: list[str] = []

    def check(text: str, answer: FloatArray) -> None:
        if not np.array_equal(answer, fake_embedding(text)):
            wrong.append(text)

    async def ask_all(texts: Sequence[str]) -> None:
        for text, answer in zip(texts, await asyncio.gather(*map(batcher.embed, texts)), strict=True):
            check(text, answer)

    def submit_all(texts: Sequence[str]) -> None:
        for text, future in [(text, batcher.submit(text)) for text in texts]:
            check(text, future.result(timeout=60))

    with make_batcher(encoder, start=True, promise_ms=1e6, max_waiting=10_000) as batcher:
        runs: list[Callable[[Sequence[str]], None]] = [submit_all, lambda texts: asyncio.run(ask_all(texts))]
        threads = [
            threading.Thread(target=runs[caller % 2], args=([f"{caller} {turn}" for turn in range(50)],))
            for caller in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert sum(map(len, encoder.calls)) == 300


class _Script:
    """Plays events against a batcher, also while a batch is being encoded, and keeps book."""

    def __init__(self, replicas: int) -> None:
        self.clock = FakeClock()
        self.encoder = _ScriptedEncoder(self)
        self.encoder.replicas = replicas
        self.batcher = make_batcher(self.encoder, self.clock, max_waiting=12)
        self.sent: list[_Sent] = []
        self.stepping: set[int] = set()
        self.meanwhile: list[tuple[str, int]] = []
        self.moods: list[int] = []

    def play(self, event: tuple[str, int]) -> None:
        kind, value = event
        match kind:
            case "submit":
                self.submit(value)
            case "cancel" if self.sent:
                sent = self.sent[value % len(self.sent)]
                sent.cancelled |= sent.future.cancel()
            case "wait":
                self.clock.advance(value / 1000)
            case "encode":
                self.encode(value % self.encoder.replicas)
            case "meanwhile":
                self.meanwhile.append((("submit", "cancel", "encode")[value % 3], value // 3))
            case "mood":
                self.moods.append(value % 4)

    def submit(self, value: int) -> None:
        text = " ".join([f"{len(self.sent)}", *["guilty"] * (value % 7 == 0), *["x"] * (value % 30)])
        timeout_s = value / 500 if value % 3 == 0 else None
        try:
            sent = _Sent(text, timeout_s is not None, self.batcher.submit(text, timeout_s))
        except EmbedoptError:  # overloaded, or closed: the last batches let others in, too
            return
        self.sent.append(sent)
        sent.future.add_done_callback(sent.count)

    def encode(self, replica: int) -> None:
        if replica not in self.stepping:  # each has one batch at a time
            self.stepping.add(replica)
            self.batcher.step(replica)
            self.stepping.remove(replica)

    def close(self, *, drain: bool) -> None:
        self.stepping.add(0)  # it drains on this one
        self.batcher.close(drain=drain)


@dataclass
class _Sent:
    """A request that was accepted."""

    text: str
    has_deadline: bool
    future: "Future[FloatArray]"
    answers: int = 0
    cancelled: bool = False

    def count(self, _: "Future[FloatArray]") -> None:
        self.answers += 1


class _ScriptedEncoder(GuiltyEncoder):
    """Takes time, lets others in meanwhile, and has moods: 1 drops a row, 2 fails at all texts."""

    def __init__(self, script: _Script) -> None:
        super().__init__()
        self._script = script
        self.seen: dict[int, set[str]] = {mood: set() for mood in range(4)}

    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        self._script.clock.advance(0.002 * len(texts))
        meanwhile, self._script.meanwhile = self._script.meanwhile, []
        for event in meanwhile:
            self._script.play(event)
        mood = self._script.moods.pop() if self._script.moods else 0
        self.seen[mood].update(texts)
        if mood == 2:
            raise MemoryError("no memory")
        embeddings = super()._encode(texts, batch_size)
        return embeddings[: len(texts) - (mood == 1)]


_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "submit", "submit", "encode", "cancel", "wait", "meanwhile", "mood"]),
        st.integers(0, 60),
    ),
    min_size=80,
    max_size=80,
)


@settings(max_examples=1250, deadline=None)  # 100,000 events in all
@given(events=_EVENTS, replicas=st.integers(1, 3), drain=st.booleans())
def test_random_events(events: list[tuple[str, int]], replicas: int, drain: bool) -> None:
    """Nothing is lost, answered twice, answered with another's vector or encoded after it was cancelled."""
    script = _Script(replicas)
    for event in events:
        script.play(event)
    script.close(drain=drain)
    seen = script.encoder.seen
    assert [sent.answers for sent in script.sent] == [1] * len(script.sent)
    assert not set().union(*seen.values()) & {sent.text for sent in script.sent if sent.cancelled}
    for sent in script.sent:
        if sent.cancelled:
            assert sent.future.cancelled()
            continue
        match error := sent.future.exception(timeout=0):
            case None:
                assert is_answer(sent.future, sent.text)
                assert "guilty" not in sent.text
            case ValueError():
                assert "guilty" in sent.text
                assert str(error) == sent.text
            case MemoryError():
                assert sent.text in seen[2]
            case Overloaded():
                assert sent.has_deadline
            case EmbedoptError() if "embeddings for" in str(error):
                assert sent.text in seen[1]
            case _:
                assert str(error) == "the batcher was closed before this was encoded"
                assert not drain
                assert sent.text not in set().union(*seen.values())
