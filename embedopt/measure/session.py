"""One run of the suite: what was asked for, what is loaded, what was found."""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np

from embedopt.errors import UsageError
from embedopt.inference.artifacts import ArtifactStore
from embedopt.inference.encoder import Encoder, FloatArray
from embedopt.inference.load import open_encoder
from embedopt.inference.spec import BACKENDS, REFERENCE, Backend, select_backends, split_names
from embedopt.inference.weights import Weights, resolve_weights
from embedopt.measure.accuracy import Pairs, load_pairs, spearman
from embedopt.measure.corpus import Corpus, load_corpus
from embedopt.measure.machine import this_machine
from embedopt.records import SCHEMA, Accuracy, BackendInfo, Footprint, Model, Run, Throughput, metrics
from embedopt.records import Corpus as CorpusRecord

ProfileName = Literal["full", "quick"]
Measured = Accuracy | Throughput | Footprint
M = TypeVar("M", Accuracy, Throughput, Footprint)

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How much is measured.

    Attributes:
        backends: names as in ``--backends``, where the user gives none.
        batch_sizes: of the latency benchmarks, where the user gives none.
        single_calls: timed calls at batch 1; 368 is what a p99 with an interval takes.
        batch_calls: timed calls at larger batches, at least.
        latency_s: seconds that the calls at a larger batch fill.
        throughput_s: seconds of planned encoding.
        unplanned_s: seconds of each of the two unplanned ways.
        throughput_texts: texts that throughput is measured on, at most.
        invariance_texts: texts that batch invariance is measured on.
        invariance_rounds: batches that each of them is seen in.
        footprint_texts: texts that the process which loads a backend encodes at batch 32.
    """

    backends: str
    batch_sizes: tuple[int, ...]
    single_calls: int
    batch_calls: int
    latency_s: float
    throughput_s: float
    unplanned_s: float
    throughput_texts: int
    invariance_texts: int
    invariance_rounds: int
    footprint_texts: int


PROFILES: Mapping[str, Profile] = {
    "full": Profile(
        backends="all",
        batch_sizes=BATCH_SIZES,
        single_calls=400,
        batch_calls=10,
        latency_s=0.4,
        throughput_s=10.0,
        unplanned_s=2.0,
        throughput_texts=100_000,
        invariance_texts=128,
        invariance_rounds=3,
        footprint_texts=128,
    ),
    "quick": Profile(
        # Those that load without sentence-transformers, which takes 5 s to import, and the reference.
        backends="torch-fp32,onnx-fp32,onnx-int8,onnx-int8-per-tensor,onnx-int8-block",
        batch_sizes=(1, 32),
        single_calls=200,
        batch_calls=6,
        latency_s=0.2,
        throughput_s=0.4,
        unplanned_s=0.2,
        throughput_texts=96,
        invariance_texts=32,
        invariance_rounds=2,
        footprint_texts=32,
    ),
}
assert set(PROFILES) == set(get_args(ProfileName))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked for, checked. ``backends`` always begin with the reference."""

    backends: tuple[Backend, ...]
    batch_sizes: tuple[int, ...]
    profile: ProfileName
    corpus: Path
    model: str | None = None
    cache_dir: Path | None = None
    min_cosine: float = 0.95
    pairs: Path | None = None
    price_per_hour: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 <= self.price_per_hour < math.inf:
            raise UsageError(f"--price-per-hour is {self.price_per_hour}; wanted dollars, 0 or more")
        if not -1.0 <= self.min_cosine <= 1.0:
            raise UsageError(f"--min-cosine is {self.min_cosine}; wanted a cosine, from -1 to 1")


def parse_backends(names: str | None, profile: ProfileName) -> tuple[Backend, ...]:
    """Read ``--backends a,b``; None for the profile's.

    The reference is always among them, as what the others are held against.

    Raises:
        UsageError: a name is unknown, or there is none; the message lists the known ones.
    """
    return select_backends([REFERENCE, *split_names(PROFILES[profile].backends if names is None else names)])


