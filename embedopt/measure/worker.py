"""``python -m embedopt.measure.worker``: a process that measures one checkout's encoders on request.

Requests come on standard input and answers go to standard output, each one line of JSON. The first line that
a worker writes says who it is; it ends when its standard input ends. Nothing else reaches standard output:
what a library prints goes to standard error. Between an answer and the next request, no thread of it runs.
"""

import base64
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from embedopt.clock import Clock
from embedopt.errors import EmbedoptError, MeasureError, UsageError, first_line
from embedopt.inference.artifacts.store import ArtifactStore, disk_bytes
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backend import NO_MODEL
from embedopt.inference.backends import BACKENDS, DEFAULT, DEFAULT_TO_STORE, REFERENCE, get_backend
from embedopt.inference.encoder import Encoder, FloatArray
from embedopt.inference.foreign import ForeignEncoder
from embedopt.inference.hardware import fitted
from embedopt.inference.loading import open_encoder
from embedopt.inference.targets import declare_targets

# Each is a method of the worker.
REQUESTS = ("load", "time", "accuracy", "vectors", "one_batch", "timed", "files", "load_test")
# Counted up when a request or an answer changes its meaning: workers of two protocols can't be compared.
PROTOCOL = 1

_FIRST_TEXT = "forklift driver, nights"
# A process is idle when, during one sleep, it used less than this share of a core.
_IDLE_SLEEP_S, _IDLE_SHARE, _IDLE_TRIES = 5e-4, 0.2, 100
# A few microseconds of arithmetic on values that fit into the cache of a core.
_VALUES = np.linspace(0.0, 1.0, 512, dtype=np.float32)


class Worker:
    """The encoders of this checkout, and the requests about them.

    ``ready_s`` counts the seconds from the start of the process until it could load a backend.
    """

    def __init__(self, ready_s: float, clock: Clock | None = None) -> None:
        self._ready_s = ready_s
        self._clock = clock
        self._encoders: dict[str, Encoder] = {}
        self._embeddings: dict[tuple[str, tuple[str, ...]], FloatArray] = {}
        self._timed: FloatArray = np.empty((0, 0), dtype=np.float32)

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out a request and return its answer.

        Raises:
            UsageError: the request is unknown.
        """
        values = dict(request)
        do = values.pop("do", None)
        if do not in REQUESTS:
            raise UsageError(f"unknown request {do!r}; known are: {', '.join(REQUESTS)}")
        result: dict[str, Any] = getattr(self, do)(**values)
        return result

    def load(
        self, backend: str, model: str | None, cache_dir: str | None, trust_remote_code: bool = False
    ) -> dict[str, Any]:
        """Load a backend from this checkout's own artifact; the time to build the artifact does not count.

        Returns:
            ``load_s``: seconds from the start of the process to the first embedding, which is a cold start
            where nothing was loaded before; ``disk_bytes``: size of the files that were loaded, if known.
        """
        row = fitted(get_backend(backend))
        weights = resolve_weights(model, trust_remote_code=trust_remote_code)
        folder = ArtifactStore(Path(cache_dir) if cache_dir else None, print).get(row, weights)
        clock = self._clock or time.perf_counter
        started_s = clock()
        encoder = open_encoder(row, folder, trust_remote_code=trust_remote_code)
        encoder.encode([_FIRST_TEXT])
        # A declared backend runs in a process of its own, whose start is the cold start.
        load_s = clock() - started_s + (0.0 if row.project else self._ready_s)
        self._encoders[backend] = encoder
        gc.collect()
        gc.freeze()  # no garbage collection during a call scans what stays loaded
        if row.model == NO_MODEL:
            return {"load_s": load_s}
        return {"load_s": load_s, "disk_bytes": disk_bytes(folder) if row.build else weights.disk_bytes}

    def time(
        self, backend: str, texts: Sequence[str], batch_size: int | None, extra: float
    ) -> dict[str, Any]:
        """Time one call of a loaded backend, in seconds; without a batch size, it is planned.

        ``extra`` is work that is added to the call, as a share of its time: a known slow-down.

        Returns:
            ``seconds``, and ``own_s``: those without the added work.
        """
        encoder = self._encoders[backend]
        clock = self._clock or encoder.clock
        started_s = clock()
        self._timed = encoder.encode(texts, batch_size)
        own_s = seconds = clock() - started_s
        if extra:
            work_until(started_s + (1.0 + extra) * own_s, clock)
            seconds = clock() - started_s
        return {"seconds": seconds, "own_s": own_s}

    def timed(self) -> dict[str, Any]:
        """Return the embeddings that the last timed call gave, as :func:`pack` writes them."""
        return pack(self._timed)

    def load_test(
        self, backend: str, texts: Sequence[str], rate_per_s: float, promise_ms: float, seed: int
    ) -> dict[str, Any]:
        """Send each text once to an adaptive batcher, or to an endpoint, at Poisson arrivals of a fixed rate.

        Returns:
            ``latencies_ms``: that of each text from its intended arrival, None without an answer;
            ``seconds`` from opening the batcher to closing it.
        """
        # Imported here, so that a process that is timed does not hold them.
        from embedopt.measure.load_test.open_loop import Traffic, latencies_ms, poisson
        from embedopt.measure.load_test.servers import batchings_of, open_server

        clock = self._clock or time.perf_counter
        arrivals_s = poisson(rate_per_s, len(texts) / rate_per_s, seed)
        traffic = Traffic(texts=texts, promise_ms=promise_ms)
        encoder, started_s = self._encoders[backend], clock()
        with closing(open_server(batchings_of(encoder)[-1], encoder, promise_ms)) as server:
            latencies = latencies_ms(server, arrivals_s, traffic, clock=clock)
        return {"latencies_ms": latencies, "seconds": clock() - started_s}

    def accuracy(
        self, backend: str, texts: Sequence[str], invariance_texts: int, invariance_rounds: int
    ) -> dict[str, Any]:
        """Compare a loaded backend's embeddings with those of this checkout's reference, loaded before.

        Batch invariance is measured on the first ``invariance_texts`` texts; a backend that is compared with
        no model has no other metric.

        Returns:
            The measured metrics of :class:`embedopt.records.Accuracy` by name.
        """
        # Imported here, so that a process that is timed does not hold them.
        from embedopt.measure.accuracy import agreement, batch_invariance, cut_for
        from embedopt.records import Accuracy
        from embedopt.schema import metrics

        results = [batch_invariance(self._encoders[backend], texts[:invariance_texts], invariance_rounds)]
        if get_backend(backend).model != NO_MODEL:
            reference = cut_for(get_backend(backend), self._embeddings_of(REFERENCE, texts))
            results.append(agreement(reference, self._embeddings_of(backend, texts)))
        return {
            name: value
            for name in metrics(Accuracy)
            for result in results
            if (value := getattr(result, name)) is not None
        }

    def files(self, backend: str) -> dict[str, Any]:
        """Return the files, or the URL, of a project's own code; empty for a backend of ours."""
        encoder = self._encoders[backend]
        return encoder.files() if isinstance(encoder, ForeignEncoder) else {}

    def vectors(self, backend: str, texts: Sequence[str]) -> dict[str, Any]:
        """Return a loaded backend's embeddings, as :func:`pack` writes them."""
        return pack(self._embeddings_of(backend, texts))

    def one_batch(self, backend: str, texts: Sequence[str]) -> dict[str, Any]:
        """Return a loaded backend's embeddings of texts encoded as one batch, which no plan splits."""
        return pack(self._encoders[backend].encode_as_one_batch(texts))

    def _embeddings_of(self, backend: str, texts: Sequence[str]) -> FloatArray:
        key = (backend, tuple(texts))
        if key not in self._embeddings:
            self._embeddings[key] = self._encoders[backend].encode(texts)
        return self._embeddings[key]


