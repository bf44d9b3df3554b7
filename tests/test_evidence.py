"""The one course of a gate run, real or drawn: what is taken, in which order, and when it ends."""

from collections.abc import Mapping, Sequence

from embedopt.evidence import Cell, PairedCell, PairsWanted
from embedopt.sampling import sample_pairs

A, LOAD = Cell(backend="a", batch_size=1), Cell(backend="a", batch_size=0, metric="load_s")
B = Cell(backend="b", batch_size=1)


def _gather(
    *answers: Sequence[PairsWanted], room: int = 99
) -> tuple[list[tuple[int, int]], list[list[Cell]]]:
    """Answer each question in turn; return the first and fresh pairs of A, LOAD and B, and what was taken."""
    left, taken = list(answers), list[list[Cell]]()

    def plan_pairs(_: Sequence[PairedCell]) -> Sequence[PairsWanted]:
        return left.pop(0) if left else ()

    def take_pair(cells: Sequence[Cell]) -> Mapping[Cell, float] | None:
        if len(taken) == room:
            return None
        taken.append(list(cells))
        return dict.fromkeys(cells, 0.5)

    found = sample_pairs([PairedCell(cell=cell) for cell in (A, LOAD, B)], plan_pairs, take_pair)
    return [(len(of.log_ratios), len(of.fresh)) for of in found], taken


def test_backends_take_turns_and_a_cold_start_comes_with_each_pair() -> None:
    counts, taken = _gather([PairsWanted(cell=A, pairs=2), PairsWanted(cell=B, pairs=1)])
    assert counts == [(2, 0), (2, 0), (1, 0)]
    assert taken == [[LOAD, A], [B], [LOAD, A]]


def test_what_confirms_comes_first_and_a_confirmed_cold_start_rides_no_more() -> None:
    fresh = PairsWanted(cell=LOAD, pairs=1, fresh=True)
    counts, taken = _gather([fresh, PairsWanted(cell=B, pairs=9)], [PairsWanted(cell=A, pairs=1)])
    assert counts == [(1, 0), (0, 1), (0, 0)]
    assert taken == [[LOAD], [A]]


def test_it_ends_when_nothing_can_be_had() -> None:
    asked = [PairsWanted(cell=A, pairs=2), PairsWanted(cell=B, pairs=2)]
    counts, _ = _gather(asked, asked, asked, room=3)
    assert counts == [(2, 0), (2, 0), (1, 0)]
