"""The table of backends: pure data, one row a configuration.

A row names the functions that build and load it, so that adding a backend is a row
here and at most one file in ``encoders/``. Nothing is imported until it is used.
"""

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from embedopt.errors import MissingPackageError, UsageError

Precision = Literal["fp32", "bf16", "int8"]
# What the user wants: all cores on one call, or one replica of the model a core.
Mode = Literal["latency", "throughput"]
Settings = Mapping[str, str | int | bool]

REFERENCE = "torch-fp32"
DEFAULT = "onnx-int8"
INSTALL_PEERS = "pip install -e '.[peers]' in embedopt's folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One way to turn texts into embeddings.

    ``load`` and ``build`` are ``module:function`` names. ``base`` is the row that this one
    derives from: its artifact is built from that row's, and what its precision buys is measured
    against that row's speed. ``bounds`` are what the accuracy tests hold the default model to, by the
    name of the metric in :class:`embedopt.records.Accuracy`: a floor, or a ceiling where lower is better.
    Where ``bounds_need_vnni``, they say nothing of a CPU without VNNI: there, products of 8 bits saturate.
    ``batch_tokens`` bounds the padded tokens of a batch whose size the caller leaves open.
    Where ``has_modes``, ``load`` takes a :data:`Mode` too. ``tunable`` are the values that ``embedopt tune``
    tries in a mode, by the name of the setting; the row's own is among them.
    ``packages`` are those of the extra ``peers`` that it needs.
    """

    name: str
    summary: str
    precision: Precision
    load: str
    build: str | None = None
    base: str | None = None
    build_options: Settings = field(default_factory=dict)
    load_options: Settings = field(default_factory=dict)
    bounds: Mapping[str, float] = field(default_factory=dict)
    bounds_need_vnni: bool = False
    batch_tokens: int | None = None
    has_modes: bool = False
    tunable: Mapping[Mode, Mapping[str, tuple[str | int | bool, ...]]] = field(default_factory=dict)
    packages: tuple[str, ...] = ()

    @property
    def settings(self) -> Settings:
        """What it is loaded with: ``load_options``, and ``batch_tokens`` where it has any."""
        budget = {} if self.batch_tokens is None else {"batch_tokens": self.batch_tokens}
        return {**self.load_options, **budget}

    def with_settings(self, changes: Settings) -> "Backend":
        """Return the row with some of its :attr:`settings` changed."""
        settings = {**self.settings, **changes}
        batch_tokens = settings.pop("batch_tokens", None)
        return replace(
            self, batch_tokens=None if batch_tokens is None else int(batch_tokens), load_options=settings
        )

    @property
    def missing_packages(self) -> tuple[str, ...]:
        """Those of its packages that are not installed."""
        return tuple(name for name in self.packages if importlib.util.find_spec(name) is None)

    def require_packages(self) -> None:
        """Check that all that it needs is installed.

        Raises:
            MissingPackageError: something is not; the message gives the command that installs it.
        """
        if missing := self.missing_packages:
            raise MissingPackageError(
                f"{self.name} needs {' and '.join(missing)}, which is not installed: {INSTALL_PEERS}"
            )


_ENCODERS = "embedopt.inference.encoders"
_EXPORT = "embedopt.inference.artifacts.export"
_QUANTIZE = "embedopt.inference.artifacts.quantize"

# Threads spin between the steps of a call, and stop when it ends: an idle pool that spins takes the core from
# whoever runs next. Blocks of a quarter of a thread's share let the faster core take over work of the slower
# one (https://onnxruntime.ai/docs/performance/).
_ORT_SESSION = {
    "session.intra_op.allow_spinning": "1",
    "session.force_spinning_stop": "1",
    "session.dynamic_block_base": "4",
    "disabled_optimizers": "",
}
# The fused kernel is slower than the addition and the normalisation that it stands for: 781 against
# 952 texts/s of our corpus with onnx-int8 in throughput mode on two cores (Zen 4).
_ORT_INT8_SESSION = {**_ORT_SESSION, "disabled_optimizers": "SkipLayerNormFusion"}
# A batch whose activations leave a core's cache is slower per token: 952 texts/s at 512 padded tokens,
# 811 at 2,048, 594 at 4,096, measured likewise.
_BATCH_TOKENS = 512

# What depends on the machine and leaves an embedding as it is, but for the rounding of floats; only
# batch_tokens gives a text other company, which dynamic INT8 depends on. In throughput mode, a replica has
# one thread, so there is nobody to share blocks with or to spin for; in latency mode, one text has no budget.
_BUDGETS = {"batch_tokens": (_BATCH_TOKENS, 256, 1024, 2048)}
_TUNABLE: Mapping[Mode, Mapping[str, tuple[str | int | bool, ...]]] = {"throughput": _BUDGETS}
_ORT_TUNABLE: Mapping[Mode, Mapping[str, tuple[str | int | bool, ...]]] = {
    "latency": {
        "session.intra_op.allow_spinning": ("1", "0"),
        "session.dynamic_block_base": ("4", "0", "2", "8"),
        "disabled_optimizers": ("SkipLayerNormFusion", ""),
    },
    "throughput": {**_BUDGETS, "disabled_optimizers": ("SkipLayerNormFusion", "")},
}

_ROWS = (
    Backend(
        name=REFERENCE,
        summary="PyTorch through sentence-transformers, untouched: the reference",
        precision="fp32",
        load=f"{_ENCODERS}.sentence_transformers:load_torch",
        bounds={"cosine_mean": 0.99999, "cosine_min": 0.99999, "batch_invariance_min": 0.99999},
    ),
    Backend(
        name="torch-bf16",
        summary="PyTorch with weights and products in bfloat16",
        precision="bf16",
        load=f"{_ENCODERS}.torch:load",
        base=REFERENCE,
        load_options={"dtype": "bfloat16"},
        batch_tokens=_BATCH_TOKENS,
        bounds={"cosine_mean": 0.999, "cosine_min": 0.998, "batch_invariance_min": 0.998},
    ),
    Backend(
        name="onnx-fp32",
        summary="ONNX Runtime, pooling and normalisation in the graph",
        precision="fp32",
        load=f"{_ENCODERS}.onnxruntime:load",
        build=f"{_EXPORT}:onnx_fp32",
        load_options=_ORT_SESSION,
        batch_tokens=_BATCH_TOKENS,
        has_modes=True,
        tunable=_ORT_TUNABLE,
        bounds={"cosine_min": 0.99999, "max_abs_error": 1e-5, "batch_invariance_min": 0.99999},
    ),
    Backend(
        name="onnx-int8",
        summary="dynamic INT8, one weight scale per channel, outlying activations smoothed",
        precision="int8",
        load=f"{_ENCODERS}.onnxruntime:load",
        build=f"{_QUANTIZE}:dynamic_int8",
        base="onnx-fp32",
        build_options={"per_channel": True, "smoothing": True},
        load_options=_ORT_INT8_SESSION,
        batch_tokens=_BATCH_TOKENS,
        has_modes=True,
        tunable=_ORT_TUNABLE,
        bounds={"cosine_mean": 0.995, "cosine_min": 0.985, "batch_invariance_min": 0.985},
        bounds_need_vnni=True,
    ),
    Backend(
        name="onnx-int8-per-tensor",
        summary="dynamic INT8, one weight scale per tensor: the seed study's recipe",
        precision="int8",
        load=f"{_ENCODERS}.onnxruntime:load",
        build=f"{_QUANTIZE}:dynamic_int8",
        base="onnx-fp32",
        build_options={"per_channel": False},
        load_options=_ORT_INT8_SESSION,
        batch_tokens=_BATCH_TOKENS,
        has_modes=True,
        tunable=_ORT_TUNABLE,
        bounds={"cosine_mean": 0.95, "cosine_min": 0.85, "batch_invariance_min": 0.94},
        bounds_need_vnni=True,
    ),
    Backend(
        name="onnx-int8-block",
        summary="INT8 with a scale per block of 64: the same embedding in any batch",
        precision="int8",
        load=f"{_ENCODERS}.onnxruntime:load",
        build=f"{_QUANTIZE}:blockwise_int8",
        base="onnx-fp32",
        # Blocks of 128 and more take a kernel of onnxruntime 1.32 whose result depends on the number of
        # rows: batch invariance 0.9997 instead of 1.0000.
        build_options={"block_size": 64},
        load_options=_ORT_INT8_SESSION,
        batch_tokens=_BATCH_TOKENS,
        has_modes=True,
        tunable=_ORT_TUNABLE,
        bounds={"cosine_mean": 0.999, "cosine_min": 0.998, "batch_invariance_min": 0.99999},
        bounds_need_vnni=True,
    ),
    Backend(
        name="st-onnx-fp32",
        summary="sentence-transformers' own ONNX backend",
        precision="fp32",
        load=f"{_ENCODERS}.sentence_transformers:load_onnx",
        build=f"{_EXPORT}:sentence_transformers_onnx",
        bounds={"cosine_min": 0.99999, "batch_invariance_min": 0.99999},
    ),
    Backend(
        name="st-onnx-int8",
        summary="sentence-transformers' own ONNX backend with its INT8 for AVX-512 VNNI",
        precision="int8",
        load=f"{_ENCODERS}.sentence_transformers:load_onnx",
        build=f"{_QUANTIZE}:sentence_transformers_int8",
        base="st-onnx-fp32",
        build_options={"quantization_config": "avx512_vnni"},
        bounds={"cosine_mean": 0.99, "cosine_min": 0.96, "batch_invariance_min": 0.96},
        bounds_need_vnni=True,
    ),
    Backend(
        name="openvino-bf16",
        summary="OpenVINO in bfloat16",
        precision="bf16",
        load=f"{_ENCODERS}.openvino:load",
        build=f"{_ENCODERS}.openvino:convert",
        base="onnx-fp32",
        load_options={"INFERENCE_PRECISION_HINT": "bf16"},
        batch_tokens=_BATCH_TOKENS,
        has_modes=True,
        tunable=_TUNABLE,
        bounds={"cosine_mean": 0.9999, "cosine_min": 0.9995, "batch_invariance_min": 0.9995},
        packages=("openvino",),
    ),
    Backend(
        name="openvino-int8",
        summary="OpenVINO with static INT8 by nncf",
        precision="int8",
        load=f"{_ENCODERS}.openvino:load",
        build=f"{_ENCODERS}.openvino:static_int8",
        base="onnx-fp32",
        load_options={"INFERENCE_PRECISION_HINT": "f32"},
        batch_tokens=_BATCH_TOKENS,
        has_modes=True,
        tunable=_TUNABLE,
        bounds={"cosine_mean": 0.995, "cosine_min": 0.985, "batch_invariance_min": 0.999},
        bounds_need_vnni=True,
        packages=("openvino", "nncf"),
    ),
    Backend(
        name="ct2-int8",
        summary="CTranslate2 with INT8 weights, activations quantised row by row",
        precision="int8",
        load=f"{_ENCODERS}.ctranslate2:load",
        build=f"{_ENCODERS}.ctranslate2:convert",
        base=REFERENCE,
        build_options={"quantization": "int8"},
        load_options={"compute_type": "int8_float32"},
        batch_tokens=_BATCH_TOKENS,
        has_modes=True,
        tunable=_TUNABLE,
        bounds={"cosine_mean": 0.995, "cosine_min": 0.985, "batch_invariance_min": 0.985},
        packages=("ctranslate2",),
    ),
)

BACKENDS: Mapping[str, Backend] = {row.name: row for row in _ROWS}


def get_backend(name: str) -> Backend:
    """Return the row called ``name``.

    Raises:
        UsageError: there is no such row; the message lists the known ones.
    """
    if name not in BACKENDS:
        raise UsageError(f"unknown backend {name!r}; known are: {', '.join(BACKENDS)}")
    return BACKENDS[name]


def split_names(names: str) -> list[str]:
    """Read a comma-separated list of backends.

    Raises:
        UsageError: there is none in it; the message lists the known ones.
    """
    asked = [name.strip() for name in names.split(",") if name.strip()]
    if not asked:
        raise UsageError(f"no backend named; known are: all, {', '.join(BACKENDS)}")
    return asked


def select_backends(names: Iterable[str]) -> tuple[Backend, ...]:
    """Return the named rows, each once and in the table's order; ``all`` stands for every row.

    Raises:
        UsageError: a name is unknown.
    """
    chosen = {row.name for name in names for row in (_ROWS if name == "all" else (get_backend(name),))}
    return tuple(row for row in _ROWS if row.name in chosen)
