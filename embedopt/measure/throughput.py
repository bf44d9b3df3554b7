"""Sustained texts per second: in forced batches of the texts as they come, and in planned batches."""

from collections.abc import Sequence

import numpy as np

from embedopt.inference.encoder import Encoder
from embedopt.inference.plan import padding_share
from embedopt.records import LARGE_BATCH, Throughput


def forced(encoder: Encoder, texts: Sequence[str], durations_s: Sequence[float]) -> Throughput:
    """Summarise timed calls, each of which forced a batch of 32 texts, in the order of ``texts``."""
    indices = np.arange(len(texts))
    calls = [indices[start : start + LARGE_BATCH] for start in range(0, len(texts), LARGE_BATCH)]
    return Throughput(
        batch_size=LARGE_BATCH,
        in_order_per_s=LARGE_BATCH * len(durations_s) / float(sum(durations_s)),
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