def hello() -> dict[str, Any]:
    """Return the first line that a worker writes: its protocol, checkout, backends, requests and defaults."""
    return {
        "protocol": PROTOCOL,
        "root": str(Path(__file__).resolve().parents[2]),
        "backends": list(BACKENDS),
        "requests": list(REQUESTS),
        "defaults": {"default": DEFAULT, "default-to-store": DEFAULT_TO_STORE},
        "held_against_none": [name for name, row in BACKENDS.items() if row.model == NO_MODEL],
    }


def pack(vectors: FloatArray) -> dict[str, Any]:
    """Return ``(n, dim)`` vectors as JSON values, to the bit."""
    data = base64.b64encode(np.ascontiguousarray(vectors, dtype="<f4").tobytes()).decode("ascii")
    return {"shape": vectors.shape, "float32": data}


def unpack(answer: Mapping[str, Any]) -> FloatArray:
    """Return the vectors that :func:`pack` was given."""
    values = np.frombuffer(base64.b64decode(answer["float32"]), dtype="<f4")
    vectors: FloatArray = values.reshape(answer["shape"])
    return vectors


def serve(worker: Worker, requests: TextIO, answers: TextIO) -> None:
    """Answer each line of ``requests`` with a line in ``answers``, until the requests end."""
    for line in requests:
        request = json.loads(line)
        try:
            answer: dict[str, Any] = {"ok": worker.answer(request)}
            wait_until_idle()
        except EmbedoptError as error:
            answer = {"error": str(error)}
        except Exception as error:  # any library may raise anything, and the client has to get an answer
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {first_line(error)}"}
        _write(answers, answer)


def work_until(end_s: float, clock: Clock) -> None:
    """Keep one core busy with arithmetic until ``clock`` returns ``end_s`` or more."""
    result = np.empty_like(_VALUES)
    while clock() < end_s:
        np.tanh(_VALUES, out=result)


def wait_until_idle() -> None:
    """Wait until no thread of this process works or spins.

    Raises:
        MeasureError: threads go on running, and would slow the other process of the pair.
    """
    for _ in range(_IDLE_TRIES):
        used_s, started_s = time.process_time(), time.perf_counter()
        time.sleep(_IDLE_SLEEP_S)
        slept_s = time.perf_counter() - started_s
        if time.process_time() - used_s < _IDLE_SHARE * slept_s:
            return
    raise MeasureError(
        "threads of this worker still run 50 ms after a call; wanted threads that sleep: "
        "leave this backend out with --backends"
    )


def _write(answers: TextIO, values: Mapping[str, Any]) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()


def main(argv: Sequence[str]) -> None:
    """Answer the requests of the process that started this one, until standard input ends.

    Its one argument is ``time.monotonic()`` of the moment when this process was started. It measures the
    project in the current folder.
    """
    declare_targets(Path())
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
