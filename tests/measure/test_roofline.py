"""The roofline is measured on matrix products with the model's own shapes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from embedopt.inference.artifacts.export import onnx_fp32
from embedopt.inference.artifacts.store import quiet
from embedopt.measure import roofline
from embedopt.measure.roofline import measure_roofline, operations_per_token, product_shapes
from tests.fakes import FakeClock


def test_the_shapes_are_those_of_the_models_products_by_weights(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    """Two layers: query, key, value and output of 32 x 32, one to 64 and one back."""
    with quiet():
        onnx_fp32(tiny_model(), tmp_path)
    shapes = product_shapes(tmp_path)
    assert shapes == {(32, 32): 8, (32, 64): 2, (64, 32): 2}
    assert operations_per_token(shapes) == 2 * (8 * 32 * 32 + 4 * 32 * 64)


def test_a_rate_is_operations_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three threads multiply 512 rows in turns of 0.4 s until a second is over."""
    clock = FakeClock()
    monkeypatch.setattr(roofline, "replicas_and_threads", lambda mode: (3, 1))
    real = roofline._Products.multiply
    multiplied: list[int] = []

    def multiply(products: roofline._Products) -> None:
        real(products)
        multiplied.append(len(products._runs))
        if len(multiplied) % 3 == 0:
            clock.advance(0.4)

    monkeypatch.setattr(roofline._Products, "multiply", multiply)
    rates = measure_roofline({(4, 8): 2, (8, 4): 1}, 1.0, clock)
    expected = 3 * 512 * (2 * 2 * 4 * 8 + 2 * 8 * 4) * 3 / 1.2
    assert rates == {"fp32": pytest.approx(expected), "int8": pytest.approx(expected)}
    assert multiplied == [2] * 3 * (1 + 3) * 2  # a turn to warm up and three timed ones, in each precision