def parse_batch_sizes(sizes: str | None, profile: ProfileName) -> tuple[int, ...]:
    """Read ``--batch-sizes 1,8``; None for the profile's.

    Raises:
        UsageError: a size is not among the known ones, which the message lists.
    """
    if sizes is None:
        return PROFILES[profile].batch_sizes
    asked = [size.strip() for size in sizes.split(",") if size.strip()]
    known = {str(size): size for size in BATCH_SIZES}
    unknown = [size for size in asked if size not in known]
    if unknown or not asked:
        named = ", ".join(unknown) or repr(sizes)
        raise UsageError(f"unknown batch size {named}; known are: {', '.join(known)}")
    return tuple(sorted({known[size] for size in asked}))


class Session:
    """Loads what the options ask for, each thing once, and gathers what the benchmarks find.

    Args:
        options: what the user asked for.
        on_step: told in words what takes long.
    """

    def __init__(self, options: Options, on_step: Callable[[str], None] | None = None) -> None:
        self.options = options
        self._on_step = on_step
        self._reference: Encoder | None = None
        self._folders: dict[str, Path] = {}
        self._embeddings: dict[str, FloatArray] = {}
        self._mean_tokens: float | None = None
        self._accuracy: dict[str, Accuracy] = {}
        self._throughput: dict[str, Throughput] = {}
        self._footprint: dict[str, Footprint] = {}

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
    def pairs(self) -> Pairs | None:
        """The sentence pairs of ``--pairs``."""
        return load_pairs(self.options.pairs) if self.options.pairs else None

    @cached_property
    def mixed_texts(self) -> tuple[str, ...]:
        """The corpus's texts, shuffled the same way each time: any stretch of them is a fair sample."""
        order = np.random.default_rng(0).permutation(len(self.corpus.texts))
        return tuple(self.corpus.texts[index] for index in order)

    def prepare(self, names: Collection[str]) -> None:
        """Read all input and build what the named backends and the reference load.

        Raises:
            EmbedoptError: something is missing, damaged or can't be built.
        """
        _ = self.corpus, self.pairs
        for name in BACKENDS:
            if name in names or name == REFERENCE:
                self.folder(name)

    def folder(self, name: str) -> Path:
        """Return what a backend loads, built if need be."""
        if name not in self._folders:
            self._folders[name] = self.store.get(BACKENDS[name], self.weights)
        return self._folders[name]

    def open(self, name: str) -> Encoder:
        """Load a backend; the reference is loaded once and stays, since the others are held against it."""
        if name == REFERENCE and self._reference is not None:
            return self._reference
        encoder = open_encoder(BACKENDS[name], self.folder(name))
        if name == REFERENCE:
            self._reference = encoder
        if self._mean_tokens is None:
            self._mean_tokens = float(np.mean(encoder.token_counts(self.corpus.texts)))
        return encoder

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

    def add(self, name: str, found: Measured) -> None:
        """Keep what a benchmark found of a backend, beside what others found before."""
        match found:
            case Accuracy():
                self._accuracy[name] = _merged(self._accuracy.get(name), found)
            case Throughput():
                self._throughput[name] = _merged(self._throughput.get(name), found)
            case Footprint():
                self._footprint[name] = _merged(self._footprint.get(name), found)

    def missed_bounds(self, name: str, found: Accuracy) -> list[str]:
        """Say which bounds a measured accuracy misses.

        The mean cosine is held to ``--min-cosine``. A row's own bounds are those of the default model: with
        another one they are left out.
        """
        bounds = dict(BACKENDS[name].bounds) if self.options.model is None else {}
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
            corpus=CorpusRecord(
                name=self.corpus.name,
                digest=self.corpus.digest,
                texts=len(self.corpus.texts),
                mean_tokens=self._mean_tokens,
            ),
            profile=self.options.profile,
            reference=REFERENCE,
            backends={row.name: _info(row) for row in self.options.backends},
            accuracy=self._accuracy,
            throughput=self._throughput,
            footprint=self._footprint,
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


def _info(row: Backend) -> BackendInfo:
    return BackendInfo(
        precision=row.precision, base=row.base, settings={**row.build_options, **row.load_options}
    )
