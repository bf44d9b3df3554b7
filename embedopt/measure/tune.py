"""Search for a backend's fastest settings on this machine, one setting after another.

In each round, all values of a setting encode the same texts, and only times of the same round are compared:
what else the machine does slows all values alike. No setting alters an embedding beyond the rounding of
floats, except ``batch_tokens``: it decides which texts share a batch, on which the embeddings of a dynamic
INT8 backend depend a little.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
from scipy import stats

from embedopt.clock import Clock
from embedopt.errors import UsageError
from embedopt.inference.backend import Backend, Mode, Settings
from embedopt.inference.backends import BACKENDS
from embedopt.inference.encoder import Encoder
from embedopt.inference.hardware import replicas_and_threads
from embedopt.measure.latency import rotate, seconds_of
from embedopt.schema import Interval
from embedopt.trial import Trial

MIN_ROUNDS = 5
TUNABLE = tuple(name for name, row in BACKENDS.items() if row.tunable)
_COVERAGE = 0.95
# In throughput mode, a round keeps each replica busy for some 0.2 s; in latency mode, it takes a median.
_TEXTS_PER_REPLICA = 256
_SINGLE_CALLS = 16

Value = str | int | bool
TunedFor = Literal[Mode, "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which settings are searched, on what, and for how long.

    Attributes:
        backend: the row of the table of backends; its own values are the defaults.
        mode: mode whose settings are tried: ``latency`` times single texts, ``throughput`` many.
        texts: texts in an order in which any part of them is a fair sample.
        budget_s: seconds of the search; the round that is running at their end is finished.
        open_encoder: opens a backend with the settings of a row.
        on_progress: called with the setting that is being tried, and the seconds spent.
        clock: returns seconds.
    """

    backend: Backend
    mode: Mode
    texts: Sequence[str]
    budget_s: float
    open_encoder: Callable[[Backend], Encoder]
    on_progress: Callable[[str, float], None] = lambda _, __: None
    clock: Clock = time.perf_counter


def tunable_modes(row: Backend, mode: TunedFor) -> list[Mode]:
    """Return the modes that ``mode`` names and the backend has settings to try in.

    Raises:
        UsageError: there is none.
    """
    chosen: tuple[Mode, ...] = get_args(Mode) if mode == "both" else (mode,)
    modes = [one for one in chosen if row.tunable.get(one)]
    if not modes:
        others = [name for name in TUNABLE if any(BACKENDS[name].tunable.get(one) for one in chosen)]
        raise UsageError(
            f"{row.name} has no settings to try with --mode {mode}; choose one of {', '.join(others)}"
        )
    return modes


def search(plan: Search) -> tuple[Trial, ...]:
    """Compare the values of each setting in turn, with the winners of the settings before it.

    What is left of the budget is divided among the settings by their numbers of values. A setting whose share
    is too short for :data:`MIN_ROUNDS` keeps its default.
    """
    started_s, trials, row = plan.clock(), list[Trial](), plan.backend
    settings = plan.backend.tunable.get(plan.mode, {})
    left = sum(map(len, settings.values()))
    for setting, values in settings.items():
        spent_s = plan.clock() - started_s
        share_s = (plan.budget_s - spent_s) * len(values) / left
        left -= len(values)
        rows = {value: row.with_settings({setting: value}) for value in values}
        show = partial(_show, plan, setting, started_s)
        costs_s = _time_rounds(plan, rows, started_s + spent_s + share_s, show)
        trials += judge(setting, costs_s, row.settings[setting])
        row = plan.backend.with_settings(winners(trials))
    return tuple(trials)


def judge(setting: str, costs_s: Mapping[Value, Sequence[float]], default: Value) -> tuple[Trial, ...]:
    """Decide which value of a setting is kept.

    For each challenger, the log ratios of the default's time to its own in the same round give a mean and
    Student's interval, widened for the number of challengers (Bonferroni). Among the challengers whose whole
    interval is above 1, the fastest is kept; without any, the default is.
    """
    rounds = len(costs_s[default])
    challengers = [value for value in costs_s if value != default]
    speed_ups: dict[Value, tuple[float | None, Interval | None]] = dict.fromkeys(costs_s, (None, None))
    kept = default
    if rounds >= MIN_ROUNDS:
        ratios = {
            value: _speed_up(costs_s[default], costs_s[value], len(challengers)) for value in challengers
        }
        faster = [value for value, (_, (low, _)) in ratios.items() if low > 1.0]
        kept = max(faster, key=lambda value: ratios[value][0], default=default)
        speed_ups |= {default: (1.0, None), **ratios}
    return tuple(
        Trial(
            setting=setting,
            value=value,
            default=value == default,
            kept=value == kept,
            rounds=rounds,
            speed_up=speed_ups[value][0],
            speed_up_ci=speed_ups[value][1],
        )
        for value in (default, *challengers)
    )


def winners(trials: Sequence[Trial]) -> Settings:
    """Return the settings whose default was beaten, with the values that beat it."""
    return {trial.setting: trial.value for trial in trials if trial.kept and not trial.default}


def _speed_up(
    default_s: Sequence[float], challenger_s: Sequence[float], challengers: int
) -> tuple[float, Interval]:
    logs = np.log(default_s) - np.log(challenger_s)
    tail = (1.0 - _COVERAGE) / 2 / challengers
    half = float(stats.t.ppf(1.0 - tail, len(logs) - 1) * logs.std(ddof=1)) / math.sqrt(len(logs))
    mean = float(logs.mean())
    return math.exp(mean), (math.exp(mean - half), math.exp(mean + half))


def _show(plan: Search, setting: str, started_s: float) -> None:
    plan.on_progress(f"{plan.mode}: {setting}", min(plan.clock() - started_s, plan.budget_s))


def _time_rounds(
    plan: Search, rows: Mapping[Value, Backend], ends_s: float, on_round: Callable[[], None]
) -> dict[Value, list[float]]:
    """Return the seconds of each value in each round, for as many rounds as the time allows."""
    cost, batches = _COSTS[plan.mode], _batches(plan)
    costs_s: dict[Value, list[float]] = {value: [] for value in rows}
    if plan.clock() >= ends_s:  # no time even to open
        return costs_s
    with ExitStack() as stack:
        encoders = [stack.enter_context(plan.open_encoder(row)) for row in rows.values()]
        for encoder in encoders:  # warms up
            cost(encoder, next(_batches(plan)), plan.clock)
        turns = deque(zip(costs_s.values(), encoders, strict=True))
        on_round()
        while plan.clock() < ends_s:
            texts = next(batches)
            for seconds, encoder in turns:
                seconds.append(cost(encoder, texts, plan.clock))
            turns.rotate(-1)
            on_round()
    return costs_s


def _batches(plan: Search) -> Iterator[list[str]]:
    replicas, _ = replicas_and_threads(plan.mode)
    return rotate(plan.texts, _SINGLE_CALLS if plan.mode == "latency" else _TEXTS_PER_REPLICA * replicas)


def _call_s(encoder: Encoder, texts: Sequence[str], clock: Clock) -> float:
    return seconds_of(partial(encoder.encode, texts), clock)


def _median_call_s(encoder: Encoder, texts: Sequence[str], clock: Clock) -> float:
    return float(np.median([_call_s(encoder, [text], clock) for text in texts]))


_COSTS: Mapping[Mode, Callable[[Encoder, Sequence[str], Clock], float]] = {
    "latency": _median_call_s,
    "throughput": _call_s,
}
