"""The rows of the table that a person decides from."""

from collections.abc import Mapping
from dataclasses import dataclass

from embedopt.judge.cost import dollars_per_million
from embedopt.judge.history import SavedRun
from embedopt.records import Accuracy, Footprint, Latency, Run, Throughput


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One backend at one batch size; None for what was not measured.

    ``texts_per_s`` is sustained where throughput was measured at this batch size, else it is of the timed
    calls. ``speed_up`` is over the reference one by one.
    """

    backend: str
    latency: Latency
    texts_per_s: float
    speed_up: float | None
    dollars_per_million: float
    accuracy: Accuracy
    footprint: Footprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """A backend's speed-up over the reference one by one, split: ``total`` is the product of the others.

    Attributes:
        runtime: its full-precision base over the reference, one by one.
        precision: the backend over that base, one by one.
        batching: batches in the caller's order over one by one.
        padding: batches of like length over batches in the caller's order.
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


def summary_rows(saved: SavedRun, price_per_hour: float) -> tuple[Row, ...]:
    """Return two rows a backend: its smallest batch size, and 32 or its largest."""
    run = saved.run
    throughput = run.throughput if run else {}
    single_reference = throughput.get(run.reference, Throughput()).one_by_one_per_s if run else None
    rows = []
    for latency in _picked(saved.latencies):
        rate = _rate(latency, throughput.get(latency.backend))
        rows.append(
            Row(
                backend=latency.backend,
                latency=latency,
                texts_per_s=rate,
                speed_up=rate / single_reference if single_reference else None,
                dollars_per_million=dollars_per_million(rate, price_per_hour),
                accuracy=run.accuracy.get(latency.backend, Accuracy()) if run else Accuracy(),
                footprint=run.footprint.get(latency.backend, Footprint()) if run else Footprint(),
            )
        )
    return tuple(rows)


def speed_up_factors(run: Run) -> Mapping[str, Factors]:
    """Split the speed-up of each backend whose throughput, base and reference were measured."""
    return {
        name: factors
        for name, found in run.throughput.items()
        if (factors := _factors(found, _base_of(run, name), run.throughput.get(run.reference))) is not None
    }


def _picked(latencies: tuple[Latency, ...]) -> list[Latency]:
    sizes: dict[str, list[int]] = {}
    for latency in latencies:
        sizes.setdefault(latency.backend, []).append(latency.batch_size)
    wanted = {name: {min(of), 32 if 32 in of else max(of)} for name, of in sizes.items()}
    return [latency for latency in latencies if latency.batch_size in wanted[latency.backend]]


def _rate(latency: Latency, throughput: Throughput | None) -> float:
    sustained = None
    if throughput is not None and latency.batch_size == 1:
        sustained = throughput.one_by_one_per_s
    elif throughput is not None and latency.batch_size == throughput.batch_size:
        sustained = throughput.texts_per_s
    rate = sustained or latency.texts_per_s
    assert rate is not None
    return rate


def _base_of(run: Run, name: str) -> Throughput | None:
    info = run.backends.get(name)
    return run.throughput.get(info.base or name) if info else None


def _factors(found: Throughput, base: Throughput | None, reference: Throughput | None) -> Factors | None:
    single, in_order, planned = found.one_by_one_per_s, found.in_order_per_s, found.texts_per_s
    base_single = base.one_by_one_per_s if base else None
    reference_single = reference.one_by_one_per_s if reference else None
    if not (single and in_order and planned and base_single and reference_single):
        return None
    return Factors(
        runtime=base_single / reference_single,
        precision=single / base_single,
        batching=in_order / single,
        padding=planned / in_order,
        total=planned / reference_single,
        in_order_padding=found.in_order_padding,
        planned_padding=found.padding,
    )
