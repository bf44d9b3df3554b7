"""Sampling of process pairs: which cells, in which order, and when it stops."""

from collections.abc import Mapping, Sequence

from embedopt.evidence import Cell, PairedCell, PairsWanted
from embedopt.sampling import cells_within_budget, sample_pairs

A, COLD_START = Cell(backend="a", batch_size=1), Cell(backend="a", batch_size=0, metric="load_s")
B = Cell(backend="b", batch_size=1)


def _sample(
    *wanted: Sequence[PairsWanted], budget: int = 99
) -> tuple[list[tuple[int, int]], list[list[Cell]]]:
    """Want these pairs one after the other, then no more, with a budget in process pairs.

    Return the numbers of first and of confirmation pairs of A, its cold start and B; and the cells of each
    process pair.
    """
    left, sampled = list(wanted), list[list[Cell]]()

    def plan_pairs(_: Sequence[PairedCell]) -> Sequence[PairsWanted]:
        return left.pop(0) if left else ()

    def measure_pair(cells: Mapping[Cell, bool]) -> Mapping[Cell, float] | None:
        if len(sampled) == budget:
            return None
        sampled.append(list(cells))
        return dict.fromkeys(cells, 0.5)

    evidence = sample_pairs([PairedCell(cell=cell) for cell in (A, COLD_START, B)], plan_pairs, measure_pair)
    return [(len(known.log_ratios), len(known.fresh)) for known in evidence], sampled


def test_backends_take_turns_and_each_pair_also_measures_a_cold_start() -> None:
    counts, sampled = _sample([PairsWanted(cell=A, pairs=2), PairsWanted(cell=B, pairs=1)])
    assert counts == [(2, 0), (2, 0), (1, 0)]
    assert sampled == [[COLD_START, A], [B], [COLD_START, A]]


def test_confirmation_pairs_come_first_and_a_confirmed_cold_start_is_not_measured_again() -> None:
    fresh = PairsWanted(cell=COLD_START, pairs=1, fresh=True)
    counts, sampled = _sample([fresh, PairsWanted(cell=B, pairs=9)], [PairsWanted(cell=A, pairs=1)])
    assert counts == [(1, 0), (0, 1), (0, 0)]
    assert sampled == [[COLD_START], [A]]


def test_sampling_stops_as_soon_as_the_budget_is_spent() -> None:
    wanted = [PairsWanted(cell=A, pairs=2), PairsWanted(cell=B, pairs=2)]
    counts, _ = _sample(wanted, wanted, wanted, budget=3)
    assert counts == [(2, 0), (2, 0), (1, 0)]


def test_beyond_its_share_of_the_budget_a_cell_is_measured_only_to_confirm_it() -> None:
    many = Cell(backend="a", batch_size=0, metric="texts_per_s")
    assert cells_within_budget({COLD_START: False, A: False, many: False}, 34.0, 100.0) == (
        COLD_START,
        A,
        many,
    )
    assert cells_within_budget({COLD_START: False, A: False, many: False}, 35.0, 100.0) == [COLD_START, A]
    assert cells_within_budget({COLD_START: False, many: False}, 35.0, 100.0) == ()
    assert cells_within_budget({COLD_START: False, many: True}, 35.0, 100.0) == [COLD_START, many]
