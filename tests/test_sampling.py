"""Sampling of process pairs: which cells, in which order, and when it stops."""

from collections.abc import Mapping, Sequence

import pytest

from embedopt.evidence import Cell, PairedCell, PairedMetric, PairsWanted
from embedopt.sampling import Budget, sample_pairs

A, COLD_START = Cell(backend="a", batch_size=1), Cell(backend="a", batch_size=0, metric="load_s")
A_32, MANY = Cell(backend="a", batch_size=32), Cell(backend="a", batch_size=0, metric="texts_per_s")
B = Cell(backend="b", batch_size=1)
_MEMORY: tuple[PairedMetric, ...] = ("peak_rss_bytes", "grown_rss_bytes")
_SERVED: tuple[PairedMetric, ...] = ("served_p50_ms", "served_p99_ms")


def _sample(
    *wanted: Sequence[PairsWanted], budget_s: float = 99.0
) -> tuple[list[tuple[int, int]], list[list[Cell]]]:
    """Want these pairs one after the other, then no more; a cell of calls takes 1 s, its pair nothing.

    Return the numbers of first and of confirmation pairs of A, its cold start and B; and the cells of each
    process pair.
    """
    left, sampled = list(wanted), list[list[Cell]]()
    budget = Budget(total_s=budget_s)
    budget.learn({COLD_START: 9.0, A: 1.0, A_32: 1.0, B: 1.0})
    spent_s = 0.0

    def plan_pairs(_: Sequence[PairedCell]) -> Sequence[PairsWanted]:
        return left.pop(0) if left else ()

    def measure_pair(asked: Sequence[PairsWanted]) -> Mapping[Cell, float]:
        nonlocal spent_s
        cells = budget.affordable(asked, 0.0, budget_s - spent_s)
        if not cells:
            return {}
        spent_s += budget.spend(cells)
        sampled.append(list(cells))
        return dict.fromkeys(cells, 0.5)

    known = [PairedCell(cell=cell) for cell in (A, COLD_START, B, A_32)]
    evidence = sample_pairs(known, plan_pairs, measure_pair)
    return [(len(known.log_ratios), len(known.fresh)) for known in evidence][:3], sampled


def _fresh(cell: Cell, pairs: int) -> PairsWanted:
    return PairsWanted(cell=cell, pairs=pairs, fresh=True, must_fit=pairs)


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
    counts, _ = _sample(wanted, wanted, wanted, budget_s=3.5)
    assert counts == [(2, 0), (2, 0), (1, 0)]


def test_the_confirmations_of_a_backend_are_complete_before_those_of_another_begin() -> None:
    _, sampled = _sample([_fresh(B, 2), _fresh(A, 2)], [_fresh(A, 2)])
    assert sampled == [[B], [B], [COLD_START, A], [COLD_START, A]]


def test_a_confirmation_that_does_not_fit_is_not_begun_and_leaves_its_time_to_others() -> None:
    """Of 5 s, the second flagged cell of a backend would need 3 s besides the 3 s of the first."""
    together = [_fresh(A, 3), _fresh(A_32, 3), PairsWanted(cell=B, pairs=9)]
    _, sampled = _sample(together, [_fresh(A_32, 3), PairsWanted(cell=B, pairs=9)], budget_s=5.0)
    assert sampled == [[COLD_START, A]] * 3 + [[B]]


def test_a_later_look_is_begun_only_if_what_it_flags_could_be_confirmed() -> None:
    """Two pairs up to the next look and six that would confirm what it flags fit into 8.5 s, not into 8 s."""
    for budget_s, pairs in ((8.0, 0), (8.5, 2)):
        counts, _ = _sample([PairsWanted(cell=B, pairs=2, must_fit=8)], budget_s=budget_s)
        assert counts[2] == (pairs, 0)


