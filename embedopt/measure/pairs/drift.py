"""Drift: how far the vectors of head are from those of base, text by text.

An index holds vectors of the base. Where head's differ, they no longer fit, even if they are nearer to the
reference than before.
"""

from collections.abc import Sequence

import numpy as np

from embedopt.evidence import Drift, MovedText
from embedopt.inference.encoder import FloatArray

_NEIGHBOURS = 10
# The similarities of all pairs of these texts take 32 MB.
_NEIGHBOUR_TEXTS = 2_000
_MOVED_TEXTS = 3
_SHOWN_CHARACTERS = 60


def measure_drift(backend: str, texts: Sequence[str], base: FloatArray, head: FloatArray) -> Drift:
    """Compare head's ``(n, dim)`` vectors of the texts with base's."""
    if base.shape != head.shape:
        return Drift(backend=backend, why=f"vectors of shape {base.shape} -> {head.shape}")
    if not np.isfinite(base - head).all():
        return Drift(backend=backend, why="vectors that are not finite")
    values = similarities(base, head)
    moved = [number for number in np.argsort(values, kind="stable")[:_MOVED_TEXTS] if values[number] < 1.0]
    return Drift(
        backend=backend,
        similarity_mean=float(values.mean()),
        similarity_min=float(values.min()),
        overlap_at_10=_overlap(base[:_NEIGHBOUR_TEXTS], head[:_NEIGHBOUR_TEXTS]),
        moved=tuple(
            MovedText(text=texts[number][:_SHOWN_CHARACTERS], similarity=float(values[number]))
            for number in moved
        ),
    )


def similarities(base: FloatArray, head: FloatArray) -> FloatArray:
    """Return the ``(n,)`` similarities of rows: 1 - d^2 / (2 m^2), for distance d and length m of the longer.

    For vectors of length 1 that is their cosine. It is exactly 1 for equal rows, and below 1 where only the
    length changed, which moves scores of an index that takes dot products.
    """
    a, b = base.astype(np.float64), head.astype(np.float64)
    lengths = np.maximum(np.square(a).sum(axis=1), np.square(b).sum(axis=1))
    distances = np.square(a - b).sum(axis=1)
    result: FloatArray = 1.0 - np.divide(
        distances, 2.0 * lengths, out=np.zeros_like(lengths), where=lengths > 0
    )
    return result


def _overlap(base: FloatArray, head: FloatArray) -> float | None:
    """Return the mean share of a text's ten nearest texts that base and head agree on; None for one text."""
    if len(base) < 2:
        return None
    shared = [
        len(set(ours) & set(theirs)) / len(ours)
        for ours, theirs in zip(_nearest(base), _nearest(head), strict=True)
    ]
    return float(np.mean(shared))


def _nearest(vectors: FloatArray) -> list[list[int]]:
    products = vectors @ vectors.T
    np.fill_diagonal(products, -np.inf)
    ranked: list[list[int]] = np.argsort(-products, axis=1, kind="stable").tolist()
    return [row[: min(_NEIGHBOURS, len(row) - 1)] for row in ranked]
