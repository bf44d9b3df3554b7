"""Similarity of two sets of vectors, and the texts that moved most."""

import numpy as np
import pytest

from embedopt.evidence import Drift
from embedopt.measure.pairs.drift import measure_drift, similarities
from embedopt.measure.worker import pack, unpack

TEXTS = ("a", "b" * 100, "c")


def test_equal_vectors_have_no_drift_at_all() -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    assert measure_drift("fake", TEXTS, vectors, vectors.copy()) == Drift(
        backend="fake", similarity_mean=1.0, similarity_min=1.0, overlap_at_10=1.0
    )


def test_similarity_is_the_cosine_of_vectors_of_length_1_and_sees_a_change_of_length() -> None:
    base = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]], dtype=np.float32)
    head = np.array([[0.6, 0.8], [2.0, 0.0], [0.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    assert similarities(base, head) == pytest.approx([0.6, 0.875, 1.0, 0.5])


def test_the_texts_that_moved_most_come_first_and_are_cut() -> None:
    base = np.eye(3, dtype=np.float32)
    head = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.6, 0.8]], dtype=np.float32)
    drift = measure_drift("fake", TEXTS, base, head)
    assert [(moved.text, round(moved.similarity, 6)) for moved in drift.moved] == [
        ("b" * 60, 0.0),
        ("c", 0.8),
    ]
    assert drift.similarity_min == 0.0


def test_neighbours_that_changed_are_counted() -> None:
    """Of eleven others the farthest is none of the ten: another one for the six texts at the far end."""
    angles = np.linspace(0.0, 1.0, 12)
    moved = np.array([*angles[:11], -1.0])
    base, head = (np.stack([np.cos(a), np.sin(a)], axis=1).astype(np.float32) for a in (angles, moved))
    assert measure_drift("fake", ["x"] * 12, base, head).overlap_at_10 == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (np.eye(3, 2, dtype=np.float32), "vectors of shape (3, 3) -> (3, 2)"),
        (np.full((3, 3), np.nan, dtype=np.float32), "vectors that are not finite"),
    ],
)
def test_vectors_that_cant_be_compared_have_a_reason(head: np.ndarray, why: str) -> None:
    assert measure_drift("fake", TEXTS, np.eye(3, dtype=np.float32), head) == Drift(backend="fake", why=why)


def test_vectors_travel_to_the_bit() -> None:
    vectors = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    assert unpack(pack(vectors)).tobytes() == vectors.tobytes()
