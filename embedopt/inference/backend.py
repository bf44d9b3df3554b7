"""One way to turn texts into embeddings, as data."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from embedopt.errors import MissingPackageError

INSTALL_PEERS = "pip install 'embedopt[peers]'"
Precision = Literal["fp32", "bf16", "int8", "unknown"]
# latency: one copy of the model that uses all cores; throughput: a copy of the model for each core.
Mode = Literal["latency", "throughput"]
# The model of a declared row whose embeddings are compared with no model's.
NO_MODEL = "none"
Settings = Mapping[str, str | int | bool]
Tunable = Mapping[Mode, Mapping[str, tuple[str | int | bool, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One row of :data:`embedopt.inference.backends.BACKENDS`.

    Attributes:
        name: unique, as in ``--backends``.
        summary: one line for people.
        precision: number format of the weights; unknown for what a project declares.
        opener: ``module:function``. With ``has_modes`` it takes the row, a folder, the number of replicas and
            the threads of each, and opens replicas; without, it takes row and folder, and opens an encoder.
        build: ``module:function`` that builds the artifact, and may return a line about what it could not
            do; None to open the model's own folder.
        build_options: keyword arguments of ``build``.
        derived_from: row of full precision that the artifact is built from; the ratio of the two rows' speeds
            shows what the lower precision gains. None for a row of full precision.
        open_options: settings of the runtime, by its own names.
        throughput_settings: those of :attr:`settings` that differ in throughput mode.
        batch_tokens: largest number of padded tokens in a batch of several texts; None for no limit.
        has_modes: whether the row has both :data:`Mode` s.
        tunable: values that ``embedopt tune`` tries in a mode, by setting; the row's own value is among them.
        probe_cosine: lowest cosine to sentence-transformers' embedding that a probe may have, with any model.
        bounds: accuracy that the tests require on the default model, by field of
            :class:`embedopt.records.Accuracy`: a minimum, or a maximum where lower is better.
        bounds_need_vnni: whether ``bounds`` hold on CPUs with VNNI only; on others, 8-bit products saturate.
        only_named: whether ``all`` leaves the row out, since it opens models of one kind only.
        packages: packages of the extra ``peers`` that the row needs.
        project: folder whose ``pyproject.toml`` declares the row; None for ours.
        model: of a declared row, the folder or hub name of the model to compare it with, or ``none``.
    """

    name: str
    summary: str
    precision: Precision
    opener: str
    build: str | None = None
    build_options: Settings = field(default_factory=dict)
    derived_from: str | None = None
    open_options: Settings = field(default_factory=dict)
    throughput_settings: Settings = field(default_factory=dict)
    batch_tokens: int | None = None
    has_modes: bool = False
    tunable: Tunable = field(default_factory=dict)
    probe_cosine: float = 0.99999
    bounds: Mapping[str, float] = field(default_factory=dict)
    bounds_need_vnni: bool = False
    only_named: bool = False
    packages: tuple[str, ...] = ()
    project: Path | None = None
    model: str | None = None

    @property
    def settings(self) -> Settings:
        """:attr:`open_options`, and ``batch_tokens`` unless it is None."""
        budget = {} if self.batch_tokens is None else {"batch_tokens": self.batch_tokens}
        return {**self.open_options, **budget}

    def with_settings(self, changes: Settings) -> "Backend":
        """Return the row with some of its :attr:`settings` changed."""
        settings = {**self.settings, **changes}
        batch_tokens = settings.pop("batch_tokens", None)
        return replace(
            self, batch_tokens=None if batch_tokens is None else int(batch_tokens), open_options=settings
        )

    def in_mode(self, mode: Mode) -> "Backend":
        """Return the row with its :attr:`settings` in a mode."""
        return self.with_settings(self.throughput_settings) if mode == "throughput" else self

    @property
    def is_batch_invariant(self) -> bool:
        """Whether a text has the same embedding in any batch, but for the rounding of floats."""
        return self.bounds.get("batch_invariance_min", 0.0) >= 0.99999

    @property
    def missing_packages(self) -> tuple[str, ...]:
        """Those of :attr:`packages` that are not installed."""
        return tuple(name for name in self.packages if importlib.util.find_spec(name) is None)

    def require_packages(self) -> None:
        """Check that all :attr:`packages` are installed.

        Raises:
            MissingPackageError: one is not; the message gives the command that installs it.
        """
        if missing := self.missing_packages:
            raise MissingPackageError(
                f"{self.name} needs {' and '.join(missing)}, which is not installed: {INSTALL_PEERS}"
            )
