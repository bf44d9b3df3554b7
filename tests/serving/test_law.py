"""Random events: every accepted request gets exactly one answer, its own."""

from concurrent.futures import Future
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from embedopt.errors import EmbedoptError, Overloaded
from embedopt.inference.encoder import FloatArray
from tests.fakes import FakeClock
from tests.serving.stand_ins import GuiltyEncoder, is_answer, make_scheduler


class _Script:
    """Plays events against a scheduler, also while a batch is being encoded, and records every request."""

    def __init__(self, replicas: int) -> None:
        self.clock = FakeClock()
        self.encoder = _ScriptedEncoder(self)
        self.encoder.replicas = replicas
        self.scheduler = make_scheduler(self.encoder, self.clock, max_waiting=12)
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
            sent = _Sent(text, timeout_s is not None, self.scheduler.submit(text, timeout_s))
        except (
            EmbedoptError
        ):  # overloaded, or closed: events are also played while the last batches are encoded
            return
        self.sent.append(sent)
        sent.future.add_done_callback(sent.count)

    def encode(self, replica: int) -> None:
        if replica not in self.stepping:  # a replica has one batch at a time
            self.stepping.add(replica)
            self.scheduler.step(replica)
            self.stepping.remove(replica)

    def close(self, *, drain: bool) -> None:
        self.stepping.add(0)  # the rest is encoded on this replica
        self.scheduler.close(drain=drain)
        while self.scheduler.wait():
            self.scheduler.step()


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
    """Takes time, plays events meanwhile, and fails by mood: 1 loses a row, 2 fails on all texts."""

    def __init__(self, script: _Script) -> None:
        super().__init__()
        self._script = script
        self.encoded_in: dict[int, set[str]] = {mood: set() for mood in range(4)}

    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        self._script.clock.advance(0.002 * len(texts))
        meanwhile, self._script.meanwhile = self._script.meanwhile, []
        for event in meanwhile:
            self._script.play(event)
        mood = self._script.moods.pop() if self._script.moods else 0
        self.encoded_in[mood].update(texts)
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
    """No request is lost, answered twice or with another's embedding, or encoded after it was cancelled."""
    script = _Script(replicas)
    for event in events:
        script.play(event)
    script.close(drain=drain)
    encoded_in = script.encoder.encoded_in
    assert [sent.answers for sent in script.sent] == [1] * len(script.sent)
    assert not set().union(*encoded_in.values()) & {sent.text for sent in script.sent if sent.cancelled}
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
                assert sent.text in encoded_in[2]
            case Overloaded():
                assert sent.has_deadline
            case EmbedoptError() if "embeddings for" in str(error):
                assert sent.text in encoded_in[1]
            case _:
                assert "closed before this text was encoded" in str(error)
                assert not drain
                assert sent.text not in set().union(*encoded_in.values())
