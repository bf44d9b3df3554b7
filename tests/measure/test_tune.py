"""A value that is clearly faster is kept, noise is not, and the budget is respected."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle

import pytest

from embedopt.inference.backend import Backend, Mode
from embedopt.inference.backends import BACKENDS
from embedopt.inference.encoder import Encoder
from embedopt.measure.tune import MIN_ROUNDS, Search, judge, search, winners
from embedopt.trial import Trial
from tests.fakes import FakeClock, FakeEncoder, fake_backend

_TEXTS = ("one", "two words", "three")
_Cost = Callable[[Backend], float]


@dataclasses.dataclass(frozen=True)
class _Bench:
    """Fake encoders whose calls advance a fake clock by a cost that depends on the row's settings."""

    cost_s: _Cost
    open_s: float = 0.0
    noise: Iterator[float] = dataclasses.field(default_factory=lambda: cycle([1.0]))
    clock: FakeClock = dataclasses.field(default_factory=FakeClock)
    opened: list[FakeEncoder] = dataclasses.field(default_factory=list)
    steps: list[tuple[str, float]] = dataclasses.field(default_factory=list)

    def open_encoder(self, row: Backend) -> Encoder:
        self.clock.advance(self.open_s)
        self.opened.append(
            FakeEncoder(str(row.settings), lambda _: self.clock.advance(self.cost_s(row) * next(self.noise)))
        )
        return self.opened[-1]

    def run(
        self, tunable: Mapping[str, tuple[str, ...]], budget_s: float, mode: Mode = "throughput"
    ) -> tuple[Trial, ...]:
        row = dataclasses.replace(
            fake_backend(),
            open_options={name: values[0] for name, values in tunable.items()},
            tunable={mode: tunable},
        )
        return search(
            Search(
                backend=row,
                mode=mode,
                texts=_TEXTS,
                budget_s=budget_s,
                open_encoder=self.open_encoder,
                on_progress=lambda step, spent_s: self.steps.append((step, spent_s)),
                clock=self.clock,
            )
        )


def test_a_faster_value_wins() -> None:
    bench = _Bench(lambda row: {"slow": 2.0, "fast": 1.0, "slowest": 4.0}[str(row.settings["speed"])])
    trials = bench.run({"speed": ("slow", "fast", "slowest")}, budget_s=50.0)
    assert [trial.value for trial in trials] == ["slow", "fast", "slowest"]
    assert [trial.kept for trial in trials] == [False, True, False]
    assert [trial.default for trial in trials] == [True, False, False]
    assert [trial.speed_up for trial in trials] == pytest.approx([1.0, 2.0, 0.5])
    assert trials[0].speed_up_ci is None
    assert trials[1].speed_up_ci == pytest.approx((2.0, 2.0))
    # Rounds of 7 s each, after one that warms up: the 7th ends at 56 s.
    assert {trial.rounds for trial in trials} == {7}
    assert winners(trials) == {"speed": "fast"}


def test_noise_does_not_win() -> None:
    """Two values with the same cost, each a little faster in every other round."""
    trials = _Bench(lambda row: 1.0, noise=cycle([1.0, 1.1, 0.9, 1.05, 0.95])).run({"x": ("a", "b")}, 60.0)
    assert trials[0].rounds > MIN_ROUNDS
    assert trials[1].speed_up != pytest.approx(1.0, abs=1e-6)
    assert [trial.kept for trial in trials] == [True, False]
    assert winners(trials) == {}


def test_an_interval_that_reaches_1_does_not_win() -> None:
    """Mean log ratio 0.1, standard deviation 0.1 over 5 rounds: t is 2.776, half the width 0.124."""
    rounds = [1.0] * 5
    spread = [0.1 + 0.1 * x for x in (-1.264911, -0.632456, 0.0, 0.632456, 1.264911)]
    wide = judge("x", {"a": rounds, "b": [2.718281828**-x for x in spread]}, "a")
    assert wide[1].speed_up == pytest.approx(2.718281828**0.1)
    assert wide[1].speed_up_ci == pytest.approx((0.976, 1.251), abs=0.001)
    assert wide[0].kept
    clear = judge("x", {"a": rounds, "b": [2.718281828 ** -(x + 0.05) for x in spread]}, "a")
    assert clear[1].kept


def test_more_challengers_widen_the_interval() -> None:
    """Times that win against one challenger do not win as one of four."""
    times = [0.90, 0.80, 0.95, 0.85, 0.99]
    alone = judge("x", {"a": [1.0] * 5, "b": times}, "a")
    assert alone[1].kept
    many = judge("x", {"a": [1.0] * 5, "b": times, 1: [2.0] * 5, 2: [2.0] * 5, 3: [2.0] * 5}, "a")
    assert many[1].speed_up == alone[1].speed_up
    assert [trial.kept for trial in many] == [True] + [False] * 4


