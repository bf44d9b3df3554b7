"""A script of events for a scheduler: what callers, replicas and the encoder do, in any order."""

from concurrent.futures import Future
from dataclasses import dataclass

from embedopt.errors import EmbedoptError
from embedopt.inference.encoder import FloatArray
from tests.fakes import FakeClock
from tests.serving.stand_ins import GuiltyEncoder, make_scheduler

ENDINGS = ("well", "short", "failed", "well")


class Script:
    """Plays events against a scheduler, also while a batch is being encoded, and records every request."""

    def __init__(self, replicas: int) -> None:
        self.clock = FakeClock()
        self.encoder = _ScriptedEncoder(self)
        self.encoder.replicas = replicas
        self.scheduler = make_scheduler(self.encoder, self.clock, max_waiting=12)
        self.accepted: list[Accepted] = []
        self.stepping: set[int] = set()
        self.meanwhile: list[tuple[str, int]] = []
        self.endings: list[str] = []

    def play(self, event: tuple[str, int]) -> None:
        kind, value = event
        match kind:
            case "submit":
                self.submit(value)
            case "cancel" if self.accepted:
                request = self.accepted[value % len(self.accepted)]
                request.cancelled |= request.future.cancel()
            case "wait":
                self.clock.advance(value / 1000)
            case "encode":
                self.encode(value % self.encoder.replicas)
            case "meanwhile":
                self.meanwhile.append((("submit", "cancel", "encode")[value % 3], value // 3))
            case "ending":
                self.endings.append(ENDINGS[value % 4])

    def submit(self, value: int) -> None:
        text = " ".join([f"{len(self.accepted)}", *["guilty"] * (value % 7 == 0), *["x"] * (value % 30)])
        timeout_s = value / 500 if value % 3 == 0 else None
        try:
            request = Accepted(text, timeout_s is not None, self.scheduler.submit(text, timeout_s))
        except EmbedoptError:  # overloaded, or closed: the last batches play events, too
            return
        self.accepted.append(request)
        request.future.add_done_callback(request.count)

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
class Accepted:
    """A request that was accepted."""

    text: str
    has_deadline: bool
    future: "Future[FloatArray]"
    answers: int = 0
    cancelled: bool = False

    def count(self, _: "Future[FloatArray]") -> None:
        self.answers += 1


class _ScriptedEncoder(GuiltyEncoder):
    """Takes time and plays events meanwhile; a call ends well, loses a row or fails, as the script says."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self._script = script
        self.encoded_in: dict[str, set[str]] = {ending: set() for ending in ENDINGS}

    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        self._script.clock.advance(0.002 * len(texts))
        meanwhile, self._script.meanwhile = self._script.meanwhile, []
        for event in meanwhile:
            self._script.play(event)
        ending = self._script.endings.pop() if self._script.endings else "well"
        self.encoded_in[ending].update(texts)
        if ending == "failed":
            raise MemoryError("no memory")
        embeddings = super()._encode(texts, batch_size)
        return embeddings[: len(texts) - (ending == "short")]
