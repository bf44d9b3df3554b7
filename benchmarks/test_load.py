"""How does a server do under load, and does its memory stay bounded?"""

import dataclasses

import pytest

from embedopt.inference.backends import REFERENCE
from embedopt.inference.encoder import Encoder
from embedopt.measure.load_test.capacity import CapacityTest, soak
from embedopt.measure.session import Session

_ADAPTIVE = "onnx-int8"
# A leak of one embedding in ten requests would be some 4 MB in a soak of 60 s.
_FLAT_BYTES = 4_000_000
# 140,000 requests, the excess of an overload of 30 s, are 270 MB in a queue without a bound; a queue with a
# bound took 18.5 MB.
_BOUNDED_BYTES = 40_000_000


def test_load(encoder: Encoder, measuring: Session) -> None:
    """Latency over arrival rate, and the highest rate: without batching, in fixed windows, adaptively."""
    if encoder.name not in (REFERENCE, _ADAPTIVE):
        pytest.skip("load is put on the reference and on onnx-int8")
    plan = measuring.profile.load
    if encoder.name == REFERENCE:
        plan = dataclasses.replace(plan, overload_s=0.0)
    with measuring.many_texts(encoder) as replicated:
        capacity = CapacityTest(
            replicated, measuring.corpus.request_texts, measuring.options.slo_p99_ms, plan
        )
        load_tests = capacity.measure()
    for batching, load_test in load_tests.items():
        measuring.add_load(encoder.name, batching, load_test)
    overload = load_tests["adaptive"].overload
    points = [point for load_test in load_tests.values() for point in load_test.points or ()]
    assert {point.lost for point in (*points, *((overload,) if overload else ()))} == {0}
    if overload is not None:
        growth_bytes = load_tests["adaptive"].overload_growth_bytes
        assert growth_bytes is not None
        assert growth_bytes < _BOUNDED_BYTES


def test_soak(encoder: Encoder, measuring: Session) -> None:
    """Memory stays flat while requests come and go."""
    if encoder.name != _ADAPTIVE or not measuring.options.soak_s:
        pytest.skip("a soak is of onnx-int8, with --soak-s 60")
    options = measuring.options
    with measuring.many_texts(encoder) as replicated:
        load_test = soak(replicated, measuring.corpus.request_texts, options.slo_p99_ms, options.soak_s)
    measuring.add_load(encoder.name, "adaptive", load_test)
    assert load_test.soak_growth_bytes is not None
    assert load_test.soak_growth_bytes < _FLAT_BYTES
