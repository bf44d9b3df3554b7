"""Turns in which other processes took the CPU."""

import pytest

from embedopt.measure.pairs.neighbours import Turn, calm


def _turns(seconds: float, others_s: list[float]) -> list[Turn]:
    return [Turn(seconds=seconds, others_s=taken_s) for taken_s in others_s]


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
def test_disturbed_turns_are_left_out_unless_most_are(
    others_s: list[float], counts: list[bool], disturbed: int
) -> None:
    assert calm(_turns(1.0, others_s)) == (counts, disturbed)


def test_short_turns_are_looked_at_together() -> None:
    """A step of 10 ms is half of a turn of 20 ms, and a twentieth of ten of them."""
    turns = _turns(0.02, [0.0] * 13 + [0.01] + [0.0] * 6 + [0.06] + [0.0] * 9)
    assert calm(turns) == ([True] * 20 + [False] * 10, 10)


def test_a_short_rest_at_the_end_is_not_disturbed_by_one_step_of_the_counter() -> None:
    turns = [*_turns(0.2, [0.0] * 3), Turn(seconds=0.005, others_s=0.01)]
    assert calm(turns) == ([True] * 4, 0)
