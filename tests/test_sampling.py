"""Sampling of process pairs: which cells, in which order, and when it stops."""

from collections.abc import Mapping, Sequence

import pytest

from embedopt.evidence import Cell, PairedCell, PairedMetric, PairsWanted
from embedopt.sampling import Budget, measurement_of, sample_pairs

A, COLD_START = Cell(backend="a", batch_size=1), Cell(backend="a", batch_size=0, metric="load_s")
A_32, MANY = Cell(backend="a", batch_size=32), Cell(backend="a", batch_size=0, metric="texts_per_s")
B = Cell(backend="b", batch_size=1)
B_32, B_MANY = Cell(backend="b", batch_size=32), Cell(backend="b", batch_size=0, metric="texts_per_s")
_MEMORY: tuple[PairedMetric, ...] = ("peak_rss_bytes", "grown_rss_bytes")
_SERVED: tuple[PairedMetric, ...] = ("served_p50_ms", "served_p99_ms")


class Run:
    """Samples pairs that are wanted one after the other, then no more.

    A measurement takes 1 s, unless ``takes_s`` says otherwise, and the start of a pair ``start_s``.

    Attributes:
        sampled: the cells of each process pair.
        left_s: what is left of the budget.
        counts: numbers of first and of confirmation pairs of each cell.
    """

    def __init__(
        self,
        *wanted: Sequence[PairsWanted],
        budget_s: float = 99.0,
        takes_s: Mapping[Cell, float] | None = None,
        start_s: float = 0.0,
        known: bool = True,
    ) -> None:
        self.left_s, self.sampled, left = budget_s, list[list[Cell]](), list(wanted)
        cells = dict.fromkeys([COLD_START, *(request.cell for answer in wanted for request in answer)])
        own_s = {cell: (takes_s or {}).get(cell, 1.0) for cell in cells if measurement_of(cell)}
        budget = Budget(lambda: self.left_s)
        for backend in {cell.backend for cell in cells} if known else ():
            taken_s = {cell: own_s[cell] for cell in own_s if cell.backend == backend}
            budget.learn(backend, start_s + sum(taken_s.values()), taken_s)

        def measure_pair(asked: Sequence[Cell]) -> Mapping[Cell, float]:
            taken_s = {cell: own_s[cell] for cell in asked if cell in own_s}
            pair_s = start_s + sum(taken_s.values())
            self.left_s -= pair_s
            budget.learn(asked[0].backend, pair_s, taken_s)
            self.sampled.append(list(asked))
            return dict.fromkeys(asked, 0.5)

        evidence = sample_pairs(
            [PairedCell(cell=cell) for cell in cells],
            lambda _: left.pop(0) if left else (),
            measure_pair,
            budget,
        )
        self.counts = {known.cell: (len(known.log_ratios), len(known.fresh)) for known in evidence}


def _first(cell: Cell, pairs: int, confirming: int = 0) -> PairsWanted:
    """First pairs: those of calls with a batch size need not fit, as in a gate run."""
    return PairsWanted(cell=cell, pairs=pairs, must_fit=cell.metric != "latency", confirming=confirming)


def _later(cell: Cell, pairs: int, confirming: int = 0) -> PairsWanted:
    return PairsWanted(cell=cell, pairs=pairs, look="later", confirming=confirming)


def _fresh(cell: Cell, pairs: int) -> PairsWanted:
    return PairsWanted(cell=cell, pairs=pairs, look="confirmation")


def test_backends_take_turns_and_each_pair_also_measures_a_cold_start() -> None:
    run = Run([_first(A, 2), _first(B, 1)], [_first(A, 1)])
    assert run.sampled == [[COLD_START, A], [B], [COLD_START, A]]
    assert run.counts == {COLD_START: (2, 0), A: (2, 0), B: (1, 0)}


def test_first_pairs_are_planned_anew_after_each_round() -> None:
    assert Run([_first(A, 6)]).counts[A] == (1, 0)


def test_a_confirmed_cold_start_is_not_measured_again() -> None:
    run = Run([_fresh(COLD_START, 1), _first(B, 9)], [_first(A, 1)])
    assert run.sampled == [[COLD_START], [A]]
    assert run.counts == {COLD_START: (0, 1), B: (0, 0), A: (1, 0)}


