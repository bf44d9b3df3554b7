"""Measures the cells of a live process pair: calls in turns, batcher, memory, cold start.

No text is sent twice to a process: a cache of results would answer it, which its users' new texts never meet.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import stats

from embedopt.clock import Clock
from embedopt.errors import MeasureError
from embedopt.evidence import PAIRED_FIGURES, TRIMMED_SHARE, Cell, PairedMetric, ProcessPair
from embedopt.measure.latency import as_new, rotate
from embedopt.measure.pairs.neighbours import Quad, calm
from embedopt.measure.pairs.process_pair import LivePair, Work
from embedopt.measure.pairs.worker_client import WorkerClient

# Even numbers: base is called first in every other quad. With more of the slow calls of torch-fp32, the pairs
# that confirm a change would not fit into the budget.
_FEWEST_QUADS, _MOST_QUADS, _MANY_TEXTS = 4, 100, 64
# Pair n starts at text 97 n, so that each pair times other texts.
_STRIDE = 97
# Both ends of the pipe time a call. What the client waits for beyond the worker's own time, above all for
# threads to rest, is alike in base and head, unless a worker counts less than its calls take. On a machine
# four times overbooked, two workers of the same code differed in it by 2.3 ms where a call took 11 ms, and by
# 4 ms where a call took 2.5 s.
_CLOCKS_S, _CLOCKS_SHARE = 5e-4, 0.2
# Load on the batchers: a share of the rate at which base encodes one by one, in turns of 20 requests. With
# more of either, the queue would vary more than the code. An odd number of turns is balanced by the next
# pair, which begins with the other side. The promise is 50 ms; for a slower backend, the time of 8 calls.
_SERVED_SHARE, _TURN_REQUESTS, _MOST_TURNS = 0.4, 20, 10
_PROMISE_MS, _PROMISE_CALLS = 50.0, 8
# A request without an answer counts as long as the slowest, and at least this many promises.
_LOST_PROMISES = 10
# Calls with one text before memory is weighed, then while it is, and the number of calls that its growth is
# extrapolated to. Unchanged code gained up to 84 kB in 100 calls, 10 to 20 kB of it after the first 32.
_SETTLING_CALLS, _WEIGHED_CALLS, _EXTRAPOLATED_CALLS = 32, 48, 10_000
_LARGEST_LOG = 10.0

_ORDER: tuple[PairedMetric, ...] = ("load_s", "peak_rss_bytes", "grown_rss_bytes", "latency", "texts_per_s")


def measure_pair(
    pair: LivePair,
    cells: Sequence[Cell],
    work: Work,
    slowdowns: Sequence[float] = (0.0,),
    clock: Clock = time.perf_counter,
    on_last_call: Callable[[LivePair, Cell, Sequence[str]], None] = lambda *_: None,
) -> Iterator[tuple[tuple[Cell, float], ProcessPair]]:
    """Load one backend in both processes, and measure its cells one after the other.

    The head's calls are slowed on purpose by each of ``slowdowns``, shares of their time. Each slow-down is a
    measurement of its own; the calls of all are interleaved. Only calls are slowed. Base does the same work,
    but it does not count: what it leaves behind, such as colder caches, slows the next call of its process.
    ``on_last_call`` gets the texts of the last call of each batch size.
    """
    figures = _Figures(pair, cells[0].backend, work)
    # Memory comes before the calls, which change it; the batcher, which _ORDER does not name, comes last.
    for cell in sorted(cells, key=lambda cell: (*_ORDER, cell.metric).index(cell.metric)):
        if cell.figure.threshold is not None:  # not a call
            yield (cell, 0.0), figures.measure(cell.metric)
            continue
        times, texts = _time_quads(pair, cell, work, slowdowns, clock)
        if cell.batch_size:
            on_last_call(pair, cell, texts)
        for slowdown, (base, head, quads) in times.items():
            yield (cell, slowdown), summarise_pair(base, head, quads)


@dataclass(slots=True)
class Times:
    """Seconds of calls by the worker's clock, and seconds that the client waited for each."""

    seconds: list[float] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)

    def add(self, seconds: float, waited_s: float) -> None:
        """Add a call."""
        self.seconds.append(seconds)
        self.waited_s.append(waited_s)

    @property
    def quartiles_s(self) -> tuple[float, float]:
        """Lower quartiles of the calls, and of the client's further wait: a busy machine only adds."""
        besides = np.subtract(self.waited_s, self.seconds)
        return float(np.percentile(self.seconds, 25)), float(np.percentile(besides, 25))


def summarise_pair(base: Times, head: Times, quads: Sequence[Quad]) -> ProcessPair:
    """Return the record of a process pair: the trimmed mean of its calm quads' log ratios, and their calls.

    Of each side, two calls in a row belong to one quad; ``quads`` has one entry for each.
    """
    counts, disturbed = calm(quads)
    base_s, head_s = (np.reshape(side.seconds, (-1, 2))[counts] for side in (base, head))
    return ProcessPair(
        log_ratio=float(stats.trim_mean(np.log(head_s / base_s).mean(axis=1), TRIMMED_SHARE)),
        base_ms=tuple((1e3 * base_s).round(4).ravel().tolist()),
        head_ms=tuple((1e3 * head_s).round(4).ravel().tolist()),
        disagreement=disagreement(base, head),
        quads=len(quads),
        disturbed=disturbed,
    )


