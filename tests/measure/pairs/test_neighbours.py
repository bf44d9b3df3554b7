"""Quads in which other processes took the CPU."""

import pytest

from embedopt.measure.pairs.neighbours import Quad, calm


def _quads(seconds: float, others_s: list[float]) -> list[Quad]:
    return [Quad(seconds=seconds, others_s=taken_s) for taken_s in others_s]


@pytest.mark.parametrize(
    ("others_s", "counts", "disturbed"),
    [
        ([0.0] * 4, [True] * 4, 0),
        ([0.2, 0.2, 0.21, 0.0], [True, True, False, True], 1),
        ([0.9, 0.5, 0.0, 0.8], [True] * 4, 3),
        ([0.9, 0.0, 0.0, 0.8], [False, True, True, False], 2),
        ([0.9], [True], 1),
    ],
    ids=["calm", "one too much", "most", "half", "the only one"],
)
def test_disturbed_quads_are_left_out_unless_most_are(
    others_s: list[float], counts: list[bool], disturbed: int
) -> None:
    assert calm(_quads(1.0, others_s)) == (counts, disturbed)


def test_short_quads_are_looked_at_together() -> None:
    """A step of 10 ms is half of a quad of 20 ms, and a twentieth of ten of them."""
    quads = _quads(0.02, [0.0] * 13 + [0.01] + [0.0] * 6 + [0.06] + [0.0] * 9)
    assert calm(quads) == ([True] * 20 + [False] * 10, 10)


def test_a_short_rest_at_the_end_is_not_disturbed_by_one_step_of_the_counter() -> None:
    quads = [*_quads(0.2, [0.0] * 3), Quad(seconds=0.005, others_s=0.01)]
    assert calm(quads) == ([True] * 4, 0)
