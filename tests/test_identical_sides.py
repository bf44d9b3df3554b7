"""Two processes of the same code give the same vectors: what the gate calls drift is a change of the code."""

import sys
from pathlib import Path

import pytest

from embedopt.inference.encoder import FloatArray
from embedopt.measure.corpus import load_corpus
from embedopt.measure.pairs.drift import measure_drift
from embedopt.measure.pairs.worker_client import Checkout, WorkerClient
from embedopt.measure.worker import unpack

ROOT = Path(__file__).parents[1]
TEXTS = load_corpus(ROOT / "benchmarks" / "corpus").mixed_texts[:64]


def _vectors(backend: str, cache: Path) -> FloatArray:
    """Return the vectors that a fresh process gives, in two batches, as the gate asks for them."""
    with WorkerClient(Checkout(name="worker", root=ROOT, python=sys.executable)) as client:
        client.ask("load", backend=backend, model=None, cache_dir=str(cache))
        client.ask("one_batch", backend=backend, texts=TEXTS[:32])
        return unpack(client.ask("one_batch", backend=backend, texts=TEXTS[32:]))


@pytest.mark.parametrize(
    ("backend", "largest"),
    [("onnx-int8", 0.0), ("onnx-fp32", 1e-12), ("onnx-int8-dynamic", 1e-5)],
)
def test_identical_sides_do_not_drift(backend: str, largest: float, real_cache: Path) -> None:
    """Not at all where a recipe is the same in any batch.

    Elsewhere threads may add in another order by chance, which moves a few activations to the next step where
    they are quantised as they come. Four processes of 805 texts gave the same bits.
    """
    drift = measure_drift(backend, TEXTS[32:], _vectors(backend, real_cache), _vectors(backend, real_cache))
    assert drift.similarity_min is not None
    assert 1.0 - drift.similarity_min <= largest
