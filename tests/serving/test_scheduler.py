"""Which requests are accepted and encoded, and when; by a fake clock, stepped on the test's own thread."""

import math
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedopt.errors import EmbedoptError, InputError, Overloaded
from embedopt.inference.encoder import FloatArray, IntArray, TokenizedText
from tests.fakes import FakeClock, FakeEncoder
from tests.serving.script import Script
from tests.serving.stand_ins import (
    TEXT,
    CountingEncoder,
    close_and_drain,
    count_accepted,
    is_answer,
    make_cost,
    make_scheduler,
)

NOT_ENCODED = "the batcher was closed before this text was encoded: submit it to a new one"


def test_a_lone_request_is_encoded_alone_and_at_once() -> None:
    encoder = FakeEncoder()
    scheduler = make_scheduler(encoder)
    future = scheduler.submit("welder")
    assert scheduler.step() == 1
    assert is_answer(future, "welder")
    assert encoder.calls == [["welder"]]
    assert scheduler.step() == 0


def test_what_has_gathered_is_one_batch_and_each_request_gets_its_own_answer() -> None:
    encoder = FakeEncoder()
    scheduler = make_scheduler(encoder)
    texts = ["a b", "c d", "e f"]
    futures = [scheduler.submit(text) for text in texts]
    assert scheduler.step() == 3
    assert encoder.calls == [texts]
    assert all(map(is_answer, futures, texts))


def test_requests_that_arrive_while_a_batch_is_encoded_are_in_the_next() -> None:
    late: list[Future[FloatArray]] = []
    encoder = FakeEncoder(on_encode=lambda _: late.append(scheduler.submit("late")) if not late else None)
    scheduler = make_scheduler(encoder)
    first = scheduler.submit("first")
    scheduler.step()
    assert is_answer(first, "first")
    assert not late[0].done()
    scheduler.step()
    assert is_answer(late[0], "late")
    assert encoder.calls == [["first"], ["late"]]


def test_texts_of_like_length_share_a_batch_and_the_oldest_is_encoded_first() -> None:
    encoder = FakeEncoder()
    clock = FakeClock()
    scheduler = make_scheduler(encoder, clock, promise_ms=100.0)
    long, longer = "a " * 60, "b " * 61
    for text in (long, "x", longer, "y"):
        scheduler.submit(text)
        clock.advance(0.0001)
    assert [scheduler.step(), scheduler.step()] == [2, 2]
    assert encoder.calls == [[long, longer], ["x", "y"]]


def test_free_replicas_share_what_has_gathered() -> None:
    encoder = FakeEncoder()
    encoder.replicas = 2
    scheduler = make_scheduler(encoder)
    for text in ("a", "b", "c", "d"):
        scheduler.submit(text)
    scheduler.step()
    assert encoder.calls == [["a", "b"]]


def test_the_nearest_deadline_is_encoded_first() -> None:
    encoder = FakeEncoder()
    scheduler = make_scheduler(encoder)
    scheduler.submit("a " * 80)
    scheduler.submit("b", timeout_s=0.040)
    scheduler.step()
    assert encoder.calls == [["b"]]


def test_a_text_is_tokenized_once_and_encoded_with_its_tokens() -> None:
    class Tokenizing(FakeEncoder):
        def _tokenize(self, texts: list[str]) -> list[TokenizedText]:
            return [TokenizedText(text, 3, [1, 2, len(text)], self) for text in texts]

        def _encode_tokenized(self, texts: Sequence[TokenizedText]) -> FloatArray:
            encoded.extend(text.ids for text in texts)
            return super()._encode_tokenized(texts)

    encoded: list[Sequence[int] | None] = []
    scheduler = make_scheduler(Tokenizing())
    future = scheduler.submit("abc")
    scheduler.step()
    assert encoded == [[1, 2, 3]]
    assert is_answer(future, "abc")


def test_a_long_text_is_tokenized_alone() -> None:
    tokenized: list[list[str]] = []
    scheduler = make_scheduler(CountingEncoder(on_count=tokenized.append))
    long = "b " * 5001
    for text in ("a", long, "c"):
        scheduler.submit(text)
    assert [scheduler.step() for _ in range(3)] == [1, 1, 1]
    assert tokenized == [["a"], [long], ["c"]]


@pytest.mark.parametrize("counts", [None, [3, 3]])
def test_texts_that_cant_be_tokenized_are_encoded_all_the_same(counts: list[int] | None) -> None:
    """The tokenizer fails, or returns two counts for one text."""

    class Countless(FakeEncoder):
        def _token_counts(self, texts: list[str]) -> IntArray:
            if counts is None:
                raise ValueError("no tokenizer")
            return np.asarray(counts)

    scheduler = make_scheduler(Countless())
    future = scheduler.submit("a")
    assert scheduler.step() == 1
    assert is_answer(future, "a")


@pytest.mark.parametrize("text", ["\ud800", None, 7])
def test_what_is_no_valid_text_is_refused_at_once(text: str) -> None:
    with pytest.raises(InputError, match=r"^text 0 "):
        make_scheduler(FakeEncoder()).submit(text)