def test_sampling_stops_as_soon_as_the_budget_is_spent() -> None:
    wanted = [_first(A, 2), _first(B, 2)]
    assert Run(*[wanted] * 4, budget_s=3.5).counts == {COLD_START: (2, 0), A: (2, 0), B: (1, 0)}


def test_the_confirmations_of_a_backend_are_complete_before_those_of_another_begin() -> None:
    run = Run([_fresh(B, 2), _fresh(A, 2)], [_fresh(A, 2)])
    assert run.sampled == [[B], [B], [COLD_START, A], [COLD_START, A]]


def test_a_confirmation_that_does_not_fit_is_not_begun_and_leaves_its_time_to_others() -> None:
    """Of 5 s, the second flagged cell of a backend would need 3 s besides the 3 s of the first."""
    together = [_fresh(A, 3), _fresh(A_32, 3), _first(B, 9)]
    run = Run(together, [_fresh(A_32, 3), _first(B, 9)], budget_s=5.0)
    assert run.sampled == [[COLD_START, A]] * 3 + [[B]]


def test_a_later_look_is_begun_only_if_what_it_flags_could_be_confirmed() -> None:
    """Two pairs up to the next look, and four that would confirm what it flags, need more than 6 s."""
    for budget_s, pairs in ((6.0, 0), (6.5, 2)):
        assert Run([_later(B, 2, confirming=4)], budget_s=budget_s).counts[B] == (pairs, 0)


def test_later_looks_at_two_cells_leave_room_to_confirm_the_dearer_one() -> None:
    """One pair of both takes 3 s, and one that would confirm the dearer 2 s: more than 5 s are needed."""
    for budget_s, cells in ((5.0, {B}), (5.1, {B, B_32})):
        run = Run([_later(B_32, 1, 1), _later(B, 1, 1)], budget_s=budget_s, takes_s={B_32: 2.0})
        assert [set(pair) for pair in run.sampled] == [cells]


def test_the_later_looks_of_a_backend_are_complete_before_those_of_another_begin() -> None:
    run = Run([_later(B, 2), _later(A, 2)], [_later(A, 2)])
    assert run.sampled == [[B], [B], [COLD_START, A], [COLD_START, A]]


def test_a_figure_is_not_measured_again_where_its_pairs_would_not_all_fit() -> None:
    """The first pairs of both backends take 4.5 s, the others of calls 4 s, and of the figures 2 and 3 s."""
    wanted = [_first(A, 3), _first(MANY, 3), _first(B, 3), _first(B_MANY, 3)]
    rest = [PairsWanted(cell=one.cell, pairs=2, must_fit=one.must_fit) for one in wanted]
    for budget_s, figures in ((10.5, set()), (10.6, {B_MANY}), (13.5, {B_MANY}), (13.6, {B_MANY, MANY})):
        run = Run(wanted, rest, budget_s=budget_s, takes_s={MANY: 1.5}, known=False)
        assert {cell for pair in run.sampled[2:] for cell in pair} == {COLD_START, A, B} | figures


def test_first_pairs_leave_room_to_confirm_the_dearest_of_them() -> None:
    """Calls take 3 s, a figure 1 s, and two pairs that would confirm the dearest call 4 s."""
    for budget_s, counted in ((8.0, 0), (8.1, 1)):
        wanted = [_first(cell, 1, confirming=2) for cell in (A, B_32, B_MANY)]
        run = Run(wanted, budget_s=budget_s, takes_s={B_32: 2.0})
        assert run.counts == {COLD_START: (1, 0), A: (1, 0), B_32: (1, 0), B_MANY: (counted, 0)}


def test_figures_that_are_measured_together_take_their_time_once() -> None:
    """The median of a batcher was measured first, so the 4 s were its own; the p99 alone takes as long."""
    p50, p99 = (Cell(backend="a", batch_size=0, metric=name) for name in _SERVED)
    for left_s, alone, both in ((5.0, [], []), (5.1, [p99], [p50, p99])):
        budget = Budget(lambda left_s=left_s: left_s)  # type: ignore[misc]
        budget.learn("a", 5.0, {p50: 4.0, p99: 0.0})
        assert [one.cell for one in budget.worthwhile([_fresh(p99, 1)])] == alone
        assert list(budget.next_pair([_fresh(p99, 1)])) == alone
        assert [one.cell for one in budget.worthwhile([_fresh(p50, 1), _fresh(p99, 1)])] == both
        assert list(budget.next_pair([_fresh(p50, 1), _fresh(p99, 1)])) == both


