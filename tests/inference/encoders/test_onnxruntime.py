"""ONNX Runtime fuses the graphs of our recipes, and uses the threads of its mode."""

from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
import pytest

from embedopt.inference.artifacts.layout import MODEL_FILE
from embedopt.inference.artifacts.store import ArtifactStore
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backend import Backend
from embedopt.inference.backends import BACKENDS
from embedopt.inference.encoders import onnxruntime as onnxruntime_module
from embedopt.inference.encoders.onnxruntime import open_forwards, session_options

_INT8_PRODUCTS = {"MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QAttention"}


def test_a_session_has_the_options_of_its_row() -> None:
    options = session_options(BACKENDS["onnx-int8"].open_options, 2)
    assert options.intra_op_num_threads == 2
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("onnx-fp32", {"MatMul": 42, "FusedMatMul": 6, "BiasGelu": 6, "LayerNormalization": 13}),
        (
            "onnx-int8",
            # The products for query, key and value are part of the attention's node.
            {
                "QuantizeLinear": 24,
                "QAttention": 6,
                "MatMulIntegerToFloat": 18,
                "MatMul": 0,
                "FusedMatMul": 0,
                "Gelu": 6,
                "LayerNormalization": 13,
            },
        ),
        (
            "onnx-int8-dynamic",
            # The products for query, key and value share one quantised input; each other product quantises
            # its own.
            {
                "DynamicQuantizeLinear": 6,
                "MatMulIntegerToFloat": 18,
                "DynamicQuantizeMatMul": 18,
                "MatMul": 6,
                "FusedMatMul": 6,
                "Gelu": 6,
                "LayerNormalization": 13,
            },
        ),
        ("onnx-int8-block", {"MatMulNBits": 36, "MatMul": 6, "FusedMatMul": 6, "LayerNormalization": 13}),
    ],
)
def test_the_optimised_graph_is_fused_and_multiplies_in_int8(
    real_cache: Path, tmp_path: Path, name: str, expected: dict[str, int]
) -> None:
    """No product by weights of an INT8 row is left in fp32, and none runs unfused."""
    graph = _optimised(BACKENDS[name], real_cache, tmp_path / "optimised.onnx")
    kinds = Counter(node.op_type for node in graph.node)
    assert {kind: kinds[kind] for kind in expected} == expected
    unfused = {"MatMulInteger", "Erf", "SkipLayerNormalization", "ReduceMean"}
    assert unfused & set(kinds) == set()
    int8 = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    quantised = [node for node in graph.node if node.op_type in _INT8_PRODUCTS]
    assert all(node.input[1] in int8 for node in quantised)


def _optimised(row: Backend, cache: Path, file: Path) -> onnx.GraphProto:
    """Return the graph that a session runs after its own optimisation."""
    options = session_options(row.open_options, 2)
    options.optimized_model_filepath = str(file)
    options.log_severity_level = 3  # hides the warning that the file suits this machine only
    disabled = str(row.open_options["disabled_optimizers"]).split(",")
    onnxruntime.InferenceSession(
        ArtifactStore(cache).get(row, resolve_weights()) / MODEL_FILE,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=[optimizer for optimizer in disabled if optimizer],
    )
    return onnx.load(file, load_external_data=False).graph


@pytest.mark.parametrize(("replicas", "threads"), [(1, 3), (3, 1)])
def test_a_session_has_the_threads_of_its_replica(real_cache: Path, replicas: int, threads: int) -> None:
    row = BACKENDS["onnx-int8"]
    forwards = open_forwards(row, ArtifactStore(real_cache).get(row, resolve_weights()), replicas, threads)
    assert [forward._session.get_session_options().intra_op_num_threads for forward in forwards] == (
        [threads] * replicas
    )


@pytest.mark.parametrize(("shared_from_bytes", "sessions"), [(1_000_000_000, 3), (1, 1)])
def test_replicas_of_a_large_model_share_a_session(
    real_cache: Path, monkeypatch: pytest.MonkeyPatch, shared_from_bytes: int, sessions: int
) -> None:
    monkeypatch.setattr(onnxruntime_module, "_SHARED_FROM_BYTES", shared_from_bytes)
    row = BACKENDS["onnx-int8"]
    forwards = open_forwards(row, ArtifactStore(real_cache).get(row, resolve_weights()), 3, 1)
    assert (len(forwards), len({id(forward) for forward in forwards})) == (3, sessions)
