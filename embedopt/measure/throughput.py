"""How many texts a second, sustained, and where does the speed come from?"""

import time
from collections.abc import Sequence

import numpy as np

from embedopt.inference.encoder import DEFAULT_BATCH_SIZE, Encoder
from embedopt.inference.pipeline import padding_share
from embedopt.measure.latency import Clock, rotate
from embedopt.records import Throughput


def in_order(
    encoder: Encoder, texts: Sequence[str], seconds: float, clock: Clock = time.perf_counter
) -> Throughput:
    """Encode batches of 32 texts as they come, a call each, for at least ``seconds``.

    One call before the clock starts warms up.
    """
    batch_size = DEFAULT_BATCH_SIZE
    batches = rotate(texts, batch_size)
    encoder.encode(next(batches), batch_size)
    started_s, encoded = clock(), 0
    while not encoded or clock() - started_s < seconds:
        encoder.encode(next(batches), batch_size)
        encoded += batch_size
    rate = encoded / (clock() - started_s)
    slices = [
        np.arange(start, min(start + batch_size, len(texts))) for start in range(0, len(texts), batch_size)
    ]
    return Throughput(
        batch_size=batch_size,
        in_order_per_s=rate,
        in_order_padding=padding_share(encoder.token_counts(texts), slices),
    )


def planned(encoder: Encoder, texts: Sequence[str], durations_s: Sequence[float]) -> Throughput:
    """Summarise timed calls that each encoded all of ``texts``."""
    seconds = float(sum(durations_s))
    return Throughput(
        texts_per_s=len(texts) * len(durations_s) / seconds,
        padding=padding_share(encoder.token_counts(texts), encoder.plan(texts)),
        seconds=seconds,
    )
