"""Backends take turns on the same texts, so that a slow minute of the machine slows all of them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from embedopt.clock import Clock
from embedopt.inference.backends import DEFAULT
from embedopt.inference.encoder import Encoder
from embedopt.measure.latency import as_new, rotate, seconds_of, summarise
from embedopt.measure.roofline import measure_roofline, operations_per_token, product_shapes
from embedopt.measure.session import Session
from embedopt.records import SideBySideCase, Turns

Case = Literal["short", "mixed"]
OpenBackend = Callable[[str], AbstractContextManager[Encoder]]

# Tokens of the longest text in the short case: 12 on average in the corpus.
SHORT_TOKENS = 16
_WARM_UP_CALLS = 5


def measure_turns(session: Session, case: Case, reference: Encoder) -> SideBySideCase:
    """Measure all backends of a run in turns, and the roofline after each round.

    The reference counts the tokens of the texts.
    """
    profile, texts = session.profile, session.corpus.mixed_texts
    if case == "short":
        texts = short_texts(texts, reference.token_counts(texts).tolist())
    plan = TurnsPlan(
        names=[
            row.name
            for row in session.options.backends
            if not row.missing_packages and session.supports(row.name)
        ],
        open_backend=session.opened,
        texts=texts[: profile.turn_texts],
        as_new=any(row.project for row in session.options.backends),
        rounds=profile.turns,
        calls=profile.turn_calls,
    )
    shapes = product_shapes(session.folder("onnx-fp32"))
    rooflines: list[Mapping[str, float]] = []
    turns = take_turns(plan, lambda: rooflines.append(measure_roofline(shapes)), session.on_detail)
    return SideBySideCase(
        texts=len(plan.texts),
        mean_tokens=float(np.mean(reference.token_counts(plan.texts))),
        turns=dict(turns),
        roofline_per_s={name: tuple(roofline[name] for roofline in rooflines) for name in rooflines[0]},
        operations_per_token=operations_per_token(shapes),
        default=DEFAULT,
    )


def short_texts(texts: Sequence[str], token_counts: Sequence[int]) -> tuple[str, ...]:
    """Return the texts of at most :data:`SHORT_TOKENS` tokens."""
    return tuple(text for text, count in zip(texts, token_counts, strict=True) if count <= SHORT_TOKENS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnsPlan:
    """Which backends take turns, and on what.

    Attributes:
        open_backend: opens a backend.
        texts: texts of the call with many.
        rounds: turns of each backend.
        calls: calls with one text each in a turn.
        as_new: whether each round has texts that no backend has met, for code that may keep results.
    """

    names: Sequence[str]
    open_backend: OpenBackend
    texts: Sequence[str]
    rounds: int
    calls: int
    as_new: bool = False


def take_turns(
    plan: TurnsPlan,
    on_round: Callable[[], None] = lambda: None,
    on_detail: Callable[[str], None] = lambda _: None,
    clock: Clock | None = None,
) -> Mapping[str, Turns]:
    """Measure backends in turns, in several rounds, by the clocks of their encoders unless one is given.

    Each is opened for its turn only: idle thread pools of one runtime disturb the next. Every round starts
    with another backend. ``on_detail`` gets the turn and the backend in words before each turn, and
    ``on_round`` is called at the end of each round, when no backend is open.
    """
    rates: dict[str, list[float]] = {name: [] for name in plan.names}
    singles: dict[str, list[Sequence[float]]] = {name: [] for name in plan.names}
    single_texts = rotate(plan.texts, 1)
    for turn in range(plan.rounds):
        one_by_one = [text for _ in range(plan.calls) for text in next(single_texts)]
        texts, timed = plan.texts, one_by_one
        if plan.as_new:
            texts, timed = as_new(texts), as_new(one_by_one)
        for name in np.roll(plan.names, -turn).tolist():
            on_detail(f"turn {turn + 1} of {plan.rounds}, {name}")
            with plan.open_backend(name) as encoder:
                now_s = clock or encoder.clock
                encoder.encode(plan.texts[: len(texts) // 4])
                rates[name].append(len(texts) / seconds_of(partial(encoder.encode, texts), now_s))
                for text in one_by_one[:_WARM_UP_CALLS]:
                    encoder.encode([text])
                singles[name].append([seconds_of(partial(encoder.encode, [text]), now_s) for text in timed])
        on_round()
    return {name: _turns(name, rates[name], singles[name]) for name in plan.names}


def _turns(name: str, rates: Sequence[float], singles: Sequence[Sequence[float]]) -> Turns:
    pooled = summarise(name, 1, [seconds for turn in singles for seconds in turn])
    return Turns(
        texts_per_s=tuple(rates),
        one_by_one_per_s=tuple(len(turn) / sum(turn) for turn in singles),
        p50_ms=pooled.p50_ms,
        p99_ms=pooled.p99_ms,
    )
