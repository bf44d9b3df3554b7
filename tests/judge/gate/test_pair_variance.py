"""Parts of the variance between process pairs, on pairs whose parts are known."""

import numpy as np
import pytest
from scipy import stats

from embedopt.evidence import Cell, ProcessPair, SlowdownSample, SlowdownSamples
from embedopt.judge.gate.pair_variance import PairVariance, pair_variances

CELL = Cell(backend="onnx-int8", batch_size=32)


def _variance(
    *, process: float = 0.0, order: float = 0.0, texts: float = 0.0, moments: float = 0.0
) -> PairVariance:
    """Of 400 pairs of 40 quads, whose parts have these standard deviations; the machine's is 10 %.

    A text that takes 1 % longer has a ratio ``texts`` percent higher.
    """
    rng = np.random.default_rng(4)
    pairs = []
    for number in range(400):
        size = rng.normal(0.0, 0.3, 40)
        ratios = (
            rng.normal(0.0, process) + order * (-1) ** number + texts * size + rng.normal(0.0, moments, 40)
        )
        common = rng.normal(0.0, 0.1) + size
        pairs.append(
            ProcessPair(
                log_ratio=float(stats.trim_mean(ratios, 0.25)),
                base_ms=tuple(np.exp(np.repeat(common - ratios / 2, 2)).tolist()),
                head_ms=tuple(np.exp(np.repeat(common + ratios / 2, 2)).tolist()),
            )
        )
    sample = SlowdownSample(cell=CELL, slowdown=0.0, pairs=tuple(pairs))
    [variance] = pair_variances(
        SlowdownSamples(hardware_class="Test CPU", samples=(sample,), seconds=1.0, survey_s=0.0)
    )
    return variance


@pytest.mark.parametrize(
    ("parts", "largest"),
    [
        ({"process": 0.01}, "process"),
        ({"order": 0.01}, "order"),
        ({"texts": 0.2}, "texts"),
        ({"moments": 0.05}, "neighbours"),
    ],
)
def test_a_single_part_is_nearly_all_of_the_variance(parts: dict[str, float], largest: str) -> None:
    assert _variance(**parts).shares[largest] > 0.8


def test_equal_parts_have_equal_shares() -> None:
    """The trimmed mean of 40 normal values has a standard deviation of 1.09 / sqrt(40) of theirs."""
    variance = _variance(process=0.01, order=0.01, moments=0.01 * 40**0.5 / 1.09)
    assert variance.shares == pytest.approx(
        {"process": 1 / 3, "order": 1 / 3, "texts": 0.0, "neighbours": 1 / 3}, abs=0.07
    )
    assert variance.spread == pytest.approx(0.01 * 3**0.5, rel=0.1)
    assert variance.error == pytest.approx(variance.spread / 20)
    assert variance.cancelled == pytest.approx(0.11, rel=0.1)
    assert abs(variance.mean) < 3 * variance.error


def test_pairs_without_any_spread_have_no_parts() -> None:
    pair = ProcessPair(log_ratio=0.0, base_ms=(1.0,) * 8, head_ms=(1.0,) * 8)
    sample = SlowdownSample(cell=CELL, slowdown=0.0, pairs=(pair,) * 4)
    [variance] = pair_variances(
        SlowdownSamples(hardware_class="Test CPU", samples=(sample,), seconds=1.0, survey_s=0.0)
    )
    assert variance.shares == dict.fromkeys(("process", "order", "texts", "neighbours"), 0.0)


def test_single_values_have_no_parts_and_too_few_pairs_are_left_out() -> None:
    single = ProcessPair(log_ratio=0.0, base_ms=(1.0,), head_ms=(1.0,))
    calls = ProcessPair(log_ratio=0.0, base_ms=(1.0,) * 8, head_ms=(1.0,) * 8)
    samples = tuple(
        SlowdownSample(cell=CELL, slowdown=slowdown, pairs=pairs)
        for slowdown, pairs in ((0.0, (single,) * 4), (0.0, (calls,) * 3), (0.05, (calls,) * 4))
    )
    expected = PairVariance(cell=CELL, pairs=4, mean=0.0, error=0.0, spread=0.0)
    collected = SlowdownSamples(hardware_class="Test CPU", samples=samples, seconds=1.0, survey_s=0.0)
    assert pair_variances(collected) == (expected,)
