"""The inputs of the benchmarks of one run: texts, weights, artifacts and encoders, each opened once."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from embedopt.errors import UnsupportedModelError
from embedopt.inference.artifacts.model_code import own_prompts
from embedopt.inference.artifacts.store import ArtifactStore
from embedopt.inference.artifacts.weights import Weights, resolve_weights
from embedopt.inference.backend import Backend, Mode
from embedopt.inference.backends import BACKENDS, REFERENCE, get_backend
from embedopt.inference.encoder import Encoder, FloatArray
from embedopt.inference.loading import open_encoder
from embedopt.inference.saved_settings import tuned_in_both_modes
from embedopt.measure.accuracy import Search, SentencePairs, cut_for, read_sentence_pairs, spearman
from embedopt.measure.corpus import Corpus, load_corpus
from embedopt.measure.latency import as_new, rotate
from embedopt.measure.options import Options
from embedopt.measure.pairs.process_pair import Work
from embedopt.measure.profiles import PROFILES, Profile

# Names of the prompts that sentence-transformers' encode_query and encode_document look for, in their order.
_QUERY_NAMES, _DOCUMENT_NAMES = ("query",), ("document", "passage", "corpus")
# Vectors of length 1 differ from it by rounding; those of bfloat16 by 0.004.
_LENGTH_TOLERANCE = 0.01


class Session:
    """Opens what the options name, each thing once.

    ``on_step`` gets a line before and after each long step, ``on_detail`` a few words on what a long
    benchmark is doing.

    Attributes:
        mean_tokens: tokens of a text of the corpus, on average; None until an encoder was opened.
    """

    def __init__(
        self,
        options: Options,
        on_step: Callable[[str], None] = lambda _: None,
        on_detail: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.options, self.on_step, self.on_detail = options, on_step, on_detail
        self.mean_tokens: float | None = None
        self._reference: Encoder | None = None
        self._folders: dict[str, Path] = {}
        self._backends: dict[str, Backend] = {}
        self._unsupported: dict[str, UnsupportedModelError] = {}
        self._embeddings: dict[str, FloatArray] = {}

    @property
    def profile(self) -> Profile:
        """How much is measured."""
        return PROFILES[self.options.profile]

    @cached_property
    def corpus(self) -> Corpus:
        """The texts that everything is measured on."""
        return load_corpus(self.options.corpus)

    @cached_property
    def sentence_pairs(self) -> SentencePairs | None:
        """The judged sentence pairs of ``--pairs``; None without it."""
        file = self.options.sentence_pairs
        return read_sentence_pairs(file) if file else None

    @cached_property
    def weights(self) -> Weights:
        """The model's files, verified."""
        options = self.options
        return resolve_weights(options.model, options.revision, trust_remote_code=options.trust_remote_code)

    @cached_property
    def store(self) -> ArtifactStore:
        """The cache of the artifacts."""
        return ArtifactStore(self.options.cache_dir, self.on_step)

    @property
    def gate_work(self) -> Work:
        """The texts, model and cache of both sides of a gate run."""
        return Work(
            texts=self.corpus.mixed_texts,
            model=str(self.weights.path) if self.options.model else None,
            trust_remote_code=self.options.trust_remote_code,
            cache_dir=str(self.store.root.parent),
        )

    def prepare(self, names: Collection[str]) -> None:
        """Read all input, and build the artifacts of the named backends and of the reference.

        Raises:
            EmbedoptError: something is missing or damaged, or can't be built.
        """
        _ = self.corpus, self.sentence_pairs
        for name, row in BACKENDS.items():
            if (name in names or name == REFERENCE) and not row.missing_packages:
                with contextlib.suppress(
                    UnsupportedModelError
                ):  # reported by folder(): its benchmarks are skipped
                    self.folder(name)
                self.backend(name)

    def backend(self, name: str) -> Backend:
        """Return a backend with the settings that ``embedopt tune`` saved for this machine, or its own."""
        if name not in self._backends:
            self._backends[name] = tuned_in_both_modes(BACKENDS[name], self.weights, self.options.cache_dir)
        return self._backends[name]

    def folder(self, name: str) -> Path:
        """Return the folder of a backend's artifact, building it where the cache has none.

        Raises:
            UnsupportedModelError: the backend can't give the model's embeddings; its build is not repeated.
        """
        if error := self._unsupported.get(name):
            raise error
        if name not in self._folders:
            try:
                self._folders[name] = self.store.get(BACKENDS[name], self.weights)
            except UnsupportedModelError as error:
                self._unsupported[name] = error
                self.on_step(f"{name} is left out: {error}")
                raise
        return self._folders[name]

    def supports(self, name: str) -> bool:
        """Return whether a backend can give the model's embeddings."""
        try:
            self.release(self.open(name))
        except UnsupportedModelError:
            return False
        return True

    def open(self, name: str, mode: Mode | None = None) -> Encoder:
        """Open a backend in a mode; without one, as its users open it.

        The reference is opened once and stays open: the others are compared with it.
        """
        if name == REFERENCE and self._reference is not None:
            return self._reference
        encoder = open_encoder(
            self.backend(name), self.folder(name), mode, trust_remote_code=self.options.trust_remote_code
        )
        if name == REFERENCE:
            self._reference = encoder
        if self.mean_tokens is None:
            self.mean_tokens = float(np.mean(encoder.token_counts(self.corpus.texts)))
        return encoder

    @contextlib.contextmanager
    def opened(self, name: str, mode: Mode | None = None) -> Iterator[Encoder]:
        """Yield a backend as :meth:`open` opens it, and release it."""
        encoder = self.open(name, mode)
        try:
            yield encoder
        finally:
            self.release(encoder)

    def release(self, encoder: Encoder) -> None:
        """Close an encoder that :meth:`open` returned, unless it is the reference."""
        if encoder is not self._reference:
            encoder.close()

    def close(self) -> None:
        """Close the reference."""
        if self._reference is not None:
            self._reference.close()

    def batches(self, encoder: Encoder, texts: Sequence[str], batch_size: int) -> Iterator[list[str]]:
        """Yield batches of texts without end; for code that may keep results, texts are always new."""
        batches = rotate(texts, batch_size)
        return map(as_new, batches) if get_backend(encoder.name).project else batches

    def embeddings(self, encoder: Encoder) -> FloatArray:
        """Return the encoder's embeddings of the corpus, computed once: ``(n, dim) float32``."""
        if encoder.name not in self._embeddings:
            vectors = self._embeddings[encoder.name] = encoder.encode(self.corpus.texts)
            lengths = np.linalg.norm(vectors, axis=1)
            if np.abs(lengths - 1).max() > _LENGTH_TOLERANCE:
                self.on_step(
                    f"{encoder.name} gives vectors of lengths {lengths.min():.3g} to {lengths.max():.3g}, "
                    "not 1: they are compared by their cosine"
                )
        return self._embeddings[encoder.name]

    def reference_embeddings(self, name: str) -> FloatArray:
        """Return the embeddings of the corpus that a backend's are compared with: ``(n, dim) float32``."""
        return cut_for(BACKENDS[name], self.embeddings(self.open(REFERENCE)))

    def search(self, encoder: Encoder) -> Search:
        """Return the encoder's embeddings of the judged queries and of what they search, after their prompts.

        Raises:
            UnsupportedModelError: the backend can't give the model's embeddings after a prompt.
        """
        query = self._prompt(self.options.query_prompt, _QUERY_NAMES)
        document = self._prompt(self.options.document_prompt, _DOCUMENT_NAMES)
        return Search(
            queries=self._prompted(encoder, self.corpus.judged_queries, query),
            candidates=self._prompted(encoder, self.corpus.candidates, document),
            query_prompt=query,
            document_prompt=document,
        )

    @cached_property
    def reference_search(self) -> Search:
        """The embeddings that :meth:`search` returns for the reference, computed once."""
        return self.search(self.open(REFERENCE))

    @cached_property
    def _own_prompts(self) -> tuple[Mapping[str, str], str]:
        return own_prompts(self.weights.path)

    def _prompt(self, given: str | None, names: Sequence[str]) -> str:
        """Return the string of a given prompt, or of the first of ``names`` that the model has."""
        own, _ = self._own_prompts
        prompt = next((name for name in names if name in own), "") if given is None else given
        return own.get(prompt, prompt)

    def _prompted(self, encoder: Encoder, texts: Sequence[int], prompt: str) -> FloatArray:
        _, default = self._own_prompts
        if prompt == default:
            return self.embeddings(encoder)[list(texts)]
        return encoder.encode([self.corpus.texts[index] for index in texts], prompt=prompt)

    @cached_property
    def reference_spearman(self) -> float:
        """The reference's rank correlation on the sentence pairs of ``--pairs``, times 100."""
        assert self.sentence_pairs is not None
        return spearman(self.open(REFERENCE), self.sentence_pairs)
