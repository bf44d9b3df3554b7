"""sentence-transformers, as its users call it."""

from collections.abc import Callable
from pathlib import Path

import psutil

from embedopt.inference.loading import load_encoder


def test_closing_ends_the_threads(tiny_model: Callable[..., Path]) -> None:
    """Also the threads of its ONNX backend, whose objects are in reference cycles."""
    before = psutil.Process().num_threads()
    encoder = load_encoder("st-onnx-fp32", model=str(tiny_model()))
    encoder.close()
    assert psutil.Process().num_threads() <= before
