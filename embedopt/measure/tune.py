"""Which settings are the fastest on this machine? One setting after another, its values side by side.

All values of a setting encode the same texts in each round, and only times of one round are compared, so
that what else the machine does falls on all of them alike. None of the settings alters an embedding beyond
the rounding of floats, but for ``batch_tokens``: it gives a text other company in its batch, on which the
embedding of a dynamic INT8 backend depends a little.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from scipy import stats

from embedopt.inference.backends import Backend, Mode, Settings
from embedopt.inference.encoder import Encoder
from embedopt.inference.threads import replicas_and_threads
from embedopt.measure.latency import Clock, rotate
from embedopt.records import Trial
from embedopt.schema import Interval

MIN_ROUNDS = 5
_COVERAGE = 0.95
# A round of throughput keeps each replica busy for some 0.2 s; one of latency has a median.
_TEXTS_PER_REPLICA = 256
_SINGLE_CALLS = 16

Value = str | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is searched.

    Attributes:
        backend: the row as it is in the table; its own values are the defaults.
        mode: whose settings are tried, and whose speed counts: of single texts, or of many.
        texts: in an order in which any stretch of them is a fair sample.
        budget_s: seconds that all of it takes, but for the round that is running when they are over.
        open_encoder: loads a row.
        on_progress: told what is being tried, and how many seconds are spent.
        clock: seconds.
    """

    backend: Backend
    mode: Mode
    texts: Sequence[str]
    budget_s: float
    open_encoder: Callable[[Backend], Encoder]
    on_progress: Callable[[str, float], None] = lambda _, __: None
    clock: Clock = time.perf_counter


def search(wanted: Search) -> tuple[Trial, ...]:
    """Race the values of each setting in turn, each race with the winners of those before it.

    The settings share what is left of the budget by how many values they have. Where a setting's share is too
    short for :data:`MIN_ROUNDS`, its default stays.
    """
    started_s, trials, row = wanted.clock(), list[Trial](), wanted.backend
    settings = wanted.backend.tunable.get(wanted.mode, {})
    left = sum(map(len, settings.values()))
    for setting, values in settings.items():
        spent_s = wanted.clock() - started_s
        share_s = (wanted.budget_s - spent_s) * len(values) / left
        left -= len(values)
        costs_s = _race(wanted, row, setting, values, _Span(started_s, spent_s + share_s))
        trials += judge(setting, costs_s, row.settings[setting])
        row = wanted.backend.with_settings(winners(trials))
    return tuple(trials)


def judge(setting: str, costs_s: Mapping[Value, Sequence[float]], default: Value) -> tuple[Trial, ...]:
    """Decide a race.

    Of each challenger, the log ratios of the default's time to its own in the same round give a mean and
    Student's interval, widened for the number of challengers (Bonferroni). The fastest of those whose whole
    interval is above 1 is kept, or else the default.

    Args:
        setting: its name.
        costs_s: the seconds of each value, a figure a round; the default is among them.
        default: the value to be beaten.
    """
    rounds = len(costs_s[default])
    challengers = [value for value in costs_s if value != default]
    enough = rounds >= MIN_ROUNDS
    ratios = {
        value: _speed_up(costs_s[default], costs_s[value], len(challengers))
        for value in challengers
        if enough
    }
    faster = [value for value, (_, (low, _)) in ratios.items() if low > 1.0]
    kept = max(faster, key=lambda value: ratios[value][0], default=default)
    found: dict[Value, tuple[float | None, Interval | None]] = {default: (1.0 if enough else None, None)}
    return tuple(
        Trial(
            setting=setting,
            value=value,
            default=value == default,
            kept=value == kept,
            rounds=rounds,
            speed_up=speed_up,
            speed_up_ci=interval,
        )
        for value in (default, *challengers)
        for speed_up, interval in [(found | ratios).get(value, (None, None))]
    )


def winners(trials: Sequence[Trial]) -> Settings:
    """Return the settings for which something else than the default is kept."""
    return {trial.setting: trial.value for trial in trials if trial.kept and not trial.default}


def _speed_up(
    default_s: Sequence[float], challenger_s: Sequence[float], challengers: int
) -> tuple[float, Interval]:
    logs = np.log(default_s) - np.log(challenger_s)
    tail = (1.0 - _COVERAGE) / 2 / challengers
    half = float(stats.t.ppf(1.0 - tail, len(logs) - 1) * logs.std(ddof=1)) / math.sqrt(len(logs))
    mean = float(logs.mean())
    return math.exp(mean), (math.exp(mean - half), math.exp(mean + half))


@dataclass(frozen=True, slots=True)
class _Span:
    started_s: float
    until_s: float  # after started_s


def _race(
    wanted: Search, row: Backend, setting: str, values: Sequence[Value], span: _Span
) -> dict[Value, list[float]]:
    """Return the seconds of each value, a figure a round, as far as the time goes."""
    cost = _COSTS[wanted.mode]
    stretches = _stretches(wanted)
    costs_s: dict[Value, list[float]] = {value: [] for value in values}
    if wanted.clock() - span.started_s >= span.until_s:  # not even time to load
        return costs_s

    def spent_s() -> float:
        now_s = wanted.clock() - span.started_s
        wanted.on_progress(f"{wanted.mode}: {setting}", min(now_s, wanted.budget_s))
        return now_s

    with ExitStack() as stack:
        encoders = {
            value: stack.enter_context(wanted.open_encoder(row.with_settings({setting: value})))
            for value in values
        }
        for encoder in encoders.values():  # warms up
            cost(encoder, next(_stretches(wanted)), wanted.clock)
        turn = 0
        while spent_s() < span.until_s:
            texts, first = next(stretches), turn % len(values)
            for value in (*values[first:], *values[:first]):
                costs_s[value].append(cost(encoders[value], texts, wanted.clock))
            turn += 1
    return costs_s


def _stretches(wanted: Search) -> Iterator[list[str]]:
    replicas, _ = replicas_and_threads(wanted.mode)
    return rotate(wanted.texts, _SINGLE_CALLS if wanted.mode == "latency" else _TEXTS_PER_REPLICA * replicas)


def _median_call_s(encoder: Encoder, texts: Sequence[str], clock: Clock) -> float:
    return float(np.median([_call_s(encoder, [text], clock) for text in texts]))


def _call_s(encoder: Encoder, texts: Sequence[str], clock: Clock) -> float:
    started_s = clock()
    encoder.encode(texts)
    return clock() - started_s


_COSTS: Mapping[Mode, Callable[[Encoder, Sequence[str], Clock], float]] = {
    "latency": _median_call_s,
    "throughput": _call_s,
}
