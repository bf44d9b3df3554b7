"""One run of the suite: what was asked for, what is loaded, what was found."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TypeVar, get_args

import numpy as np

from embedopt.evidence import GateRun
from embedopt.inference.artifacts.store import ArtifactStore
from embedopt.inference.artifacts.weights import Weights, resolve_weights
from embedopt.inference.backends import BACKENDS, DEFAULT, REFERENCE, Backend, Mode
from embedopt.inference.encoder import Encoder, FloatArray
from embedopt.inference.loading import open_encoder
from embedopt.inference.saved_settings import tuned
from embedopt.measure.accuracy import SentencePairs, read_sentence_pairs, spearman
from embedopt.measure.corpus import Corpus, load_corpus
from embedopt.measure.machine import this_machine
from embedopt.measure.options import PROFILES, Options, Profile
from embedopt.measure.pairs.gate_run import GatePlan, measure_gate_run
from embedopt.measure.pairs.process_pair import Work, cells_of
from embedopt.measure.roofline import measure_roofline, operations_per_token, product_shapes
from embedopt.measure.turns import Case, Race, short_texts, take_turns
from embedopt.records import (
    SCHEMA,
    Accuracy,
    BackendInfo,
    CorpusInfo,
    Footprint,
    LoadTest,
    Model,
    Run,
    SideBySideCase,
    Throughput,
)
from embedopt.sampling import PlanPairs
from embedopt.schema import metrics

Measured = Accuracy | Throughput | Footprint
M = TypeVar("M", Accuracy, Throughput, Footprint, LoadTest)


class Session:
    """Loads what the options ask for, each thing once, and gathers what the benchmarks find.

    Args:
        options: what the user asked for.
        on_step: told in words what takes long.
    """

    def __init__(self, options: Options, on_step: Callable[[str], None] | None = None) -> None:
        self.options = options
        self._on_step = on_step or (lambda _: None)
        self._reference: Encoder | None = None
        self._folders: dict[str, Path] = {}
        self._rows: dict[tuple[str, Mode], Backend] = {}
        self._embeddings: dict[str, FloatArray] = {}
        self._mean_tokens: float | None = None
        self._accuracy: dict[str, Accuracy] = {}
        self._throughput: dict[str, Throughput] = {}
        self._footprint: dict[str, Footprint] = {}
        self._side_by_side: dict[str, SideBySideCase] = {}
        self._load: dict[str, dict[str, LoadTest]] = {}
        self.against: GateRun | None = None

    @property
    def profile(self) -> Profile:
        """How much is measured."""
        return PROFILES[self.options.profile]

    @cached_property
    def corpus(self) -> Corpus:
        """The texts that everything is measured on."""
        return load_corpus(self.options.corpus)

    @cached_property
    def weights(self) -> Weights:
        """The model's files, verified."""
        return resolve_weights(self.options.model)

    @cached_property
    def store(self) -> ArtifactStore:
        """The cache of what the backends load."""
        return ArtifactStore(self.options.cache_dir, self._on_step)

    @cached_property
    def pairs(self) -> SentencePairs | None:
        """The sentence pairs of ``--pairs``."""
        return read_sentence_pairs(self.options.pairs) if self.options.pairs else None

    @property
    def mixed_texts(self) -> tuple[str, ...]:
        """See :attr:`embedopt.measure.corpus.Corpus.mixed_texts`."""
        return self.corpus.mixed_texts

    def prepare(self, names: Collection[str]) -> None:
        """Read all input and build what the named backends and the reference load.

        Raises:
            EmbedoptError: something is missing, damaged or can't be built.
        """
        _ = self.corpus, self.pairs
        for name, row in BACKENDS.items():
            if (name in names or name == REFERENCE) and not row.missing_packages:
                self.folder(name)
                for mode in get_args(Mode):
                    self.row(name, mode)

    def row(self, name: str, mode: Mode = "latency") -> Backend:
        """Return a backend with the settings it runs with here: those that ``tune`` saved, or its own."""
        if (name, mode) not in self._rows:
            self._rows[name, mode] = tuned(BACKENDS[name], mode, self.weights, self.options.cache_dir)
        return self._rows[name, mode]

    def folder(self, name: str) -> Path:
        """Return what a backend loads, built if need be."""
        if name not in self._folders:
            self._folders[name] = self.store.get(BACKENDS[name], self.weights)
        return self._folders[name]

    def open(self, name: str, mode: Mode = "latency") -> Encoder:
        """Load a backend; the reference is loaded once and stays, since the others are held against it."""
        if name == REFERENCE and self._reference is not None:
            return self._reference
        encoder = open_encoder(self.row(name, mode), self.folder(name), mode)
        if name == REFERENCE:
            self._reference = encoder
        if self._mean_tokens is None:
            self._mean_tokens = float(np.mean(encoder.token_counts(self.corpus.texts)))
        return encoder

    @contextlib.contextmanager
    def many_texts(self, encoder: Encoder) -> Iterator[Encoder]:
        """Yield ``encoder``'s backend loaded for throughput, or ``encoder`` itself where that is the same."""
        if not BACKENDS[encoder.name].has_modes:
            yield encoder
            return
        with self.open(encoder.name, "throughput") as replicated:
            yield replicated

    @contextlib.contextmanager
    def in_both_modes(self, name: str) -> Iterator[tuple[Encoder, Encoder]]:
        """Yield a backend in throughput and in latency mode, which may be one encoder."""
        single = self.open(name)
        try:
            with self.many_texts(single) as many:
                yield many, single
        finally:
            self.release(single)

    def side_by_side(self, case: Case, reference: Encoder) -> SideBySideCase:
        """Let the backends of this run take turns on its short or mixed texts, and keep what they did."""
        profile, texts = self.profile, self.mixed_texts
        if case == "short":
            texts = short_texts(texts, reference.token_counts(texts).tolist())
        texts = texts[: profile.turn_texts]
        shapes = product_shapes(self.folder("onnx-fp32"))
        names = [row.name for row in self.options.backends if not row.missing_packages]
        race = Race(
            names=names,
            opens=self.in_both_modes,
            texts=texts,
            rounds=profile.turns,
            calls=profile.turn_calls,
        )
        roofs: list[Mapping[str, float]] = []
        turns = take_turns(race, lambda: roofs.append(measure_roofline(shapes)))
        found = SideBySideCase(
            texts=len(texts),
            mean_tokens=float(np.mean(reference.token_counts(texts))),
            turns=dict(turns),
            roofline_per_s={name: tuple(roof[name] for roof in roofs) for name in roofs[0]},
            operations_per_token=operations_per_token(shapes),
            default=DEFAULT,
        )
        self._side_by_side[case] = found
        return found

    def release(self, encoder: Encoder) -> None:
        """Close an encoder of :meth:`open`, unless it is the reference."""
        if encoder is not self._reference:
            encoder.close()

    def close(self) -> None:
        """Close the reference."""
        if self._reference is not None:
            self._reference.close()

    def embeddings(self, encoder: Encoder) -> FloatArray:
        """The corpus as an encoder embeds it, computed once: ``(n, dim) float32``."""
        if encoder.name not in self._embeddings:
            self._embeddings[encoder.name] = encoder.encode(self.corpus.texts)
        return self._embeddings[encoder.name]

    @property
    def reference_embeddings(self) -> FloatArray:
        """The corpus as the reference embeds it: ``(n, dim) float32``."""
        return self.embeddings(self.open(REFERENCE))

    @cached_property
    def reference_spearman(self) -> float:
        """How well the reference orders the pairs of ``--pairs``, times 100."""
        assert self.pairs is not None
        return spearman(self.open(REFERENCE), self.pairs)

    def measure_gate_run(self, plan_pairs: PlanPairs) -> GateRun:
        """Measure this code and the base of ``--against`` side by side, and keep the record.

        Raises:
            EmbedoptError: there is no such base, or a side failed.
        """
        options = self.options.against
        assert options is not None
        work = Work(
            texts=self.mixed_texts,
            model=str(self.weights.path) if self.options.model else None,
            cache_dir=str(self.store.root.parent),
        )
        asking = GatePlan(
            ref=options.ref,
            head=options.head,
            head_python=sys.executable,
            base_python=options.python,
            cells=cells_of([row.name for row in options.backends], options.batch_sizes),
            work=work,
            budget_s=options.budget_s,
            invariance_texts=self.profile.invariance_texts,
            invariance_rounds=self.profile.invariance_rounds,
            threshold=options.threshold,
        )
        self.against = measure_gate_run(asking, plan_pairs, self._on_step)
        return self.against

    def add(self, name: str, found: Measured) -> None:
        """Keep what a benchmark found of a backend, beside what others found before."""
        match found:
            case Accuracy():
                self._accuracy[name] = _merged(self._accuracy.get(name), found)
            case Throughput():
                self._throughput[name] = _merged(self._throughput.get(name), found)
            case Footprint():
                self._footprint[name] = _merged(self._footprint.get(name), found)

    def add_load(self, name: str, batching: str, found: LoadTest) -> None:
        """Keep what load on a backend found, behind one way of batching."""
        behind = self._load.setdefault(name, {})
        behind[batching] = _merged(behind.get(batching), found)

    @property
    def has_found_something(self) -> bool:
        """Whether a benchmark has added anything yet."""
        return any((self._accuracy, self._throughput, self._footprint, self._side_by_side, self._load))

    @property
    def has_timed_by_itself(self) -> bool:
        """Whether there are times that are no benchmark of pytest-benchmark's."""
        return any((self.against, self._load, self._side_by_side))

    def missed_bounds(self, name: str, found: Accuracy) -> list[str]:
        """Say which bounds a measured accuracy misses.

        The mean cosine is held to ``--min-cosine``. A row's own bounds are of the default model, and some are
        of CPUs with VNNI: elsewhere they are left out.
        """
        row = BACKENDS[name]
        has_vnni = any(name.endswith("vnni") for name in this_machine().instruction_sets)
        applies = self.options.model is None and (has_vnni or not row.bounds_need_vnni)
        bounds = dict(row.bounds) if applies else {}
        bounds["cosine_mean"] = max(self.options.min_cosine, bounds.get("cosine_mean", -1.0))
        return [
            f"{name}: {metric} is {value:.7f}, wanted {bound:g} or {better} ({this_machine().hardware_class})"
            for metric, (_, better) in metrics(Accuracy).items()
            if (bound := bounds.get(metric)) is not None and (value := getattr(found, metric)) is not None
            if (value < bound if better == "higher" else value > bound)
        ]

    def run(self) -> Run:
        """Return the record of this run as far as it has come."""
        machine = this_machine()
        return Run(
            schema=SCHEMA,
            hardware_class=machine.hardware_class,
            machine=machine,
            model=Model(name=self.weights.name, digest=self.weights.digest),
            corpus=CorpusInfo(
                name=self.corpus.name,
                digest=self.corpus.digest,
                texts=len(self.corpus.texts),
                mean_tokens=self._mean_tokens,
            ),
            profile=self.options.profile,
            reference=REFERENCE,
            backends={
                row.name: self._info(row.name) for row in self.options.backends if not row.missing_packages
            },
            accuracy=self._accuracy,
            throughput=self._throughput,
            footprint=self._footprint,
            side_by_side=self._side_by_side,
            load=self._load,
            against=self.against,
        )

    def _info(self, name: str) -> BackendInfo:
        row, many = self.row(name), self.row(name, "throughput")
        return BackendInfo(
            precision=row.precision,
            base=row.base,
            settings={**row.build_options, **row.settings},
            throughput_settings={**many.build_options, **many.settings} if many.has_modes else {},
        )


def _merged(known: M | None, found: M) -> M:
    if known is None:
        return found
    measured = {
        item.name: value
        for item in dataclasses.fields(found)
        if (value := getattr(found, item.name)) is not None
    }
    return dataclasses.replace(known, **measured)
