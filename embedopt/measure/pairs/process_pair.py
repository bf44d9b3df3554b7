"""One process of the base and one of the head, live at the same time and called in turns.

Whatever slows both calls of a moment, such as another process on the machine, cancels in their ratio. The
order of a quad, A, B, B, A, cancels a steady drift; the next one, B, A, A, B, cancels what being first costs.
Chance within one process, such as its memory layout, does not cancel: so each process pair yields one number,
and the evidence is many pairs.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from embedopt.evidence import PAIRED_FIGURES, Cell
from embedopt.measure.pairs.worker_client import WorkerClient

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
        cell_s: seconds that a process pair spends on one cell and slow-down; on slow calls, more.
    """

    texts: tuple[str, ...]
    model: str | None = None
    base_model: str | None = None
    trust_remote_code: bool = False
    cache_dir: str | None = None
    cell_s: float = 1.5

    def opening(self, backend: str, *, of_base: bool) -> dict[str, str | bool | None]:
        """Return the values of the request ``load`` for a backend of base or head."""
        model = (self.base_model or self.model) if of_base else self.model
        # An older base does not know this argument: it gets it only where it is needed.
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

    def quad(self, turn: int) -> tuple[WorkerClient, ...]:
        """Return the clients in the order of four calls: A, B, B, A in even turns, B, A, A, B in odd ones.

        Being first costs, perhaps since the client reads the state of the machine before each quad: for
        onnx-int8 with one text, the quads of one order differ from the others by 8 %.
        """
        first, second = self.in_order if turn % 2 == 0 else reversed(self.in_order)
        return (first, second, second, first)

    def others_s(self) -> float:
        """Return the CPU seconds so far of all processes but these two and this one, and stolen ones."""
        (machine_s, base_s), (_, head_s) = self.base.cpu_s(), self.head.cpu_s()
        return machine_s - base_s - head_s - time.process_time()


@contextlib.contextmanager
def live_pair(number: int, start_base: StartWorker, start_head: StartWorker) -> Iterator[LivePair]:
    """Start a process of the base and one of the head; the one that is called first starts first."""
    if number % 2 == 0:
        with start_base() as base, start_head() as head:
            yield LivePair(number=number, base=base, head=head)
    else:
        with start_head() as head, start_base() as base:
            yield LivePair(number=number, base=base, head=head)


def cells_of(backends: Sequence[str], batch_sizes: Sequence[int]) -> tuple[Cell, ...]:
    """Return the cells of each backend: a call of every batch size, and all other figures.

    Memory is measured on Linux only.
    """
    others = [
        metric
        for metric, figure in PAIRED_FIGURES.items()
        if metric != "latency" and (figure.kind != "memory" or sys.platform.startswith("linux"))
    ]
    return tuple(
        cell
        for name in backends
        for cell in (
            *(Cell(backend=name, batch_size=size) for size in batch_sizes),
            *(Cell(backend=name, batch_size=0, metric=metric) for metric in others),
        )
    )
