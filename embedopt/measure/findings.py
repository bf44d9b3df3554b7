"""What the benchmarks of one run measured, and the record that is saved of it."""

import dataclasses
from typing import Any, TypeVar

from embedopt.conditions import BackendInfo, CorpusInfo, Model
from embedopt.errors import MeasureError
from embedopt.evidence import GateRun
from embedopt.inference.backends import REFERENCE
from embedopt.measure.machine import this_machine
from embedopt.measure.session import Session
from embedopt.records import SCHEMA, Accuracy, Footprint, LoadTest, Run, SideBySideCase, Throughput
from embedopt.schema import clear_not_finite, to_json

# Where to look when a figure is no finite number.
NOT_FINITE = "look for embeddings that are not finite, or are all the same"

M = TypeVar("M", Accuracy, Throughput, Footprint, LoadTest)


class Findings:
    """Keeps what the benchmarks of a session measured.

    Attributes:
        turns: speed of the backends that took turns, by case of texts.
        gate_run: comparison with the base of ``--against``; None until it is measured.
    """

    def __init__(self, session: Session) -> None:
        self.turns: dict[str, SideBySideCase] = {}
        self.gate_run: GateRun | None = None
        self._session = session
        self._by_kind: dict[type, dict[str, Any]] = {Accuracy: {}, Throughput: {}, Footprint: {}}
        self._load_tests: dict[str, dict[str, LoadTest]] = {}

    def add(self, name: str, measured: Accuracy | Throughput | Footprint) -> None:
        """Keep what was measured of a backend, beside what other benchmarks measured of it before.

        Raises:
            MeasureError: a figure is no finite number; the others are kept.
        """
        kept = self._by_kind[type(measured)]
        kept[name] = _merged(kept.get(name), measured)
        _check_finite(name, measured)

    def add_load_test(self, name: str, batching: str, load_test: LoadTest) -> None:
        """Keep what was measured of a backend under load, behind one way of batching; see :meth:`add`."""
        kept = self._load_tests.setdefault(name, {})
        kept[batching] = _merged(kept.get(batching), load_test)
        _check_finite(f"{name} {batching}", load_test)

    @property
    def has_measurements(self) -> bool:
        """Whether a benchmark has measured anything yet; a gate run is none."""
        return any((*self._by_kind.values(), self.turns, self._load_tests))

    @property
    def has_own_times(self) -> bool:
        """Whether there are times that pytest-benchmark did not take: pairs, turns, load tests, bulk."""
        bulks = [throughput.bulk_per_s for throughput in self._by_kind[Throughput].values()]
        return any((self.gate_run, self.turns, self._load_tests, *bulks))

    def run(self) -> Run:
        """Return the record of all that this run has measured so far."""
        session, machine = self._session, this_machine()
        return Run(
            schema=SCHEMA,
            hardware_class=machine.hardware_class,
            machine=machine,
            model=Model(name=session.weights.name, digest=session.weights.digest),
            corpus=CorpusInfo(
                name=session.corpus.name,
                digest=session.corpus.digest,
                texts=len(session.corpus.texts),
                mean_tokens=session.mean_tokens,
            ),
            profile=session.options.profile,
            reference=REFERENCE,
            backends={
                row.name: self._info(row.name) for row in session.options.backends if not row.missing_packages
            },
            accuracy=self._by_kind[Accuracy],
            throughput=self._by_kind[Throughput],
            footprint=self._by_kind[Footprint],
            side_by_side=self.turns,
            load=self._load_tests,
            against=self.gate_run,
        )

    def _info(self, name: str) -> BackendInfo:
        row = self._session.backend(name)
        single, many = row.in_mode("latency"), row.in_mode("throughput")
        return BackendInfo(
            precision=single.precision,
            base=single.derived_from,
            settings={**single.build_options, **single.settings},
            throughput_settings={**many.build_options, **many.settings} if many.has_modes else {},
        )


def _check_finite(name: str, measured: Accuracy | Throughput | Footprint | LoadTest) -> None:
    wrong = [f"{figure} is {value}" for figure, value in clear_not_finite(to_json(measured)).items()]
    if wrong:
        raise MeasureError(f"{name}: {', '.join(wrong)}; wanted finite numbers: {NOT_FINITE}")


def _merged(known: M | None, measured: M) -> M:
    """Return ``known`` with all fields that ``measured`` has a value for."""
    if known is None:
        return measured
    values = {item.name: getattr(measured, item.name) for item in dataclasses.fields(measured)}
    return dataclasses.replace(known, **{name: value for name, value in values.items() if value is not None})
