"""The rows of the table that a person decides from."""

from collections.abc import Mapping
from dataclasses import dataclass

from embedopt.judge.cost import dollars_per_million
from embedopt.judge.history.saved_runs import SavedRun
from embedopt.records import Accuracy, Footprint, Latency, LoadPoint, LoadTest, Throughput


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One backend at one batch size; None for what was not measured.

    ``texts_per_s`` is sustained where throughput was measured at this batch size, else it is of the timed
    calls. ``speed_up`` is over the reference one by one.
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
    """A backend's speed-up over the reference one by one, split: ``total`` is the product of the others.

    Attributes:
        runtime: its full-precision base over the reference, one by one.
        precision: the backend over that base, one by one.
        batching: batches in the caller's order over one by one.
        padding: batches of like length, one on each replica, over batches in the caller's order.
        total: the whole.
        in_order_padding: share of padding in the caller's order.
        planned_padding: share of padding in batches of like length.
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
    """One backend behind one way of batching, under load.

    Attributes:
        backend: its name.
        batching: ``none``, ``window`` or ``adaptive``.
        load: what was found.
        speed_up: its highest rate over the reference's without batching.
        dollars_per_million: texts, at its highest rate.
        curve: all rates that were tried, the lowest first.
    """

    backend: str
    batching: str
    load: LoadTest
    speed_up: float | None
    dollars_per_million: float | None
    curve: tuple[LoadPoint, ...]


def load_rows(saved: SavedRun, price_per_hour: float) -> tuple[LoadRow, ...]:
    """Return a row for each backend and way of batching that load was put on."""
    found = saved.run.load if saved.run else {}
    return tuple(
        LoadRow(
            backend=backend,
            batching=batching,
            load=load,
            speed_up=rate / reference if rate and reference else None,
            dollars_per_million=dollars_per_million(rate, price_per_hour) if rate else None,
            curve=tuple(sorted(load.points or (), key=lambda point: point.rate_per_s)),
        )
        for backend, by_batching in found.items()
        for batching, load in by_batching.items()
        for rate, reference in [(load.highest_per_s, _reference_load(saved, backend).highest_per_s)]
    )


def summary_rows(saved: SavedRun, price_per_hour: float) -> tuple[Row, ...]:
    """Return two rows a backend: its smallest batch size, and 32 or its largest."""
    run = saved.run
    throughput = run.throughput if run else {}
    rows = []
    for latency in _picked(saved.latencies):
        rate = _rate(latency, throughput.get(latency.backend))
        reference = _reference_single(saved, latency.backend)
        rows.append(
            Row(
                backend=latency.backend,
                latency=latency,
                texts_per_s=rate,
                speed_up=rate / reference if rate and reference else None,
                dollars_per_million=dollars_per_million(rate, price_per_hour) if rate else None,
                accuracy=run.accuracy.get(latency.backend, Accuracy()) if run else Accuracy(),
                footprint=run.footprint.get(latency.backend, Footprint()) if run else Footprint(),
            )
        )
    return tuple(rows)


def speed_up_factors(saved: SavedRun) -> Mapping[str, Factors]:
    """Split the speed-up of each backend whose throughput, base and reference were measured."""
    if saved.run is None:
        return {}
    singles = _singles(saved)
    over_reference = {
        name: single / reference
        for name, single in singles.items()
        if (reference := _reference_single(saved, name))
    }
    return {
        name: _factors(found, singles[name], over_reference[name], over_reference[base])
        for name, found in saved.run.throughput.items()
        if name in saved.run.backends and found.in_order_per_s and found.texts_per_s
        for base in [saved.run.backends[name].base or name]
        if {name, base} <= set(over_reference)
    }


def _singles(saved: SavedRun) -> dict[str, float]:
    """Texts per second of calls with one text each, by backend."""
    return {of.backend: of.texts_per_s for of in saved.latencies if of.batch_size == 1 and of.texts_per_s}


def _reference_single(saved: SavedRun, backend: str) -> float | None:
    """Texts per second of the reference one by one, on the machine that a backend was measured on."""
    if saved.run is None:
        return None
    shard = saved.run.shard_references.get(backend)
    singles = {of.backend: of.texts_per_s for of in (shard or saved).latencies if of.batch_size == 1}
    return singles.get(saved.run.reference)


def _reference_load(saved: SavedRun, backend: str) -> LoadTest:
    assert saved.run is not None
    if shard := saved.run.shard_references.get(backend):
        return shard.load or LoadTest()
    return saved.run.load.get(saved.run.reference, {}).get("none", LoadTest())


def _picked(latencies: tuple[Latency, ...]) -> list[Latency]:
    sizes: dict[str, list[int]] = {}
    for latency in latencies:
        sizes.setdefault(latency.backend, []).append(latency.batch_size)
    wanted = {name: {min(of), 32 if 32 in of else max(of)} for name, of in sizes.items()}
    return [latency for latency in latencies if latency.batch_size in wanted[latency.backend]]


def _rate(latency: Latency, throughput: Throughput | None) -> float | None:
    if throughput is not None and latency.batch_size == throughput.batch_size:
        return throughput.texts_per_s or latency.texts_per_s
    return latency.texts_per_s


def _factors(found: Throughput, single: float, over_reference: float, base_over_reference: float) -> Factors:
    assert found.in_order_per_s
    assert found.texts_per_s
    return Factors(
        runtime=base_over_reference,
        precision=over_reference / base_over_reference,
        batching=found.in_order_per_s / single,
        padding=found.texts_per_s / found.in_order_per_s,
        total=over_reference * found.texts_per_s / single,
        in_order_padding=found.in_order_padding,
        planned_padding=found.padding,
    )
