"""``python -m embedopt.measure.worker``: one side of a paired measurement, a live process that obeys.

It speaks JSON, a line each way: first a line that says who it is, then an answer to every request, until its
standard input ends. Nothing else reaches its standard output: what a library prints there goes to standard
error. Once it has answered, none of its threads runs until the next request.
"""

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from embedopt.errors import EmbedoptError, MeasureError, UsageError, first_line
from embedopt.inference.artifacts.store import ArtifactStore, disk_bytes
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backends import BACKENDS, REFERENCE, get_backend
from embedopt.inference.encoder import Encoder, FloatArray
from embedopt.inference.loading import open_encoder

# Raised when a request or an answer changes its meaning: sides of two protocols can't be compared.
PROTOCOL = 1

_FIRST_TEXT = "forklift driver, nights"
# Threads rest when, over one sleep, the process used less than this share of a core.
_REST_SLEEP_S, _REST_SHARE, _REST_TRIES = 5e-4, 0.2, 100
# A few microseconds of arithmetic, in the cache of a core.
_VALUES = np.linspace(0.0, 1.0, 512, dtype=np.float32)

Clock = Callable[[], float]


class Worker:
    """The encoders of one side, and what can be asked of them.

    Args:
        ready_s: seconds from the start of the process until it could load something.
        clock: seconds, for durations.
    """

    def __init__(self, ready_s: float, clock: Clock = time.perf_counter) -> None:
        self._ready_s = ready_s
        self._clock = clock
        self._encoders: dict[str, Encoder] = {}
        self._embeddings: dict[tuple[str, tuple[str, ...]], FloatArray] = {}
        self._requests: Mapping[str, Callable[..., dict[str, Any]]] = {
            "load": self.load,
            "time": self.time,
            "accuracy": self.accuracy,
        }

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a request says.

        Raises:
            UsageError: there is no such request.
        """
        values = dict(request)
        do = values.pop("do", None)
        if do not in self._requests:
            raise UsageError(f"unknown request {do!r}; known are: {', '.join(self._requests)}")
        return self._requests[do](**values)

    def load(self, backend: str, model: str | None, cache_dir: str | None) -> dict[str, Any]:
        """Load a backend from this side's own artifact; building it does not count as loading.

        Returns:
            ``load_s``: seconds from the start of the process to the first embedding, a cold start where
            nothing was loaded before; ``disk_bytes``: of the files that it loads.
        """
        row, weights = get_backend(backend), resolve_weights(model)
        folder = ArtifactStore(Path(cache_dir) if cache_dir else None, print).get(row, weights)
        started_s = self._clock()
        encoder = open_encoder(row, folder)
        encoder.encode([_FIRST_TEXT])
        load_s = self._ready_s + self._clock() - started_s
        self._encoders[backend] = encoder
        gc.collect()
        gc.freeze()  # what stays is not searched for garbage in the middle of a call
        return {"load_s": load_s, "disk_bytes": disk_bytes(folder) if row.build else weights.disk_bytes}

    def time(self, backend: str, texts: Sequence[str], batch_size: int, extra: float) -> dict[str, Any]:
        """Time one call of a loaded backend.

        Args:
            backend: its name.
            texts: that the call encodes.
            batch_size: as of :meth:`embedopt.inference.encoder.Encoder.encode`.
            extra: real work added to the call, as a share of what it took; for calibration.

        Returns:
            ``seconds`` of the call.
        """
        encoder = self._encoders[backend]
        started_s = self._clock()
        encoder.encode(texts, batch_size)
        seconds = self._clock() - started_s
        if extra:
            work_until(started_s + (1.0 + extra) * seconds, self._clock)
            seconds = self._clock() - started_s
        return {"seconds": seconds}

    def accuracy(
        self, backend: str, texts: Sequence[str], invariance_texts: int, invariance_rounds: int
    ) -> dict[str, Any]:
        """Compare a loaded backend's embeddings with those of this side's own reference, loaded before.

        Args:
            backend: its name.
            texts: compared one by one.
            invariance_texts: of the first so many, how much they depend on their batch.
            invariance_rounds: of :func:`embedopt.measure.accuracy.batch_invariance`.

        Returns:
            What was measured, by its name in :class:`embedopt.records.Accuracy`.
        """
        # Imported here: a process that is timed does not carry them.
        from embedopt.measure.accuracy import agreement, batch_invariance
        from embedopt.records import Accuracy
        from embedopt.schema import metrics

        encoder = self._encoders[backend]
        near = agreement(self._embedded(REFERENCE, texts), self._embedded(backend, texts))
        steady = batch_invariance(encoder, texts[:invariance_texts], invariance_rounds)
        found = {name: (getattr(near, name), getattr(steady, name)) for name in metrics(Accuracy)}
        return {name: value for name, values in found.items() for value in values if value is not None}

    def _embedded(self, backend: str, texts: Sequence[str]) -> FloatArray:
        key = (backend, tuple(texts))
        if key not in self._embeddings:
            self._embeddings[key] = self._encoders[backend].encode(texts)
        return self._embeddings[key]


def hello() -> dict[str, Any]:
    """Say who this is: the first line that a worker writes."""
    return {
        "protocol": PROTOCOL,
        "root": str(Path(__file__).resolve().parents[2]),
        "backends": list(BACKENDS),
    }


def serve(worker: Worker, requests: TextIO, answers: TextIO) -> None:
    """Answer each line of ``requests`` until they end, or ask to quit."""
    for line in requests:
        request = json.loads(line)
        if request == {"do": "quit"}:
            return
        try:
            answer: dict[str, Any] = {"ok": worker.answer(request)}
            rest()
        except EmbedoptError as error:
            answer = {"error": str(error)}
        except Exception as error:  # of any library: the other end of the pipe has to hear of it
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {first_line(error)}"}
        _write(answers, answer)


def work_until(end_s: float, clock: Clock) -> None:
    """Do arithmetic on one core until ``clock`` shows ``end_s``."""
    result = np.empty_like(_VALUES)
    while clock() < end_s:
        np.tanh(_VALUES, out=result)


def rest() -> None:
    """Wait until no thread of this process works or spins.

    Raises:
        MeasureError: they go on; the other side can't be measured beside them.
    """
    for _ in range(_REST_TRIES):
        used_s, slept_s = time.process_time(), time.perf_counter()
        time.sleep(_REST_SLEEP_S)
        slept_s = time.perf_counter() - slept_s
        if time.process_time() - used_s < _REST_SHARE * slept_s:
            return
    raise MeasureError(
        "threads of this side still run 50 ms after a call; wanted threads that sleep: "
        "leave the backend that spins out with --backends"
    )


def _write(answers: TextIO, values: Mapping[str, Any]) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()


def main(argv: Sequence[str]) -> None:
    """Serve the process that started this one.

    Args:
        argv: ``time.monotonic()`` of the moment when this process was started.
    """
    requests = os.fdopen(os.dup(0), encoding="utf8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf8")
    os.dup2(2, 1)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    with requests, answers:
        _write(answers, hello())
        serve(Worker(time.monotonic() - float(argv[0])), requests, answers)


if __name__ == "__main__":
    main(sys.argv[1:])
