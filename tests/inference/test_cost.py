"""What a batch costs, from calls that are timed with a fake clock."""

from collections.abc import Callable

import pytest

from embedopt.inference.cost import measured_cost, measured_costs
from tests.fakes import FakeClock


class Way:
    """A way of encoding that takes 1 ms a batch and ``token_ms`` a token, and is stalled in some calls."""

    def __init__(self, name: str, clock: FakeClock, log: list[str], token_ms: float) -> None:
        self.name, self.clock, self.log, self.token_ms = name, clock, log, token_ms
        self.stalls: set[int] = set()
        self.calls = 0

    def batch(self, tokens: int) -> tuple[int, Callable[[], None]]:
        return tokens, lambda: self._encode(tokens)

    def _encode(self, tokens: int) -> None:
        self.log.append(f"{self.name} {tokens}")
        self.clock.advance(
            1e-3 * (1.0 + self.token_ms * tokens) * (5.0 if self.calls in self.stalls else 1.0)
        )
        self.calls += 1


def test_ways_are_timed_in_turns_after_a_first_call_of_each_shape() -> None:
    log, clock = list[str](), FakeClock()
    ways = [Way("a", clock, log, 0.1), Way("b", clock, log, 0.2)]
    costs = measured_costs(([way.batch(tokens) for tokens in (8, 32)] for way in ways), clock)
    assert log == ["a 8", "a 32", "b 8", "b 32"] * 7
    assert [cost.token_s for cost in costs] == [pytest.approx(1e-4), pytest.approx(2e-4)]
    assert [cost.fixed_s for cost in costs] == [pytest.approx(1e-3)] * 2


def test_stalls_in_fewer_than_half_of_the_rounds_do_not_count() -> None:
    clock = FakeClock()
    way = Way("a", clock, [], 0.1)
    way.stalls = {2, 3, 4, 5}  # two of the six rounds of both batches
    cost = measured_cost([way.batch(8), way.batch(32)], clock)
    assert cost.seconds(100) == pytest.approx(1e-3 + 100e-4)


def test_nothing_is_learnt_from_no_ways() -> None:
    assert measured_costs([], FakeClock()) == []
