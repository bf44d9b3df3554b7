"""Which is faster? Backends take turns on the same texts, so that a slow minute of the machine slows all."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import numpy as np

from embedopt.inference.encoder import Encoder
from embedopt.measure.latency import Clock, rotate, summarise
from embedopt.records import Turns

Case = Literal["short", "mixed"]
# Opens a backend as it is for many texts and as it is for one.
Opens = Callable[[str], AbstractContextManager[tuple[Encoder, Encoder]]]

# Tokens of the longest text in the short case: 12 on average in the corpus.
SHORT_TOKENS = 16
_WARM_UP_CALLS = 5


def short_texts(texts: Sequence[str], token_counts: Sequence[int]) -> tuple[str, ...]:
    """Return the texts of at most :data:`SHORT_TOKENS` tokens."""
    return tuple(text for text, count in zip(texts, token_counts, strict=True) if count <= SHORT_TOKENS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """What is raced.

    Attributes:
        names: the backends.
        opens: opens one of them, in throughput and in latency mode.
        texts: all are encoded in one call in throughput mode.
        rounds: how often each has its turn.
        calls: with one text each, in latency mode, in each round.
    """

    names: Sequence[str]
    opens: Opens
    texts: Sequence[str]
    rounds: int
    calls: int


def take_turns(
    race: Race, on_round: Callable[[], None] = lambda: None, clock: Clock = time.perf_counter
) -> Mapping[str, Turns]:
    """Measure backends in turn, in several rounds.

    Each is opened for its turn only: idle thread pools of one runtime disturb the next. The order moves on by
    one with each round.

    Args:
        race: the backends and what they do.
        on_round: called at the end of each round, when none is open.
        clock: tells seconds.
    """
    texts = race.texts
    rates: dict[str, list[float]] = {name: [] for name in race.names}
    singles: dict[str, list[Sequence[float]]] = {name: [] for name in race.names}
    single_texts = rotate(texts, 1)
    for turn in range(race.rounds):
        chosen = [text for _ in range(race.calls) for text in next(single_texts)]
        for name in np.roll(race.names, -turn).tolist():
            with race.opens(name) as (many, single):
                many.encode(texts[: len(texts) // 4])
                [seconds] = _durations(many, [texts], clock)
                rates[name].append(len(texts) / seconds)
                for text in chosen[:_WARM_UP_CALLS]:
                    single.encode([text])
                singles[name].append(_durations(single, [[text] for text in chosen], clock))
        on_round()
    return {name: _turns(name, rates[name], singles[name]) for name in race.names}


def _durations(encoder: Encoder, batches: Sequence[Sequence[str]], clock: Clock) -> list[float]:
    durations = []
    for batch in batches:
        started_s = clock()
        encoder.encode(batch)
        durations.append(clock() - started_s)
    return durations


def _turns(name: str, rates: Sequence[float], singles: Sequence[Sequence[float]]) -> Turns:
    pooled = summarise(name, 1, [seconds for turn in singles for seconds in turn])
    return Turns(
        texts_per_s=tuple(rates),
        one_by_one_per_s=tuple(len(turn) / sum(turn) for turn in singles),
        p50_ms=pooled.p50_ms,
        p99_ms=pooled.p99_ms,
    )