def test_a_free_figure_of_the_same_kind_pays_for_no_other() -> None:
    peak, later = (Cell(backend="a", batch_size=0, metric=name) for name in _MEMORY)
    budget = Budget(lambda: 5.0)
    budget.learn("a", 5.0, {peak: 0.0, later: 4.0})
    assert budget.next_pair([PairsWanted(cell=cell, pairs=1) for cell in (peak, later)]) == ()


@pytest.mark.parametrize(
    ("left_s", "measured"),
    [(10.5, (COLD_START, A_32, A)), (10.0, (COLD_START, A_32)), (8.0, (COLD_START, A)), (5.0, ())],
)
def test_a_cell_that_does_not_fit_leaves_the_pair_to_those_that_do(
    left_s: float, measured: tuple[Cell, ...]
) -> None:
    budget = Budget(lambda: left_s)
    budget.learn("a", 10.0, {A: 2.0, A_32: 5.0})
    assert budget.next_pair([_first(cell, 1) for cell in (COLD_START, A_32, A)]) == measured


def test_what_a_pair_takes_is_the_mean_so_far() -> None:
    """Pairs of 1 and 3 s: one of 2 s is expected."""
    left_s = 2.0
    budget = Budget(lambda: left_s)
    for seconds in (1.0, 3.0):
        budget.learn("b", seconds, {B: seconds})
    assert budget.next_pair([_first(B, 1)]) == ()
    left_s = 2.1
    assert budget.next_pair([_first(B, 1)]) == (B,)


def test_a_confirmation_that_was_begun_goes_on_though_a_pair_took_longer() -> None:
    """Three pairs of 1 s fit into 5 s. The first takes 2 s: two more of 1.5 s would not fit into 3 s."""
    costs_s, left_s, wanted = [2.0, 1.0, 1.0], 5.0, [[_fresh(B, 3)]]
    budget = Budget(lambda: left_s)
    budget.learn("b", 1.0, {B: 1.0})

    def measure_pair(cells: Sequence[Cell]) -> Mapping[Cell, float]:
        nonlocal left_s
        seconds = costs_s.pop(0)
        left_s -= seconds
        budget.learn("b", seconds, {B: seconds})
        return {B: 0.5}

    known = [PairedCell(cell=B)]
    [known_b] = sample_pairs(known, lambda _: wanted.pop() if wanted else (), measure_pair, budget)
    assert (len(known_b.fresh), left_s) == (3, 1.0)


def test_calls_have_precedence_over_a_figure_that_is_begun() -> None:
    """Its second pair begins it. Then a call takes longer, and a third pair would not fit beside it."""
    takes_s, left_s, sampled = {A: 1.0, MANY: 1.0}, 9.0, list[list[Cell]]()
    wanted = [[_first(A, pairs), _first(MANY, pairs)] for pairs in (2, 3, 4)]
    budget = Budget(lambda: left_s)

    def measure_pair(cells: Sequence[Cell]) -> Mapping[Cell, float]:
        nonlocal left_s
        taken_s = {cell: takes_s[cell] for cell in cells}
        left_s -= sum(taken_s.values())
        budget.learn("a", sum(taken_s.values()), taken_s)
        sampled.append(list(cells))
        if len(sampled) == 2:
            takes_s[A], left_s = 2.0, left_s - 1.0
            budget.learn("a", 4.0, {A: 4.0})
        return dict.fromkeys(cells, 0.5)

    known = [PairedCell(cell=cell) for cell in (A, MANY)]
    sample_pairs(known, lambda _: wanted.pop() if wanted else (), measure_pair, budget)
    assert sampled == [[A, MANY], [A, MANY], [A]]


def test_a_figure_that_is_begun_comes_before_one_that_takes_less() -> None:
    """Either takes all of what is left."""
    budget = Budget(lambda: 6.0)
    budget.learn("a", 3.0, {MANY: 3.0})
    budget.learn("b", 2.9, {B_MANY: 2.9})
    wanted = [_first(MANY, 1), _first(B_MANY, 2)]
    assert [one.cell for one in budget.worthwhile(wanted)] == [B_MANY]
    assert [one.cell for one in budget.worthwhile(wanted, {MANY})] == [MANY]
