"""The table of backends: pure data, one row for each configuration.

A row names the functions that build and open it, so a new backend is one row here and at most one file in
``encoders/``. Nothing is imported until it is used. What a project declares is added by :func:`declare`.
"""

from collections.abc import Iterable
from dataclasses import replace

from embedopt.errors import UsageError
from embedopt.inference.backend import Backend, Tunable

REFERENCE = "torch-fp32"
DEFAULT = "onnx-int8"

_ENCODERS = "embedopt.inference.encoders"
_EXPORT = "embedopt.inference.artifacts.export"
_QUANTIZE = "embedopt.inference.artifacts.quantize"
_STATIC = "embedopt.inference.artifacts.static_int8"

# Threads spin between the steps of a call and stop when the call ends: an idle pool that spins takes the core
# from whatever runs next. Blocks of a quarter of a thread's share let the faster core take over work of the
# slower one (https://onnxruntime.ai/docs/performance/).
_ORT_SESSION = {
    "session.intra_op.allow_spinning": "1",
    "session.force_spinning_stop": "1",
    "session.dynamic_block_base": "4",
    "disabled_optimizers": "",
}
# The fused kernel is slower than the addition and the normalisation that it replaces: 781 against 952 texts/s
# of our corpus with onnx-int8 in throughput mode on two cores (Zen 4).
_ORT_INT8_SESSION = {**_ORT_SESSION, "disabled_optimizers": "SkipLayerNormFusion"}
# A batch whose activations do not fit the core's cache is slower per token: 952 texts/s at 512 padded tokens,
# 811 at 2,048, 594 at 4,096, same backend and machine.
_BATCH_TOKENS = 512

# A backend that skips a module or a prompt, or cuts texts at the wrong end, gives cosines far below these.
_PROBE_BF16, _PROBE_INT8 = 0.99, 0.85

# Settings whose best value depends on the machine and that change an embedding by float rounding at most.
# The exception is batch_tokens: it changes which texts share a batch, and dynamic INT8 depends on that.
# In throughput mode each replica has one thread, so block size and spinning do not matter; in latency mode a
# call has one text, so batch_tokens does not matter.
_BUDGETS = {"batch_tokens": (_BATCH_TOKENS, 256, 1024, 2048)}
_TUNABLE: Tunable = {"throughput": _BUDGETS}
_ORT_TUNABLE: Tunable = {
    "latency": {
        "session.intra_op.allow_spinning": ("1", "0"),
        "session.dynamic_block_base": ("4", "0", "2", "8"),
        "disabled_optimizers": ("SkipLayerNormFusion", ""),
    },
    "throughput": {**_BUDGETS, "disabled_optimizers": ("SkipLayerNormFusion", "")},
}