def test_a_timeout_that_is_not_a_number_is_refused_at_once() -> None:
    message = r"^timeout_s is nan; wanted seconds, or None for an answer at any time$"
    with pytest.raises(InputError, match=message):
        make_scheduler(FakeEncoder()).submit("a", timeout_s=math.nan)


def test_a_full_queue_refuses_at_once() -> None:
    scheduler = make_scheduler(FakeEncoder(), max_waiting=2)
    accepted = [scheduler.submit("a"), scheduler.submit("b")]
    message = r"^2 requests are waiting; wanted fewer than 2: try again later$"
    with pytest.raises(Overloaded, match=message):
        scheduler.submit("c")
    close_and_drain(scheduler)
    assert [future.done() for future in accepted] == [True, True]


def test_a_cancelled_request_makes_room_in_a_full_queue() -> None:
    encoder = FakeEncoder()
    scheduler = make_scheduler(encoder, max_waiting=1)
    assert scheduler.submit("a").cancel()
    future = scheduler.submit("b")
    scheduler.step()
    assert is_answer(future, "b")
    assert encoder.calls == [["b"]]


def test_cancelled_requests_make_room_at_once_where_the_promise_left_none() -> None:
    scheduler = make_scheduler(FakeEncoder(), promise_ms=50.0)
    futures = [scheduler.submit(TEXT) for _ in range(28)]
    assert count_accepted(scheduler) == 0
    assert all(future.cancel() for future in futures)
    assert count_accepted(scheduler) == 28


def test_a_request_that_would_be_answered_later_than_promised_is_refused_at_once() -> None:
    """28 texts of 16 tokens are 44.8 ms, and five batches of 1 ms each: one more would be late."""
    scheduler = make_scheduler(FakeEncoder(), promise_ms=50.0)
    assert count_accepted(scheduler) == 28
    with pytest.raises(
        Overloaded, match=r"^an answer would take 5\d ms; wanted at most 50 ms: try again later$"
    ):
        scheduler.submit(TEXT)


def test_an_idle_replica_accepts_a_request_that_will_be_late() -> None:
    """Else a machine slower than the promise would never answer, and never learn that it is not."""

    def submit_while_busy(_: int) -> None:
        message = r"^an answer would take 200\d ms; wanted at most 50 ms: try again later$"
        with pytest.raises(Overloaded, match=message):
            scheduler.submit("c")

    scheduler = make_scheduler(FakeEncoder(on_encode=submit_while_busy), cost=make_cost(fixed_s=1.0))
    future = scheduler.submit("a")
    with pytest.raises(Overloaded):
        scheduler.submit("b")
    assert scheduler.step() == 1
    assert is_answer(future, "a")


@pytest.mark.parametrize(("timeout_s", "allowed"), [(0.001, 1), (-1.0, 0)])
def test_a_deadline_that_cant_be_met_is_refused_at_once(timeout_s: float, allowed: int) -> None:
    message = rf"^an answer would take 3 ms; wanted at most {allowed} ms: try again later$"
    with pytest.raises(Overloaded, match=message):
        make_scheduler(FakeEncoder()).submit("a", timeout_s=timeout_s)


def test_a_batch_that_is_being_encoded_delays_the_requests_that_arrive() -> None:
    """A batch of 16 tokens and the one after it take 2.6 ms each."""
    accepted: list[Future[FloatArray]] = []

    def submit_while_busy(_: int) -> None:
        if not accepted:
            message = r"^an answer would take 5 ms; wanted at most 4 ms: try again later$"
            with pytest.raises(Overloaded, match=message):
                scheduler.submit(TEXT, timeout_s=0.004)
            accepted.append(scheduler.submit(TEXT, timeout_s=0.006))

    scheduler = make_scheduler(FakeEncoder(on_encode=submit_while_busy))
    scheduler.submit(TEXT)
    assert [scheduler.step(), scheduler.step()] == [1, 1]
    assert is_answer(accepted[0], TEXT)


def test_a_deadline_that_can_no_longer_be_met_is_refused_and_not_encoded() -> None:
    encoder = FakeEncoder()
    clock = FakeClock()
    scheduler = make_scheduler(encoder, clock)
    early, late = scheduler.submit("early", timeout_s=0.010), scheduler.submit("late", timeout_s=0.020)
    clock.advance(0.009)
    assert scheduler.step() == 2
    assert str(early.exception()) == "the deadline can no longer be met: try again later"
    assert isinstance(early.exception(), Overloaded)
    assert is_answer(late, "late")
    assert encoder.calls == [["late"]]


def test_a_cancelled_request_is_not_encoded() -> None:
    encoder = FakeEncoder()
    scheduler = make_scheduler(encoder)
    cancelled, kept = scheduler.submit("a " * 80), scheduler.submit("b")
    assert cancelled.cancel()
    assert scheduler.step() == 1  # and no batch is made around it
    assert encoder.calls == [["b"]]
    assert is_answer(kept, "b")


def test_a_request_that_is_being_encoded_cant_be_cancelled() -> None:
    cancelled: list[bool] = []
    scheduler = make_scheduler(FakeEncoder(on_encode=lambda _: cancelled.append(future.cancel())))
    future = scheduler.submit("a")
    scheduler.step()
    assert cancelled == [False]
    assert is_answer(future, "a")


