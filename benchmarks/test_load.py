"""What does a user feel under load?"""

import dataclasses

import pytest

from embedopt.inference.backends import REFERENCE
from embedopt.inference.encoder import Encoder
from embedopt.measure.load_test.capacity import CapacityTest
from embedopt.measure.load_test.soak import soak
from embedopt.measure.session import Session

_ADAPTIVE = "onnx-int8"
# A leak of one embedding in ten requests would be some 4 MB in a soak of 60 s.
_FLAT_BYTES = 4_000_000
# 140,000 requests, what an overload of 30 s sends too much, are 270 MB in a queue without a bound; one with a
# bound took 18.5.
_BOUNDED_BYTES = 40_000_000


def test_load(encoder: Encoder, measuring: Session) -> None:
    """Latency over arrival rate, and the highest rate: without batching, in fixed windows, adaptively."""
    if encoder.name not in (REFERENCE, _ADAPTIVE):
        pytest.skip("load is put on the reference and on onnx-int8")
    plan = measuring.profile.load
    if encoder.name == REFERENCE:
        plan = dataclasses.replace(plan, overload_s=0.0)
    with measuring.many_texts(encoder) as replicated:
        bench = CapacityTest(replicated, measuring.corpus.request_texts, measuring.options.slo_p99_ms, plan)
        found = bench.measure()
    for batching, load in found.items():
        measuring.add_load(encoder.name, batching, load)
    runs = [run for load in found.values() for run in (*(load.points or ()), load.overload) if run]
    assert sum(run.lost or 0 for run in runs) == 0
    assert max(load.overload_growth_bytes or 0 for load in found.values()) < _BOUNDED_BYTES


def test_soak(encoder: Encoder, measuring: Session) -> None:
    """Memory is flat while requests come and go."""
    if encoder.name != _ADAPTIVE or not measuring.options.soak_s:
        pytest.skip("a soak is of onnx-int8, with --soak-s 60")
    options = measuring.options
    with measuring.many_texts(encoder) as replicated:
        found = soak(replicated, measuring.corpus.request_texts, options.slo_p99_ms, options.soak_s)
    measuring.add_load(encoder.name, "adaptive", found)
    assert found.soak_growth_bytes is not None
    assert found.soak_growth_bytes < _FLAT_BYTES
