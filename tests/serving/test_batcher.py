"""The batcher on its own threads: tests wait for answers, never for a time."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import pytest

from embedopt.errors import EmbedoptError
from embedopt.inference.encoder import FloatArray
from embedopt.serving import batcher as batcher_module
from embedopt.serving.batcher import AdaptiveBatcher, warm_up
from embedopt.serving.policy import Limits
from tests.fakes import FakeClock, FakeEncoder, fake_embedding
from tests.serving.stand_ins import CountingEncoder, Gate, Raising, is_answer, make_cost

# A machine that stalls keeps this promise too.
PATIENT = Limits(promise_ms=1e6, max_waiting=10_000)
OTHER_LENGTH = "b c d e f g h i j k"  # too long to share a batch with a text of one word


@pytest.fixture(autouse=True)
def _known_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the batches of the warm-up: the encoder sees only what a test submits."""
    monkeypatch.setattr(batcher_module, "warm_up", lambda _: make_cost())


def test_the_signature_has_no_seams_for_tests() -> None:
    assert list(inspect.signature(AdaptiveBatcher).parameters) == ["encoder", "limits"]


def test_the_warm_up_learns_what_a_batch_costs() -> None:
    """Batches of 6, 50 and 8 x 18 tokens; each is encoded seven times, in turns."""
    clock = FakeClock()
    encoder = FakeEncoder(on_encode=lambda texts: clock.advance(0.004 * texts))
    cost = warm_up(encoder, clock)
    assert [(len(texts), len(texts[0].split())) for texts in encoder.calls] == [
        shape for _ in range(7) for shape in ((1, 4), (1, 48), (8, 16))
    ]
    assert cost.batches == pytest.approx(1 + 0.99 + 0.99**2)
    assert cost.tokens == pytest.approx(144 + 0.99 * 50 + 0.99**2 * 6)


def test_closing_drains_and_may_be_done_twice() -> None:
    batcher = AdaptiveBatcher(FakeEncoder(), PATIENT)
    texts = list("abcde")
    futures = [batcher.submit(text) for text in texts]
    batcher.close()
    batcher.close()
    assert all(map(is_answer, futures, texts))
    with pytest.raises(EmbedoptError, match=r"^the batcher is closed: make a new one$"):
        batcher.submit("late")


def test_closing_without_draining_refuses_what_waits() -> None:
    """While the batch that is being encoded is waited for and answered."""
    gate = Gate()
    encoder = FakeEncoder(on_encode=gate)
    batcher = AdaptiveBatcher(encoder, PATIENT)
    encoded = batcher.submit("a")
    gate.wait_until_reached()
    refused = batcher.submit("b")
    refused.add_done_callback(lambda _: gate.open())
    batcher.close(drain=False)
    assert isinstance(refused.exception(timeout=0), EmbedoptError)
    assert is_answer(encoded, "a")
    assert encoder.calls == [["a"]]


def test_an_answers_callback_may_submit_and_close() -> None:
    second: Future[FloatArray] = Future()

    def submit_and_close(_: "Future[FloatArray]") -> None:
        answer = batcher.submit("second")
        batcher.close()
        answer.add_done_callback(lambda done: second.set_result(done.result()))

    batcher = AdaptiveBatcher(FakeEncoder(), PATIENT)
    batcher.submit("first").add_done_callback(submit_and_close)
    assert is_answer(second, "second", timeout_s=60)
    batcher.close()


def test_each_replica_encodes_a_batch_of_its_own() -> None:
    """Two batches are in the encoder at once: each waits there until the other has come."""
    both = threading.Barrier(2, timeout=60)
    encoder = FakeEncoder(on_encode=lambda _: both.wait())
    encoder.replicas = 2
    with AdaptiveBatcher(encoder, PATIENT) as batcher:
        futures = [batcher.submit("a"), batcher.submit(OTHER_LENGTH)]
        assert is_answer(futures[0], "a", timeout_s=60)
    assert sorted(map(len, encoder.calls)) == [1, 1]


