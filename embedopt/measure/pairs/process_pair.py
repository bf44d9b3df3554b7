"""One process of the base and one of the head, live at the same time and called in turns: A, B, B, A.

What slows both calls of a moment, such as another process on the machine, cancels in their ratio; the order
within a quad cancels a drift. What a process has by chance, such as where its memory lies, does not cancel:
so each process pair yields one number, and the evidence is many pairs.

No text is sent twice to a process: a cache of results would answer it, which its users' new texts never meet.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from embedopt.clock import Clock
from embedopt.evidence import Cell, ProcessPair
from embedopt.measure.latency import as_new, rotate
from embedopt.measure.pairs.worker_client import WorkerClient

# Share of the quads' log ratios that is trimmed at each end: one call in ten is slowed by another process.
_TRIMMED = 0.25
_FEWEST_QUADS, _MOST_QUADS = 5, 200
_WARM_UP_CALLS = 3
# Pair n starts at text 97 n, so that each pair times other texts.
_STRIDE = 97


StartWorker = Callable[[], contextlib.AbstractContextManager[WorkerClient]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the workers of base and head are asked to do.

    Attributes:
        texts: texts that the timed calls encode.
        model: folder or name of the model; None for the bundled one.
        base_model: model of the base, where it is another one.
        trust_remote_code: whether Python code that comes with the model may run.
        cache_dir: folder of the artifacts as given to ``--cache-dir``; None for the user's cache.
        cell_s: seconds that a process pair spends on one cell and slow-down.
    """

    texts: tuple[str, ...]
    model: str | None = None
    base_model: str | None = None
    trust_remote_code: bool = False
    cache_dir: str | None = None
    cell_s: float = 2.0

    def opening(self, backend: str, *, of_base: bool) -> dict[str, str | bool | None]:
        """Return the values of the request ``load`` for a backend of base or head."""
        model = (self.base_model or self.model) if of_base else self.model
        # A base from before model code could run gets no argument that it does not know.
        trust = {"trust_remote_code": True} if self.trust_remote_code else {}
        return {"backend": backend, "model": model, "cache_dir": self.cache_dir, **trust}


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePair:
    """A live process of the base and one of the head; the parity of ``number`` says which is called first."""

    number: int
    base: WorkerClient
    head: WorkerClient

    @property
    def in_order(self) -> tuple[WorkerClient, WorkerClient]:
        """The client that is called first, then the other."""
        return (self.base, self.head) if self.number % 2 == 0 else (self.head, self.base)


@contextlib.contextmanager
def live_pair(number: int, start_base: StartWorker, start_head: StartWorker) -> Iterator[LivePair]:
    """Start a process of the base and one of the head, the one first that is called first."""
    if number % 2 == 0:
        with start_base() as base, start_head() as head:
            yield LivePair(number=number, base=base, head=head)
    else:
        with start_head() as head, start_base() as base:
            yield LivePair(number=number, base=base, head=head)


def cells_of(backends: Sequence[str], batch_sizes: Sequence[int]) -> tuple[Cell, ...]:
    """Return the cells of each backend: a call of every batch size, and the cold start."""
    return tuple(
        cell
        for name in backends
        for cell in (
            *(Cell(backend=name, batch_size=size) for size in batch_sizes),
            Cell(backend=name, batch_size=0, metric="load_s"),
        )
    )


def measure_pair(
    pair: LivePair,
    cells: Sequence[Cell],
    work: Work,
    slowdowns: Sequence[float] = (0.0,),
    clock: Clock = time.perf_counter,
    on_last_call: Callable[[LivePair, Cell, Sequence[str]], None] = lambda *_: None,
) -> dict[tuple[Cell, float], ProcessPair]:
    """Load one backend in both processes and time its cells.

    The head's calls are slowed on purpose by each of ``slowdowns``, shares of their time. Each slow-down is a
    measurement of its own; the calls of all are interleaved, and a cold start is never slowed.
    ``on_last_call`` gets the texts of the last call of each cell.
    """
    # At the same time: the process that loads second is 5 to 14 % faster.
    for client in pair.in_order:
        client.send("load", **work.opening(cells[0].backend, of_base=client is pair.base))
    load_s = {id(client): client.receive()["load_s"] for client in pair.in_order}
    measured = {}
    for cell in cells:
        if cell.metric == "load_s":
            measured[cell, 0.0] = summarise_pair([load_s[id(pair.base)]], [load_s[id(pair.head)]])
            continue
        times, texts = _time_quads(pair, cell, work, slowdowns, clock)
        for slowdown, (base_s, head_s) in times.items():
            measured[cell, slowdown] = summarise_pair(base_s, head_s)
        on_last_call(pair, cell, texts)
    return measured


def summarise_pair(base_s: Sequence[float], head_s: Sequence[float]) -> ProcessPair:
    """Return the record of a process pair: the trimmed mean of its quads' log ratios, and its calls.

    Each two calls in a row, in seconds, are of one quad.
    """
    size = 2 if len(base_s) > 1 else 1
    logs = np.log(np.reshape(head_s, (-1, size))) - np.log(np.reshape(base_s, (-1, size)))
    return ProcessPair(
        log_ratio=float(stats.trim_mean(logs.mean(axis=1), _TRIMMED)),
        base_ms=tuple(round(1e3 * float(seconds), 4) for seconds in base_s),
        head_ms=tuple(round(1e3 * float(seconds), 4) for seconds in head_s),
    )


def _time_quads(
    pair: LivePair, cell: Cell, work: Work, slowdowns: Sequence[float], clock: Clock
) -> tuple[dict[float, tuple[list[float], list[float]]], list[str]]:
    """Call A, B, B, A on each batch and slow-down.

    Returns:
        The seconds of the base's and the head's calls by slow-down, and the texts of the last call.
    """
    all_texts = np.roll(np.asarray(work.texts, dtype=object), -_STRIDE * pair.number).tolist()
    batches, texts = rotate(all_texts, cell.batch_size), list[str]()
    call_s = _warm_up(pair, cell, batches, clock)
    first, second = pair.in_order
    times: dict[float, tuple[list[float], list[float]]] = {slowdown: ([], []) for slowdown in slowdowns}
    for _ in range(min(max(round(work.cell_s / (4 * call_s)), _FEWEST_QUADS), _MOST_QUADS)):
        batch = next(batches)
        for slowdown, (base_s, head_s) in times.items():
            early, late = as_new(batch), as_new(batch)
            for client, texts in ((first, early), (second, early), (second, late), (first, late)):
                if client is pair.base:
                    base_s.append(_time_call(client, cell, texts))
                else:
                    head_s.append(_time_call(client, cell, texts, slowdown))
    return times, texts


def _warm_up(pair: LivePair, cell: Cell, batches: Iterator[list[str]], clock: Clock) -> float:
    """Call both processes a few times; return the seconds from sending a request to its answer."""
    call_s = []
    for _ in range(_WARM_UP_CALLS):
        batch, started_s = as_new(next(batches)), clock()
        for client in pair.in_order:
            _time_call(client, cell, batch)
        call_s.append((clock() - started_s) / 2)
    return min(call_s)


def _time_call(client: WorkerClient, cell: Cell, batch: Sequence[str], extra: float = 0.0) -> float:
    answer = client.ask("time", backend=cell.backend, texts=batch, batch_size=cell.batch_size, extra=extra)
    return float(answer["seconds"])