_DYNAMIC_INT8 = Backend(
    name="onnx-int8-dynamic",
    summary="dynamic INT8, one weight scale per channel, outlying activations smoothed",
    precision="int8",
    opener=f"{_ENCODERS}.onnxruntime:open_forwards",
    probe_cosine=_PROBE_INT8,
    build=f"{_QUANTIZE}:dynamic_int8",
    derived_from="onnx-fp32",
    build_options={"per_channel": True, "smoothing": True},
    open_options=_ORT_INT8_SESSION,
    batch_tokens=_BATCH_TOKENS,
    has_modes=True,
    tunable=_ORT_TUNABLE,
    bounds={"cosine_mean": 0.995, "cosine_min": 0.985, "batch_invariance_min": 0.985},
    bounds_need_vnni=True,
)
_ROWS = (
    Backend(
        name=REFERENCE,
        summary="PyTorch through sentence-transformers, untouched: the reference",
        precision="fp32",
        opener=f"{_ENCODERS}.sentence_transformers:open_torch",
        bounds={"cosine_mean": 0.99999, "cosine_min": 0.99999, "batch_invariance_min": 0.99999},
    ),
    Backend(
        name="torch-bf16",
        summary="PyTorch with weights and products in bfloat16",
        precision="bf16",
        probe_cosine=_PROBE_BF16,
        opener=f"{_ENCODERS}.torch:open_pipeline",
        build=f"{_ENCODERS}.torch:link",
        derived_from=REFERENCE,
        open_options={"dtype": "bfloat16"},
        batch_tokens=_BATCH_TOKENS,
        bounds={"cosine_mean": 0.999, "cosine_min": 0.998, "batch_invariance_min": 0.998},
    ),
    Backend(
        name="onnx-fp32",
        summary="ONNX Runtime, pooling and normalisation in the graph",
        precision="fp32",
        opener=f"{_ENCODERS}.onnxruntime:open_forwards",
        build=f"{_EXPORT}:onnx_fp32",
        open_options=_ORT_SESSION,
        batch_tokens=_BATCH_TOKENS,
        has_modes=True,
        tunable=_ORT_TUNABLE,
        bounds={"cosine_min": 0.99999, "max_abs_error": 1e-5, "batch_invariance_min": 0.99999},
    ),
    replace(
        _DYNAMIC_INT8,
        name=DEFAULT,
        summary="static INT8: the same embedding in any batch, and with VNNI or without",
        build=f"{_STATIC}:static_int8",
        build_options={},
        bounds={"cosine_mean": 0.9975, "cosine_min": 0.995, "batch_invariance_min": 0.99999},
        bounds_need_vnni=False,
    ),
    _DYNAMIC_INT8,
    replace(
        _DYNAMIC_INT8,
        name="onnx-int8-per-tensor",
        summary="dynamic INT8, one weight scale per tensor: the seed study's recipe",
        build_options={"per_channel": False},
        bounds={"cosine_mean": 0.95, "cosine_min": 0.85, "batch_invariance_min": 0.94},
    ),
    replace(
        _DYNAMIC_INT8,
        name="onnx-int8-block",
        summary="INT8 with a scale per block of 64: the same embedding in any batch",
        build=f"{_QUANTIZE}:blockwise_int8",
        # With blocks of 128 and more, onnxruntime 1.32 picks a kernel whose result depends on the number of
        # rows: batch invariance 0.9997 instead of 1.0000.
        build_options={"block_size": 64},
        bounds={"cosine_mean": 0.999, "cosine_min": 0.998, "batch_invariance_min": 0.99999},
    ),
    Backend(
        name="st-onnx-fp32",
        summary="sentence-transformers' own ONNX backend",
        precision="fp32",
        opener=f"{_ENCODERS}.sentence_transformers:open_onnx",
        build=f"{_EXPORT}:sentence_transformers_onnx",
        bounds={"cosine_min": 0.99999, "batch_invariance_min": 0.99999},
    ),
    Backend(
        name="st-onnx-int8",
        summary="sentence-transformers' own ONNX backend with its INT8 for AVX-512 VNNI",
        precision="int8",
        opener=f"{_ENCODERS}.sentence_transformers:open_onnx",
        probe_cosine=_PROBE_INT8,
        build=f"{_QUANTIZE}:sentence_transformers_int8",
        derived_from="st-onnx-fp32",
        build_options={"quantization_config": "avx512_vnni"},
        bounds={"cosine_mean": 0.99, "cosine_min": 0.96, "batch_invariance_min": 0.96},
        bounds_need_vnni=True,
    ),
    Backend(
        name="openvino-bf16",
        summary="OpenVINO in bfloat16",
        precision="bf16",
        opener=f"{_ENCODERS}.openvino:open_forwards",
        probe_cosine=_PROBE_BF16,
        build=f"{_ENCODERS}.openvino:convert",
        derived_from="onnx-fp32",
        open_options={"INFERENCE_PRECISION_HINT": "bf16"},
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
        opener=f"{_ENCODERS}.openvino:open_forwards",
        probe_cosine=_PROBE_INT8,
        build=f"{_ENCODERS}.openvino:static_int8",
        derived_from="onnx-fp32",
        open_options={"INFERENCE_PRECISION_HINT": "f32"},
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
        opener=f"{_ENCODERS}.ctranslate2:open_forwards",
        probe_cosine=_PROBE_INT8,
        build=f"{_ENCODERS}.ctranslate2:convert",
        derived_from=REFERENCE,
        build_options={"quantization": "int8"},
        open_options={"compute_type": "int8_float32"},
        batch_tokens=_BATCH_TOKENS,
        has_modes=True,
        tunable=_TUNABLE,
        bounds={"cosine_mean": 0.995, "cosine_min": 0.985, "batch_invariance_min": 0.985},
        packages=("ctranslate2",),
    ),
    Backend(
        name="static-fp32",
        summary="a lookup of each token's embedding, for models of StaticEmbedding",
        precision="fp32",
        opener=f"{_ENCODERS}.static:open_pipeline",
        build=f"{_ENCODERS}.static:link",
        batch_tokens=_BATCH_TOKENS,
        only_named=True,
    ),
)

BACKENDS: dict[str, Backend] = {row.name: row for row in _ROWS}

# For embeddings that are stored: they must not depend on the other texts of a batch.
DEFAULT_TO_STORE = DEFAULT if BACKENDS[DEFAULT].is_batch_invariant else "onnx-int8-block"


def declare(rows: Iterable[Backend]) -> None:
    """Add the rows of a project to the table, in the place of those that were declared before.

    Raises:
        UsageError: one has the name of a row of ours.
    """
    for row in declared():
        del BACKENDS[row.name]
    for row in rows:
        if row.name in BACKENDS:
            raise UsageError(
                f"[tool.embedopt.targets.{row.name}] has the name of a backend of embedopt; wanted another: "
                "rename it"
            )
        BACKENDS[row.name] = row


def declared() -> tuple[Backend, ...]:
    """Return the rows that a project declares."""
    return tuple(row for row in BACKENDS.values() if row.project)


def get_backend(name: str) -> Backend:
    """Return the row called ``name``.

    Raises:
        UsageError: there is no such row; the message lists the known ones.
    """
    if name not in BACKENDS:
        raise UsageError(f"unknown backend {name!r}; known are: {', '.join(BACKENDS)}")
    return BACKENDS[name]


def split_names(text: str) -> list[str]:
    """Split a comma-separated list of backends.

    Raises:
        UsageError: it names none; the message lists the known ones.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"no backend named; known are: all, {', '.join(BACKENDS)}")
    return names


def select_backends(names: Iterable[str]) -> tuple[Backend, ...]:
    """Return the named rows, each once and in the order of the table.

    ``all`` stands for every row but those that are ``only_named``.

    Raises:
        UsageError: a name is unknown.
    """
    of_all = [row for row in BACKENDS.values() if not row.only_named]
    chosen = {row.name for name in names for row in (of_all if name == "all" else (get_backend(name),))}
    return tuple(row for row in BACKENDS.values() if row.name in chosen)