def test_callbacks_on_two_replicas_may_both_close() -> None:
    encoder = FakeEncoder()
    encoder.replicas = 2
    together, closed = threading.Barrier(2, timeout=60), threading.Barrier(3, timeout=60)

    def close(_: "Future[FloatArray]") -> None:
        together.wait()
        batcher.close()
        closed.wait()

    batcher = AdaptiveBatcher(encoder, PATIENT)
    for text in ("a", OTHER_LENGTH):
        batcher.submit(text).add_done_callback(close)
    closed.wait()
    batcher.close()
    assert sorted(encoder.calls) == [["a"], [OTHER_LENGTH]]


def test_while_a_huge_text_is_tokenized_others_are_encoded() -> None:
    """And no other replica takes the huge text."""
    gate = Gate()
    huge = "a " * 10_000
    encoder = CountingEncoder(on_count=lambda texts: gate() if huge in texts else None)
    encoder.replicas = 2
    with AdaptiveBatcher(encoder, PATIENT) as batcher:
        future = batcher.submit(huge)
        gate.wait_until_reached()
        assert is_answer(batcher.submit("b"), "b", timeout_s=60)
        assert encoder.calls == [["b"]]
        gate.open()
        assert is_answer(future, huge, timeout_s=60)
    assert encoder.calls == [["b"], [huge]]


def test_the_event_loop_is_never_blocked() -> None:
    """While a batch is in the encoder, the loop runs on; its next action lets the encoder go on."""
    gate = Gate()

    async def embed() -> FloatArray:
        answer = asyncio.ensure_future(batcher.embed("a"))
        await asyncio.to_thread(gate.wait_until_reached)
        gate.open()
        return await answer

    with AdaptiveBatcher(FakeEncoder(on_encode=gate), PATIENT) as batcher:
        assert asyncio.run(embed()).tolist() == fake_embedding("a").tolist()


def test_cancelling_a_task_drops_its_request() -> None:
    gate = Gate()
    encoder = FakeEncoder(on_encode=gate)

    async def give_up() -> None:
        task = asyncio.ensure_future(batcher.embed("b"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    with AdaptiveBatcher(encoder, PATIENT) as batcher:
        batcher.submit("a")
        gate.wait_until_reached()
        asyncio.run(give_up())
        gate.open()
    assert encoder.calls == [["a"]]


@pytest.mark.parametrize("kind", [StopIteration, SystemExit])
def test_what_no_event_loop_can_raise_reaches_the_caller_as_an_error(kind: type[BaseException]) -> None:
    encoder = FakeEncoder(on_encode=Raising(kind("no"), kind("no")))
    with AdaptiveBatcher(encoder, PATIENT) as batcher:
        error = batcher.submit("a").exception(timeout=60)
        assert str(error) == f"fake ended with {kind.__name__}: no"
        assert type(error and error.__cause__) is kind
        with pytest.raises(EmbedoptError) as awaited:
            asyncio.run(batcher.embed("b"))
        assert (str(awaited.value), type(awaited.value.__cause__)) == (str(error), kind)
        assert is_answer(batcher.submit("c"), "c", timeout_s=60)


def test_several_loops_and_threads_at_once_get_their_own_answers() -> None:
    encoder = FakeEncoder()
    encoder.replicas = 2
    wrong: list[str] = []

    def check(text: str, answer: FloatArray) -> None:
        if answer.tolist() != fake_embedding(text).tolist():
            wrong.append(text)

    async def embed_all(texts: Sequence[str]) -> None:
        for text, answer in zip(texts, await asyncio.gather(*map(batcher.embed, texts)), strict=True):
            check(text, answer)

    def submit_all(texts: Sequence[str]) -> None:
        for text, future in [(text, batcher.submit(text)) for text in texts]:
            check(text, future.result(timeout=60))

    with AdaptiveBatcher(encoder, PATIENT) as batcher:
        ways: list[Callable[[Sequence[str]], None]] = [
            submit_all,
            lambda texts: asyncio.run(embed_all(texts)),
        ]
        threads = [
            threading.Thread(target=ways[caller % 2], args=([f"{caller} {turn}" for turn in range(50)],))
            for caller in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert sum(map(len, encoder.calls)) == 300
