"""Sustained texts per second: in forced batches of the texts as they come, and in planned batches."""

import time
from collections.abc import Sequence

import numpy as np

from embedopt.clock import Clock
from embedopt.inference.encoder import Encoder
from embedopt.inference.plan import padding_share
from embedopt.measure.latency import rotate
from embedopt.records import LARGE_BATCH, Throughput


def in_order(
    encoder: Encoder, texts: Sequence[str], seconds: float, clock: Clock = time.perf_counter
) -> Throughput:
    """Measure forced batches of 32 texts, in the order of ``texts``, for at least ``seconds``.

    A call that is not timed warms up first.
    """
    batches = rotate(texts, LARGE_BATCH)
    encoder.encode_as_one_batch(next(batches))
    started_s, encoded = clock(), 0
    while not encoded or clock() - started_s < seconds:
        encoder.encode_as_one_batch(next(batches))
        encoded += LARGE_BATCH
    rate = encoded / (clock() - started_s)
    indices = np.arange(len(texts))
    calls = [indices[start : start + LARGE_BATCH] for start in range(0, len(texts), LARGE_BATCH)]
    return Throughput(
        batch_size=LARGE_BATCH,
        in_order_per_s=rate,
        in_order_padding=padding_share(encoder.token_counts(texts), calls),
    )


def planned(encoder: Encoder, texts: Sequence[str], durations_s: Sequence[float]) -> Throughput:
    """Summarise timed calls, each of which encoded all of ``texts`` in planned batches."""
    seconds, plan = float(sum(durations_s)), encoder.plan(texts)
    return Throughput(
        texts_per_s=len(texts) * len(durations_s) / seconds,
        padding=padding_share(encoder.token_counts(texts), plan.batches),
        seconds=seconds,
        replicas=plan.replicas,
    )