@pytest.mark.parametrize(
    ("extras_s", "wanted", "measured"),
    [
        (34.0, (COLD_START, A, MANY), (COLD_START, A, MANY)),
        (35.0, (COLD_START, A, MANY), (COLD_START, A)),
        (35.0, (COLD_START, MANY), ()),
        (35.0, (COLD_START,), (COLD_START,)),
    ],
)
def test_beyond_its_share_of_the_budget_a_cell_is_not_measured(
    extras_s: float, wanted: Sequence[Cell], measured: Sequence[Cell]
) -> None:
    budget = Budget(total_s=100.0)
    budget.learn({COLD_START: 2.0, A: 60.0, MANY: extras_s})
    assert budget.spend([COLD_START, A, MANY]) == 60.0 + extras_s
    requests = [PairsWanted(cell=cell, pairs=1) for cell in wanted]
    assert budget.affordable(requests, 1.0, 999.0) == measured


def test_beyond_its_share_of_the_budget_a_cell_is_confirmed() -> None:
    budget = Budget(total_s=100.0)
    budget.learn({MANY: 35.0})
    budget.spend([MANY])
    wanted = [PairsWanted(cell=COLD_START, pairs=1), _fresh(MANY, 1)]
    assert budget.affordable(wanted, 1.0, 99.0) == (COLD_START, MANY)


def test_a_cell_that_does_not_fit_leaves_the_pair_to_those_that_do() -> None:
    budget = Budget(total_s=100.0)
    budget.learn({A: 2.0, A_32: 5.0, COLD_START: 3.0})
    wanted = [PairsWanted(cell=cell, pairs=1) for cell in (COLD_START, A_32, A)]
    assert budget.affordable(wanted, 3.0, 10.5) == (COLD_START, A_32, A)
    assert budget.affordable(wanted, 3.0, 10.0) == (COLD_START, A_32)
    assert budget.affordable(wanted, 3.0, 8.0) == (COLD_START, A)
    assert budget.affordable(wanted, 3.0, 5.0) == ()


def test_figures_that_are_measured_together_take_their_time_once() -> None:
    """The median of a batcher was measured first, so the 4 s were its own; the p99 alone takes as long."""
    p50, p99 = (Cell(backend="a", batch_size=0, metric=name) for name in _SERVED)
    budget = Budget(total_s=100.0)
    budget.learn({p50: 4.0, p99: 0.0})
    assert budget.affordable([_fresh(p99, 1)], 1.0, 5.0) == ()
    assert budget.affordable([_fresh(p50, 1), _fresh(p99, 1)], 1.0, 5.1) == (p50, p99)
    assert (budget.spend([p99]), budget.spend([p50, p99])) == (4.0, 4.0)


def test_a_free_figure_of_the_same_kind_pays_for_no_other() -> None:
    peak, later = (Cell(backend="a", batch_size=0, metric=name) for name in _MEMORY)
    budget = Budget(total_s=100.0)
    budget.learn({peak: 0.0, later: 4.0})
    wanted = [PairsWanted(cell=cell, pairs=1) for cell in (peak, later)]
    assert budget.affordable(wanted, 1.0, 5.1) == (peak, later)
    assert budget.affordable(wanted, 1.0, 5.0) == ()


def test_a_confirmation_that_was_begun_goes_on_though_a_pair_took_longer() -> None:
    """Three pairs of 1 s fit into 5 s. The first takes 2 s; two more of 2 s would not fit."""
    budget, costs_s, left_s, wanted = Budget(total_s=5.0), [2.0, 1.0, 1.0], 5.0, [[_fresh(B, 3)]]
    budget.learn({B: 1.0})

    def measure_pair(asked: Sequence[PairsWanted]) -> Mapping[Cell, float]:
        nonlocal left_s
        if not budget.affordable(asked, 0.0, left_s):
            return {}
        budget.learn({B: costs_s.pop(0)})
        left_s -= budget.spend([B])
        return {B: 0.5}

    [known] = sample_pairs([PairedCell(cell=B)], lambda _: wanted.pop() if wanted else (), measure_pair)
    assert (len(known.fresh), left_s) == (3, 1.0)
