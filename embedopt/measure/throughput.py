"""How many texts a second, sustained, and where does the speed come from?"""

import time
from collections.abc import Sequence

import numpy as np

from embedopt.inference.encoder import DEFAULT_BATCH_SIZE, Encoder
from embedopt.inference.pipeline import padding_share
from embedopt.measure.latency import Clock, rotate
from embedopt.records import Throughput


def texts_per_s(
    encoder: Encoder, texts: Sequence[str], batch_size: int, seconds: float, clock: Clock = time.perf_counter
) -> float:
    """Call ``encode`` with ``batch_size`` texts at a time, in their order, for at least ``seconds``.

    One call before the clock starts warms up.
    """
    batches = rotate(texts, batch_size)
    encoder.encode(next(batches), batch_size)
    started_s, encoded = clock(), 0
    while (elapsed_s := clock() - started_s) < seconds:
        encoder.encode(next(batches), batch_size)
        encoded += batch_size
    return encoded / elapsed_s


def unplanned(encoder: Encoder, texts: Sequence[str], seconds: float) -> Throughput:
    """Measure the two ways of calling that leave the planning to the caller."""
    batch_size = DEFAULT_BATCH_SIZE
    return Throughput(
        batch_size=batch_size,
        one_by_one_per_s=texts_per_s(encoder, texts, 1, seconds),
        in_order_per_s=texts_per_s(encoder, texts, batch_size, seconds),
        in_order_padding=padding_share(
            encoder.token_counts(texts), np.array_split(np.arange(len(texts)), _cuts(len(texts), batch_size))
        ),
    )


def planned(encoder: Encoder, texts: Sequence[str], durations_s: Sequence[float]) -> Throughput:
    """Summarise timed calls that each encoded all of ``texts``."""
    seconds = float(sum(durations_s))
    return Throughput(
        texts_per_s=len(texts) * len(durations_s) / seconds,
        padding=padding_share(encoder.token_counts(texts), encoder.plan(texts)),
        seconds=seconds,
    )


def _cuts(texts: int, batch_size: int) -> list[int]:
    return list(range(batch_size, texts, batch_size))
