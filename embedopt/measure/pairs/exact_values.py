"""The values of base or head that do not vary from run to run: sizes, scores and vectors."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from embedopt.inference.backends import REFERENCE
from embedopt.inference.encoder import FloatArray
from embedopt.measure.pairs.process_pair import Work
from embedopt.measure.pairs.worker_client import RefusedError, WorkerClient
from embedopt.measure.worker import unpack

# Requests for vectors, the best first: in batches of 32 texts, the same in base and head; older workers only
# have the second, which plans its batches.
_VECTORS = ("one_batch", "vectors")
_BATCH_SIZE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactValues:
    """Exact values of the code of base or head.

    Attributes:
        backends: names of all backends that the code has.
        defaults: backend that is used where none is named, by use: ``default`` or ``default-to-store``.
        requests: requests that its worker answers.
        scores: size and accuracy of each backend by metric.
        vectors: embeddings of the reference and each backend; empty where the worker can't give them.
        files: files that a project's own code was imported from, by backend.
        refused: why a backend can't be measured.
    """

    backends: tuple[str, ...]
    defaults: Mapping[str, str]
    requests: Collection[str]
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    vectors: dict[str, FloatArray] = field(default_factory=dict)
    files: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactRequest:
    """How exact values are requested.

    Attributes:
        vectors_by: the request for vectors; None for no vectors.
        invariance: number of texts and rounds of batch invariance, as the request ``accuracy`` has them.
    """

    vectors_by: str | None
    invariance: Mapping[str, int]
    of_base: bool


def best_request(known: Collection[str]) -> str | None:
    """Return the best request for vectors that a worker knows; None for none."""
    return next((request for request in _VECTORS if request in known), None)


def measure_exact_values(
    client: WorkerClient, backends: Collection[str], work: Work, asked: ExactRequest
) -> ExactValues:
    """Measure the reference, where it is needed, and the backends that the code has."""
    values = ExactValues(backends=client.backends, defaults=client.defaults, requests=client.requests)
    opened, measured = {}, set(backends) & set(client.backends)
    if measured - client.held_against_none:
        opened[REFERENCE] = client.ask("load", **work.opening(REFERENCE, of_base=asked.of_base))
        _add_vectors(client, REFERENCE, work, asked, values)
    for name in backends:
        if name not in measured:
            continue
        try:
            if name not in opened:
                opened[name] = client.ask("load", **work.opening(name, of_base=asked.of_base))
            _add_vectors(client, name, work, asked, values)
            accuracy = client.ask("accuracy", backend=name, texts=work.texts, **asked.invariance)
            if "files" in client.requests:
                values.files[name] = client.ask("files", backend=name)
        except RefusedError as error:
            values.refused[name] = str(error)
        else:
            size = {metric: value for metric, value in opened[name].items() if metric == "disk_bytes"}
            values.scores[name] = size | accuracy
    return values


def _add_vectors(
    client: WorkerClient, backend: str, work: Work, asked: ExactRequest, values: ExactValues
) -> None:
    request, texts = asked.vectors_by, work.texts
    if request not in client.requests or backend in values.vectors:
        return
    size, order = len(texts), np.arange(len(texts))
    if request == "one_batch":
        # Texts of like length in one batch: padding would take a third of the time.
        size, order = _BATCH_SIZE, np.argsort([len(text) for text in texts], kind="stable")
    batches = (order[start : start + size] for start in range(0, len(texts), size))
    answers = [client.ask(request, backend=backend, texts=[texts[at] for at in batch]) for batch in batches]
    values.vectors[backend] = np.vstack([unpack(answer) for answer in answers])[np.argsort(order)]