def test_the_fastest_of_two_faster_values_is_kept() -> None:
    trials = judge("x", {"a": [1.0] * 5, "b": [0.8] * 5, "c": [0.5] * 5}, "a")
    assert winners(trials) == {"x": "c"}


@pytest.mark.parametrize(("rounds", "kept"), [(MIN_ROUNDS - 1, "a"), (MIN_ROUNDS, "b")])
def test_too_few_rounds_keep_the_default(rounds: int, kept: str) -> None:
    trials = judge("x", {"a": [1.0] * rounds, "b": [0.5] * rounds}, "a")
    assert [trial.value for trial in trials if trial.kept] == [kept]
    assert [trial.rounds for trial in trials] == [rounds] * 2
    assert (trials[0].speed_up is None) == (kept == "a")


def test_too_small_a_budget_keeps_the_default_and_is_bounded() -> None:
    """Each setting has 3 s: opening takes 1 s, warming up 2 s."""
    bench = _Bench(lambda row: 1.0, open_s=0.5)
    trials = bench.run({"x": ("a", "b"), "y": ("c", "d")}, budget_s=6.0)
    assert [(trial.value, trial.kept, trial.rounds) for trial in trials] == [
        ("a", True, 0),
        ("b", False, 0),
        ("c", True, 0),
        ("d", False, 0),
    ]
    assert bench.clock.now_s == 6.0


def test_no_budget_opens_nothing() -> None:
    bench = _Bench(lambda row: 1.0)
    assert winners(bench.run({"x": ("a", "b")}, budget_s=0.0)) == {}
    assert bench.opened == []


def test_the_settings_share_the_budget_by_their_values() -> None:
    """12 s for each value: the first of its rounds warms up."""
    bench = _Bench(lambda row: 1.0)
    trials = bench.run({"x": ("a", "b"), "y": ("c", "d", "e")}, budget_s=60.0)
    assert [trial.rounds for trial in trials] == [11] * 5
    assert bench.clock.now_s == 60.0
    assert bench.steps[0] == ("throughput: x", 2.0)
    assert bench.steps[-1] == ("throughput: y", 60.0)


def test_a_setting_is_tried_with_the_winners_of_those_before_it() -> None:
    bench = _Bench(lambda row: 1.0 if row.settings["x"] == "b" else 2.0)
    bench.run({"x": ("a", "b"), "y": ("c", "d")}, budget_s=60.0)
    assert [encoder.name for encoder in bench.opened] == [
        "{'x': 'a', 'y': 'c'}",
        "{'x': 'b', 'y': 'c'}",
        "{'x': 'b', 'y': 'c'}",
        "{'x': 'b', 'y': 'd'}",
    ]


def test_the_order_rotates_and_every_encoder_is_closed() -> None:
    order: list[str] = []

    def cost_s(row: Backend) -> float:
        order.append(str(row.settings["x"]))
        return 1.0

    bench = _Bench(cost_s)
    bench.run({"x": ("a", "b", "c")}, budget_s=12.0)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert [encoder.released for encoder in bench.opened] == [1, 1, 1]


def test_values_encode_the_same_texts_in_a_round() -> None:
    bench = _Bench(lambda row: 1.0)
    bench.run({"x": ("a", "b")}, budget_s=20.0)
    first, second = bench.opened
    assert first.calls == second.calls
    assert {len(call) % 256 for call in first.calls} == {0}


def test_latency_is_the_median_of_single_texts() -> None:
    """One slow call in 16 does not decide."""
    costs_s = {"a": cycle([1.0]), "b": cycle([100.0] + [0.5] * 15)}
    bench = _Bench(lambda row: next(costs_s[str(row.settings["x"])]))
    trials = bench.run({"x": ("a", "b")}, budget_s=1000.0, mode="latency")
    assert {len(call) for encoder in bench.opened for call in encoder.calls} == {1}
    assert trials[1].speed_up == pytest.approx(2.0)


def test_an_encoder_that_fails_leaves_none_open() -> None:
    bench = _Bench(lambda row: 1.0 / (row.settings["x"] == "a"))
    with pytest.raises(ZeroDivisionError):
        bench.run({"x": ("a", "b")}, budget_s=20.0)
    assert [encoder.released for encoder in bench.opened] == [1, 1]


@pytest.mark.parametrize("name", BACKENDS)
def test_the_values_that_a_row_tries_include_its_own(name: str) -> None:
    """No setting that changes the precision is tried."""
    row = BACKENDS[name]
    assert set(row.tunable) <= ({"latency", "throughput"} if row.has_modes else set())
    for settings in row.tunable.values():
        assert "INFERENCE_PRECISION_HINT" not in settings
        assert "compute_type" not in settings
        assert {
            setting: row.settings[setting] in values for setting, values in settings.items()
        } == dict.fromkeys(settings, True)