def disagreement(base: Times, head: Times) -> str:
    """Return in words how the clocks at both ends of the pipe disagree; empty where they agree."""
    (base_s, base_besides_s), (head_s, head_besides_s) = base.quartiles_s, head.quartiles_s
    allowed_s = _CLOCKS_S + _CLOCKS_SHARE * max(base_s + base_besides_s, head_s + head_besides_s)
    if abs(head_besides_s - base_besides_s) <= allowed_s:
        return ""
    sides = {"base": (base_s, base_besides_s), "head": (head_s, head_besides_s)}
    shown = [
        f"{name} says {1e3 * own_s:.2f} ms where its client waits {1e3 * (own_s + besides_s):.2f} ms"
        for name, (own_s, besides_s) in sides.items()
    ]
    return f"{', '.join(shown)}; wanted clocks that agree: see time() in embedopt/measure/worker.py"


def _time_quads(
    pair: LivePair, cell: Cell, work: Work, slowdowns: Sequence[float], clock: Clock
) -> tuple[dict[float, tuple[Times, Times, list[Quad]]], list[str]]:
    """Call base and head in quads for each batch and slow-down.

    Two quads let the call plan its batches, as users do, and the next two send the batch size along.

    Returns:
        For each slow-down, the times of base, those of head, and the quads; then the texts of the last call.
    """
    is_many, texts = cell.metric == "texts_per_s", list[str]()
    size = _MANY_TEXTS if is_many else cell.batch_size
    all_texts = np.roll(np.asarray(work.texts, dtype=object), -_STRIDE * pair.number).tolist()
    batches, sizes = rotate(all_texts, size), (None,) if is_many else (None, size)
    call_s = []
    for batch_size in sizes:
        texts, started_s = as_new(next(batches)), clock()
        for client in pair.in_order:
            _time_call(client, cell.backend, texts, batch_size)
        call_s.append((clock() - started_s) / 2)
    times = {slowdown: (Times(), Times(), list[Quad]()) for slowdown in slowdowns}
    now_s, others_s = clock(), pair.others_s()
    wanted = min(max(2 * round(work.cell_s / (8 * min(call_s))), _FEWEST_QUADS), _MOST_QUADS)
    for turn, batch in enumerate(itertools.islice(batches, wanted)):
        batch_size = sizes[turn // 2 % len(sizes)]
        for slowdown, (base, head, quads) in times.items():
            early, late = as_new(batch), as_new(batch)
            for client, texts in zip(pair.quad(turn), (early, early, late, late), strict=True):
                answer = _ask_time(client, cell.backend, texts, batch_size, slowdown)
                # An older worker gives no time of its own.
                uncounted_s = answer["seconds"] - answer["own_s"] if slowdown and client is pair.base else 0.0
                own = base if client is pair.base else head
                own.add(answer["seconds"] - uncounted_s, client.waited_s - uncounted_s)
            (before_s, now_s), (others_before_s, others_s) = (now_s, clock()), (others_s, pair.others_s())
            quads.append(Quad(seconds=now_s - before_s, others_s=others_s - others_before_s))
    return times, texts


def _time_call(
    client: WorkerClient, backend: str, batch: Sequence[str], batch_size: int | None = None
) -> float:
    return _ask_time(client, backend, batch, batch_size, 0.0)["seconds"]


def _ask_time(
    client: WorkerClient, backend: str, batch: Sequence[str], batch_size: int | None, extra: float
) -> dict[str, float]:
    return client.ask("time", backend=backend, texts=batch, batch_size=batch_size, extra=extra)


class _Figures:
    """Loads a backend in both processes of a pair, and measures its figures other than calls."""

    def __init__(self, pair: LivePair, backend: str, work: Work) -> None:
        self._pair, self._backend, self._work = pair, backend, work
        # At the same time: one after the other, the second to load was 5 to 14 % faster.
        for client in pair.in_order:
            client.send("load", **work.opening(backend, of_base=client is pair.base))
        answers = {id(client): client.receive() for client in pair.in_order}
        load_s = answers[id(pair.base)]["load_s"], answers[id(pair.head)]["load_s"]
        self._measured: dict[PairedMetric, ProcessPair] = {"load_s": _summary("load_s", *load_s)}

    def measure(self, metric: PairedMetric) -> ProcessPair:
        """Return the figure of a metric; figures of one measurement are measured together, once."""
        if metric not in self._measured:
            measures: Mapping[str, Callable[[], dict[PairedMetric, ProcessPair]]] = {
                "peak_rss_bytes": self._peak,
                "grown_rss_bytes": self._grown,
            }
            self._measured |= measures.get(metric, self._served)()
        return self._measured[metric]

    def _peak(self) -> dict[PairedMetric, ProcessPair]:
        base, head = (client.memory_bytes()[1] for client in (self._pair.base, self._pair.head))
        return {"peak_rss_bytes": _summary("peak_rss_bytes", base, head)}

    def _grown(self) -> dict[PairedMetric, ProcessPair]:
        """Weigh both processes before and after calls with texts of like length, the longest first."""
        ordered = sorted(self._work.texts, key=len)
        calls = itertools.cycle(reversed(ordered[len(ordered) // 4 :][: _SETTLING_CALLS + _WEIGHED_CALLS]))
        texts = as_new(list(itertools.islice(calls, _SETTLING_CALLS + _WEIGHED_CALLS)))
        grown = {}
        for client in self._pair.in_order:
            for text in texts[:_SETTLING_CALLS]:
                _time_call(client, self._backend, [text])
            before, _ = client.memory_bytes()
            for text in texts[_SETTLING_CALLS:]:
                _time_call(client, self._backend, [text])
            growth = max(client.memory_bytes()[0] - before, 0) / _WEIGHED_CALLS
            grown[id(client)] = before + _EXTRAPOLATED_CALLS * growth
        base, head = grown[id(self._pair.base)], grown[id(self._pair.head)]
        return {"grown_rss_bytes": _summary("grown_rss_bytes", base, head)}

    def _served(self) -> dict[PairedMetric, ProcessPair]:
        """Drive the batchers of base and head in turns, never both at once, at the same rate."""
        pair, texts = self._pair, self._work.texts[:_TURN_REQUESTS]
        alone_s = float(np.median([_time_call(pair.base, self._backend, as_new([text])) for text in texts]))
        rate_per_s, promise_ms = _SERVED_SHARE / alone_s, max(_PROMISE_MS, _PROMISE_CALLS * 1e3 * alone_s)
        load: dict[str, object] = {"rate_per_s": rate_per_s, "promise_ms": promise_ms}
        turns = min(max(round(self._work.cell_s * rate_per_s / (4 * len(texts))), 1), _MOST_TURNS)
        for client in pair.in_order:  # a warm-up: both import what they need
            self._load_test(client, texts=as_new(texts[:2]), seed=0, **load)
        times, latencies = (Times(), Times()), (list[float | None](), list[float | None]())
        for seed in range(turns):
            early, late = as_new(texts), as_new(texts)
            for client, asked in zip(pair.quad(seed), (early, early, late, late), strict=True):
                answer = self._load_test(client, texts=asked, seed=seed, **load)
                times[client is pair.head].add(answer["seconds"], client.waited_s)
                latencies[client is pair.head].extend(answer["latencies_ms"])
        return _served(*latencies, rate_per_s, promise_ms, disagreement(*times))

    def _load_test(self, client: WorkerClient, **values: object) -> dict[str, Any]:
        return client.ask("load_test", backend=self._backend, **values)


def _served(
    base: Sequence[float | None],
    head: Sequence[float | None],
    rate_per_s: float,
    promise_ms: float,
    disagreed: str,
) -> dict[PairedMetric, ProcessPair]:
    """Return median and p99 in ms, and the rate of answers within the promise, from both sides' latencies."""
    if len(base) != len(head):
        raise MeasureError(
            f"the worker of base answered {len(base)} requests and that of head {len(head)}, "
            "wanted the same number: see load_test() in embedopt/measure/worker.py"
        )
    answered = [latency for latency in (*base, *head) if latency is not None]
    lost_ms = max([*answered, _LOST_PROMISES * promise_ms])
    base_ms, head_ms = ([lost_ms if one is None else one for one in side] for side in (base, head))
    figures: Mapping[PairedMetric, Callable[[list[float]], float]] = {
        "served_p50_ms": lambda side: float(np.percentile(side, 50)),
        "served_p99_ms": lambda side: float(np.percentile(side, 99)),
        # Half a request where none kept the promise: a ratio has no zero.
        "kept_per_s": lambda side: rate_per_s * max(sum(one <= promise_ms for one in side), 0.5) / len(side),
    }
    measured = {
        metric: _summary(metric, figure(base_ms), figure(head_ms), disagreed)
        for metric, figure in figures.items()
    }
    # Both sides got the same requests: the queue's effect on a request mostly cancels in its ratio.
    ratio = float(np.median(np.log(head_ms) - np.log(base_ms)))
    return {**measured, "served_p50_ms": replace(measured["served_p50_ms"], log_ratio=_bounded(ratio))}


def _summary(metric: PairedMetric, base: float, head: float, disagreed: str = "") -> ProcessPair:
    """Return the record of one value of each side."""
    log_ratio = math.log(head / base) * (-1 if PAIRED_FIGURES[metric].better == "higher" else 1)
    return ProcessPair(
        log_ratio=_bounded(log_ratio),
        base_ms=(base,),
        head_ms=(head,),
        disagreement=disagreed,
    )


def _bounded(log_ratio: float) -> float:
    return min(max(log_ratio, -_LARGEST_LOG), _LARGEST_LOG)
