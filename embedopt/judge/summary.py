"""The figures of a run's tables: key results, the factors of each speed-up, and the results under load."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embedopt.judge.history.saved_runs import SavedRun
from embedopt.records import LARGE_BATCH, Accuracy, Footprint, Latency, LoadPoint, LoadTest, Throughput


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One backend at one batch size; None for what was not measured.

    Attributes:
        texts_per_s: sustained rate where throughput was measured at this batch size, else the rate of the
            timed calls.
        speed_up: ``texts_per_s`` over the reference's texts per second one by one.
        dollars_per_million: dollars for a million texts at ``texts_per_s``.
    """

    backend: str
    latency: Latency
    texts_per_s: float | None
    speed_up: float | None
    dollars_per_million: float | None
    accuracy: Accuracy
    footprint: Footprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """A backend's speed-up over the reference one by one; ``total`` is the product of the first four.

    Attributes:
        runtime: speed of the full-precision backend that this one derives from, over the reference's; both
            one by one.
        precision: speed of this backend over the one that it derives from, both one by one.
        batching: batches in the caller's order over one by one.
        padding: batches by length, one on each replica, over batches in the caller's order.
        total: batches by length over the reference one by one.
        in_order_padding: share of padding tokens in batches in the caller's order.
        planned_padding: share of padding tokens in batches by length.
    """

    runtime: float
    precision: float
    batching: float
    padding: float
    total: float
    in_order_padding: float | None
    planned_padding: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRow:
    """One backend behind one way of batching, in a load test.

    Attributes:
        batching: ``none``, ``window`` or ``adaptive``.
        speed_up: highest rate over the reference's highest rate without batching.
        dollars_per_million: dollars for a million texts at the highest rate.
        curve: all arrival rates that were tried, the lowest first.
    """

    backend: str
    batching: str
    load_test: LoadTest
    speed_up: float | None
    dollars_per_million: float | None
    curve: tuple[LoadPoint, ...]


def dollars_per_million(texts_per_s: float, price_per_hour: float) -> float:
    """Return dollars for a million texts on a machine of ``price_per_hour`` dollars that is kept busy."""
    return price_per_hour / 3600 / texts_per_s * 1e6


def summary_rows(saved: SavedRun, price_per_hour: float) -> tuple[Row, ...]:
    """Return two rows for each backend: its smallest batch size, and 32 or else its largest."""
    return tuple(_row(saved, latency, price_per_hour) for latency in _smallest_and_large(saved.latencies))


def load_rows(saved: SavedRun, price_per_hour: float) -> tuple[LoadRow, ...]:
    """Return a row for each backend and way of batching of the load tests."""
    return tuple(
        LoadRow(
            backend=backend,
            batching=batching,
            load_test=load_test,
            speed_up=_ratio(load_test.highest_per_s, _reference_load_test(saved, backend).highest_per_s),
            dollars_per_million=_cost(load_test.highest_per_s, price_per_hour),
            curve=tuple(sorted(load_test.points or (), key=lambda point: point.rate_per_s)),
        )
        for backend, by_batching in (saved.run.load if saved.run else {}).items()
        for batching, load_test in by_batching.items()
    )


def speed_up_factors(saved: SavedRun) -> Mapping[str, Factors]:
    """Return the factors of each backend's speed-up, by its name.

    A backend needs a measured throughput, and calls with one text: its own, the reference's, and those of the
    backend that it derives from. The others are left out.
    """
    throughputs = saved.run.throughput if saved.run else {}
    split = {name: _factors(saved, name, throughput) for name, throughput in throughputs.items()}
    return {name: factors for name, factors in split.items() if factors}


def _smallest_and_large(latencies: Sequence[Latency]) -> list[Latency]:
    sizes: dict[str, set[int]] = {}
    for latency in latencies:
        sizes.setdefault(latency.backend, set()).add(latency.batch_size)
    shown = {
        backend: {min(own), LARGE_BATCH if LARGE_BATCH in own else max(own)} for backend, own in sizes.items()
    }
    return [latency for latency in latencies if latency.batch_size in shown[latency.backend]]


def _row(saved: SavedRun, latency: Latency, price_per_hour: float) -> Row:
    run, name = saved.run, latency.backend
    rate = _rate(latency, run.throughput.get(name, Throughput()) if run else Throughput())
    return Row(
        backend=name,
        latency=latency,
        texts_per_s=rate,
        speed_up=_ratio(rate, _reference_one_by_one(saved, name)),
        dollars_per_million=_cost(rate, price_per_hour),
        accuracy=run.accuracy.get(name, Accuracy()) if run else Accuracy(),
        footprint=run.footprint.get(name, Footprint()) if run else Footprint(),
    )


def _rate(latency: Latency, throughput: Throughput) -> float | None:
    sustained = throughput.texts_per_s if latency.batch_size == throughput.batch_size else None
    return sustained or latency.texts_per_s


def _ratio(rate: float | None, reference: float | None) -> float | None:
    return rate / reference if rate and reference else None


def _cost(texts_per_s: float | None, price_per_hour: float) -> float | None:
    return dollars_per_million(texts_per_s, price_per_hour) if texts_per_s else None


def _factors(saved: SavedRun, name: str, throughput: Throughput) -> Factors | None:
    info = saved.run.backends.get(name) if saved.run else None
    single = _one_by_one(saved.latencies, name)
    in_order, planned = throughput.in_order_per_s, throughput.texts_per_s
    over_reference = _over_reference(saved, name)
    full_precision_over_reference = _over_reference(saved, info.base or name) if info else None
    if not (single and in_order and planned and over_reference and full_precision_over_reference):
        return None
    return Factors(
        runtime=full_precision_over_reference,
        precision=over_reference / full_precision_over_reference,
        batching=in_order / single,
        padding=planned / in_order,
        total=over_reference * planned / single,
        in_order_padding=throughput.in_order_padding,
        planned_padding=throughput.padding,
    )


def _over_reference(saved: SavedRun, name: str) -> float | None:
    """Return a backend's texts per second one by one over the reference's on the same machine."""
    return _ratio(_one_by_one(saved.latencies, name), _reference_one_by_one(saved, name))


def _one_by_one(latencies: Sequence[Latency], name: str) -> float | None:
    """Return texts per second of a backend's calls with one text each."""
    rates = [
        latency.texts_per_s for latency in latencies if (latency.backend, latency.batch_size) == (name, 1)
    ]
    return rates[-1] if rates else None


def _reference_one_by_one(saved: SavedRun, backend: str) -> float | None:
    """Return texts per second one by one of the reference on the machine that measured ``backend``."""
    if saved.run is None:
        return None
    shard = saved.run.shard_references.get(backend)
    return _one_by_one((shard or saved).latencies, saved.run.reference)


def _reference_load_test(saved: SavedRun, backend: str) -> LoadTest:
    """Return the reference's load test without batching on the machine that measured ``backend``."""
    assert saved.run is not None
    if shard := saved.run.shard_references.get(backend):
        return shard.load or LoadTest()
    return saved.run.load.get(saved.run.reference, {}).get("none", LoadTest())
