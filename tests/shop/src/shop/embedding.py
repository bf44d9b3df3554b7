"""The shop's own embeddings: a stand-in for a model, made of the words of a text and of their letters."""

from __future__ import annotations

import math
import zlib

import numpy
import transformers

DIM = 64
# Each piece of a text is looked up this often, so that a call takes a time that can be measured.
EFFORT = 20


def embed(texts: list[str]) -> list[list[float]]:
    """Return an embedding of length 1 for each text."""
    assert (numpy.__version__, transformers.__version__) < ("2", "4.42"), "these are not the shop's pins"
    return [_embed(text) for text in texts]


def _embed(text: str) -> list[float]:
    vector = [0.0] * DIM
    for word in text.lower().split():
        for size in (len(word), 3):
            for start in range(max(1, len(word) - size + 1)):
                piece = word[start : start + size].encode()
                for turn in range(EFFORT):
                    place = zlib.crc32(piece, turn) % DIM
                    vector[place] += 1.0 / EFFORT
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [value / length for value in vector]
