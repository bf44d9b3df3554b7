"""How the requests of a batch are answered where the encoder or a callback fails."""

import asyncio
from concurrent.futures import Future

import pytest

from embedopt.inference.encoder import FloatArray
from tests.fakes import FakeClock, FakeEncoder
from tests.serving.stand_ins import (
    GuiltyEncoder,
    Raising,
    ShortEncoder,
    close_and_drain,
    count_accepted,
    is_answer,
    make_scheduler,
)


def test_an_answer_keeps_no_other_in_memory() -> None:
    scheduler = make_scheduler(FakeEncoder())
    futures = [scheduler.submit("a"), scheduler.submit("b")]
    scheduler.step()
    assert [future.result(timeout=0).base for future in futures] == [None, None]


def test_where_a_batch_fails_only_the_guilty_texts_fail_each_with_its_own_error() -> None:
    encoder = GuiltyEncoder()
    scheduler = make_scheduler(encoder)
    texts = ["a", "guilty b", "c", "guilty d"]
    futures = [scheduler.submit(text) for text in texts]
    close_and_drain(scheduler)
    assert max(map(len, encoder.calls)) > 1
    errors = [futures[index].exception() for index in (1, 3)]
    assert [(str(error), error and error.__context__) for error in errors] == [
        ("guilty b", None),
        ("guilty d", None),
    ]
    assert is_answer(futures[0], "a")
    assert is_answer(futures[2], "c")


def test_where_a_batch_fails_a_request_that_has_become_too_late_is_not_tried_again() -> None:
    clock = FakeClock()
    encoder = GuiltyEncoder(on_encode=lambda _: clock.advance(0.010))
    scheduler = make_scheduler(encoder, clock)
    late, guilty = scheduler.submit("a", timeout_s=0.011), scheduler.submit("guilty")
    assert scheduler.step() == 2
    assert encoder.calls == [["a", "guilty"], ["guilty"]]
    assert str(late.exception()) == "the deadline can no longer be met: try again later"
    assert str(guilty.exception()) == "guilty"


def test_a_failed_batch_teaches_nothing_about_costs() -> None:
    """A failure is quick: learning from it would accept every request."""
    scheduler = make_scheduler(GuiltyEncoder(), promise_ms=50.0)
    for _ in range(100):
        scheduler.submit("guilty " * 14)
        scheduler.step()
    assert count_accepted(scheduler) == 28


def test_rows_that_cant_be_copied_are_errors_of_their_texts() -> None:
    class Strange(FakeEncoder):
        def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
            embeddings = super()._encode(texts, batch_size)
            return [None] * len(texts) if "x" in texts else embeddings  # type: ignore[return-value]  # so wrong

    scheduler = make_scheduler(Strange())
    futures = [scheduler.submit("x"), scheduler.submit("y")]
    assert scheduler.step() == 2
    assert str(futures[0].exception()) == "'NoneType' object has no attribute 'copy'"
    assert is_answer(futures[1], "y")


def test_a_result_of_the_wrong_length_fails_the_whole_batch() -> None:
    encoder = ShortEncoder()
    scheduler = make_scheduler(encoder)
    futures = [scheduler.submit("a"), scheduler.submit("b")]
    scheduler.step()
    assert {str(future.exception()) for future in futures} == {
        "fake returned 1 embeddings for 2 texts; wanted one for each text: correct the encoder"
    }
    assert len(encoder.calls) == 1


def test_ctrl_c_is_raised_and_leaves_no_request_of_the_batch_unanswered() -> None:
    scheduler = make_scheduler(FakeEncoder(on_encode=Raising(KeyboardInterrupt("stop"))))
    encoded = [scheduler.submit("a"), scheduler.submit("b")]
    waiting = scheduler.submit("c " * 80)
    with pytest.raises(KeyboardInterrupt):
        scheduler.step()
    message = "fake ended with KeyboardInterrupt: stop"
    assert [str(future.exception(timeout=0)) for future in encoded] == [message, message]
    close_and_drain(scheduler)
    assert is_answer(waiting, "c " * 80)


def test_ctrl_c_while_texts_are_encoded_one_by_one_leaves_none_unanswered() -> None:
    """The batch fails, its first text is answered, and Ctrl-C comes with the second."""
    encoder = FakeEncoder(on_encode=Raising(KeyboardInterrupt("stop"), *[ValueError("no")] * 2))
    scheduler = make_scheduler(encoder)
    futures = [scheduler.submit(text) for text in ("a", "b", "c")]
    with pytest.raises(KeyboardInterrupt):
        scheduler.step()
    message = "fake ended with KeyboardInterrupt: stop"
    assert [str(future.exception(timeout=0)) for future in futures] == ["no", message, message]


def test_a_callback_that_raises_harms_no_other_request() -> None:
    """Not even with a BaseException: where an event loop has ended, its callback raises CancelledError."""

    def give_up(_: "Future[FloatArray]") -> None:
        raise asyncio.CancelledError

    scheduler = make_scheduler(FakeEncoder())
    futures = [scheduler.submit("a"), scheduler.submit("b")]
    futures[0].add_done_callback(give_up)
    assert scheduler.step() == 2
    assert all(map(is_answer, futures, ("a", "b")))
