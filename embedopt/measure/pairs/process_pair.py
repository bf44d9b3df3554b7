"""One process of each side, live at the same time and called in turns: A, B, B, A.

What is the same for both calls of a moment, such as a neighbour on the machine, falls out of their ratio; the
order within a quad cancels a drift. What two processes have by luck, such as where their memory lies, does
not: so each pair of processes yields one number, and the evidence is many pairs.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
from scipy import stats

from embedopt.evidence import Cell, ProcessPair
from embedopt.measure.latency import rotate

# Of the quads' log ratios, this share is left out at each end: one call in ten meets a busy neighbour.
_TRIMMED = 0.25
_FEWEST_QUADS, _MOST_QUADS = 5, 200
_WARMUP_CALLS = 3
# Texts that lie between the starts of two pairs: each pair sees other texts.
_STRIDE = 97

Clock = Callable[[], float]


class Client(Protocol):
    """A worker, as measuring needs it: see :class:`embedopt.measure.pairs.worker_client.WorkerClient`."""

    def ask(self, do: str, **values: object) -> dict[str, Any]:
        """Send a request to the worker and return its answer."""
        ...

    def send(self, do: str, **values: object) -> None:
        """Send a request."""
        ...

    def receive(self) -> dict[str, Any]:
        """Return the answer to what was sent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What both sides are asked to do.

    Attributes:
        texts: that the timed calls encode.
        model: as of ``--model``.
        cache_dir: as of ``--cache-dir``.
        cell_s: seconds that a pair of processes spends on one cell and slow-down.
    """

    texts: tuple[str, ...]
    model: str | None = None
    cache_dir: str | None = None
    cell_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Pair:
    """Two live processes; ``number`` counts the pairs of a run, and its parity says which side is A."""

    number: int
    base: Client
    head: Client

    @property
    def in_order(self) -> tuple[Client, Client]:
        """A, then B."""
        return (self.base, self.head) if self.number % 2 == 0 else (self.head, self.base)


def cells_of(backends: Sequence[str], batch_sizes: Sequence[int]) -> tuple[Cell, ...]:
    """Return what is timed of each backend: a call of every batch size, and the cold start."""
    return tuple(
        cell
        for name in backends
        for cell in (
            *(Cell(backend=name, batch_size=size) for size in batch_sizes),
            Cell(backend=name, batch_size=0, metric="load_s"),
        )
    )


def measure_pair(
    pair: Pair,
    cells: Sequence[Cell],
    work: Work,
    slowdowns: Sequence[float] = (0.0,),
    clock: Clock = time.perf_counter,
) -> dict[tuple[Cell, float], ProcessPair]:
    """Load the one backend of ``cells`` on both sides and time every cell.

    Args:
        pair: two processes that have loaded nothing.
        cells: of one backend.
        work: texts and times.
        slowdowns: shares of a call by which the head is slowed on purpose; each is a measurement of its own,
            all of them interleaved.
        clock: seconds, to plan how many calls fill the time.

    Returns:
        What was measured, by cell and slow-down; a cold start is never slowed.
    """
    # At the same time: whoever loads second is 5 to 14 % faster.
    for side in pair.in_order:
        side.send("load", backend=cells[0].backend, model=work.model, cache_dir=work.cache_dir)
    loaded_s = {id(side): side.receive()["load_s"] for side in pair.in_order}
    found = {}
    for cell in cells:
        if cell.metric == "load_s":
            found[cell, 0.0] = sampled([loaded_s[id(pair.base)]], [loaded_s[id(pair.head)]])
            continue
        for slowdown, quads in _quads_of(pair, cell, work, slowdowns, clock).items():
            base_s, head_s = zip(*quads, strict=True)
            found[cell, slowdown] = sampled([*chain(*base_s)], [*chain(*head_s)])
    return found


def sampled(base_s: Sequence[float], head_s: Sequence[float]) -> ProcessPair:
    """Return the record of a process pair.

    Args:
        base_s: its calls, two by two those of a quad.
        head_s: likewise.
    """
    size = 2 if len(base_s) > 1 else 1
    logs = np.log(np.reshape(head_s, (-1, size))) - np.log(np.reshape(base_s, (-1, size)))
    return ProcessPair(
        log_ratio=float(stats.trim_mean(logs.mean(axis=1), _TRIMMED)),
        base_ms=tuple(round(1e3 * float(seconds), 4) for seconds in base_s),
        head_ms=tuple(round(1e3 * float(seconds), 4) for seconds in head_s),
    )


Quad = tuple[tuple[float, float], tuple[float, float]]


def _quads_of(
    pair: Pair, cell: Cell, work: Work, slowdowns: Sequence[float], clock: Clock
) -> dict[float, list[Quad]]:
    texts = np.roll(np.asarray(work.texts, dtype=object), -_STRIDE * pair.number).tolist()
    batches = rotate(texts, cell.batch_size)
    call_s = _warm_up(pair, cell, batches, clock)
    rounds = min(max(round(work.cell_s / (4 * call_s)), _FEWEST_QUADS), _MOST_QUADS)
    quads: dict[float, list[Quad]] = {slowdown: [] for slowdown in slowdowns}
    for _ in range(rounds):
        batch = next(batches)
        for slowdown, done in quads.items():
            done.append(_quad(pair, cell, batch, slowdown))
    return quads


def _warm_up(pair: Pair, cell: Cell, batches: Iterator[list[str]], clock: Clock) -> float:
    """Call both sides and return the seconds that a call takes with all that surrounds it."""
    first, second = pair.in_order
    took_s = []
    for _ in range(_WARMUP_CALLS):
        batch, started_s = next(batches), clock()
        _seconds(first, cell, batch)
        _seconds(second, cell, batch)
        took_s.append((clock() - started_s) / 2)
    return min(took_s)


def _quad(pair: Pair, cell: Cell, batch: Sequence[str], slowdown: float) -> Quad:
    """Call A, B, B, A on the same texts and return the base's two times and the head's, in seconds."""
    first, second = pair.in_order
    extra = {id(pair.base): 0.0, id(pair.head): slowdown}
    times: dict[int, list[float]] = {id(first): [], id(second): []}
    for side in (first, second, second, first):
        times[id(side)].append(_seconds(side, cell, batch, extra[id(side)]))
    [base_1, base_2], [head_1, head_2] = times[id(pair.base)], times[id(pair.head)]
    return (base_1, base_2), (head_1, head_2)


def _seconds(side: Client, cell: Cell, batch: Sequence[str], extra: float = 0.0) -> float:
    answer = side.ask("time", backend=cell.backend, texts=batch, batch_size=cell.batch_size, extra=extra)
    return float(answer["seconds"])