def test_costs_are_learnt_from_the_batches() -> None:
    """A machine that became ten times slower accepts as few requests as if it had always been so slow."""
    clock = FakeClock()
    encoder = FakeEncoder(on_encode=lambda texts: clock.advance(0.010 + 0.016 * texts))
    scheduler = make_scheduler(encoder, clock, promise_ms=200.0)
    for size in (1, 2, 3) * 100:
        for _ in range(size):
            scheduler.submit(TEXT)
        while scheduler.step():
            pass
    slow = make_scheduler(FakeEncoder(), clock, make_cost(0.010, 0.001), promise_ms=200.0)
    fast = make_scheduler(encoder, clock, promise_ms=200.0)
    assert count_accepted(scheduler) == count_accepted(slow) < count_accepted(fast)


def test_the_average_length_of_a_text_is_learnt_from_the_requests() -> None:
    """A new text is expected to have 62 tokens, which take 7.2 ms."""
    clock = FakeClock()
    scheduler = make_scheduler(FakeEncoder(on_encode=lambda _: clock.advance(0.0072)), clock)
    for _ in range(300):
        scheduler.submit("a " * 60)
        scheduler.step()
    message = r"^an answer would take 7 ms; wanted at most 5 ms: try again later$"
    with pytest.raises(Overloaded, match=message):
        scheduler.submit("a", timeout_s=0.005)


def test_where_all_answers_are_late_fewer_requests_are_accepted() -> None:
    """Down to those whose expected latency is a quarter of the promise."""
    clock = FakeClock()
    scheduler = make_scheduler(FakeEncoder(on_encode=lambda _: clock.advance(0.060)), clock, promise_ms=50.0)
    for _ in range(100):
        scheduler.submit(TEXT)
        scheduler.step()
    assert count_accepted(scheduler) == 1
    with pytest.raises(Overloaded, match=r"wanted at most 12 ms: try again later$"):
        scheduler.submit(TEXT)


def test_a_closed_scheduler_encodes_what_waits_and_accepts_no_more() -> None:
    scheduler = make_scheduler(FakeEncoder())
    future = scheduler.submit("a")
    close_and_drain(scheduler)
    assert is_answer(future, "a")
    with pytest.raises(EmbedoptError, match=r"^the batcher is closed: make a new one$"):
        scheduler.submit("late")


def test_closing_without_draining_refuses_what_waits() -> None:
    """At once, without a step: what was tokenized for an earlier batch, and what has just arrived."""
    encoder = FakeEncoder()
    scheduler = make_scheduler(encoder)
    scheduler.submit("a")
    refused = [scheduler.submit("b " * 80)]
    scheduler.step()
    refused += [scheduler.submit("c")]
    cancelled = scheduler.submit("d")
    assert cancelled.cancel()
    scheduler.close(drain=False)
    assert [str(future.exception(timeout=0)) for future in refused] == [NOT_ENCODED, NOT_ENCODED]
    assert encoder.calls == [["a"]]
    assert cancelled.cancelled()


def test_closing_without_draining_refuses_what_is_being_tokenized() -> None:
    encoder = CountingEncoder(on_count=lambda _: scheduler.close(drain=False))
    scheduler = make_scheduler(encoder)
    future = scheduler.submit("a")
    scheduler.step()
    assert str(future.exception(timeout=0)) == NOT_ENCODED
    assert encoder.calls == []


_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "submit", "submit", "encode", "cancel", "wait", "meanwhile", "ending"]),
        st.integers(0, 60),
    ),
    min_size=80,
    max_size=80,
)


@settings(max_examples=1250, deadline=None)  # 100,000 events in all
@given(events=_EVENTS, replicas=st.integers(1, 3), drain=st.booleans())
def test_every_accepted_request_gets_exactly_one_answer_its_own(
    events: list[tuple[str, int]], replicas: int, drain: bool
) -> None:
    """No request is lost, answered twice or with another's embedding, or encoded after it was cancelled."""
    script = Script(replicas)
    for event in events:
        script.play(event)
    script.close(drain=drain)
    encoded_in = script.encoder.encoded_in
    assert [request.answers for request in script.accepted] == [1] * len(script.accepted)
    assert not set().union(*encoded_in.values()) & {
        request.text for request in script.accepted if request.cancelled
    }
    for request in script.accepted:
        if request.cancelled:
            assert request.future.cancelled()
            continue
        match error := request.future.exception(timeout=0):
            case None:
                assert is_answer(request.future, request.text)
                assert "guilty" not in request.text
            case ValueError():
                assert "guilty" in request.text
                assert str(error) == request.text
            case MemoryError():
                assert request.text in encoded_in["failed"]
            case Overloaded():
                assert request.has_deadline
            case EmbedoptError() if "embeddings for" in str(error):
                assert request.text in encoded_in["short"]
            case _:
                assert "closed before this text was encoded" in str(error)
                assert not drain
                assert request.text not in set().union(*encoded_in.values())
