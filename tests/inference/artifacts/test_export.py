"""What is built gives the reference's embeddings, whatever the model's pooling."""

import logging
import shutil
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub
import numpy as np
import onnx
import onnxruntime
import psutil
import pytest

from embedopt.errors import ArtifactError, UsageError
from embedopt.inference.artifacts import export
from embedopt.inference.artifacts.export import quiet
from embedopt.inference.artifacts.store import ArtifactStore, disk_bytes
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backends import BACKENDS, Mode
from embedopt.inference.encoders.onnxruntime import OnnxForward, session_options
from embedopt.inference.loading import load_encoder
from embedopt.inference.pipeline import Pipeline
from embedopt.measure.machine import this_machine
from tests.models import Pooling

_INT8_PRODUCTS = {"MatMulIntegerToFloat", "DynamicQuantizeMatMul"}

TEXTS = [
    "welder, night shift in zurich",
    "",
    "nurse",
    "c++ and python " * 40,
    "Ünïcödé 👩‍🔧 \x00",
    "a " * 500_000,
]


def _has_vnni() -> bool:
    return any(name.endswith("vnni") for name in this_machine().instruction_sets)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Refuse to look up any host, with the hub's offline switch off, and keep what was looked up."""
    asked: list[object] = []

    def refuse(host: object, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return asked


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
def test_every_pooling_is_in_the_graph(
    tiny_model: Callable[..., Path], tmp_path: Path, pooling: Pooling, normalize: bool
) -> None:
    """Read from the model's own configuration; always L2-normalised, as the reference is."""
    model = str(tiny_model(pooling, normalize=normalize))
    with (
        load_encoder("torch-fp32", model=model) as reference,
        load_encoder("onnx-fp32", model=model) as encoder,
    ):
        expected = reference.encode(TEXTS)
        embeddings = encoder.encode(TEXTS)
        assert encoder.token_counts(TEXTS).tolist() == reference.token_counts(TEXTS).tolist()
    assert embeddings.shape == (6, 32)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)


def test_a_default_prompt_is_kept(tiny_model: Callable[..., Path]) -> None:
    model = str(tiny_model(prompt="baker for "))
    with (
        load_encoder("torch-fp32", model=model) as reference,
        load_encoder("onnx-fp32", model=model) as encoder,
    ):
        expected = reference.encode(TEXTS)
        np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)
        assert encoder.token_counts(["nurse"]).tolist() == reference.token_counts(["nurse"]).tolist() == [5]


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_on_the_real_model(real_cache: Path, name: str, no_network: list[object]) -> None:
    """Ordinary texts, odd ones and one of 1 MB: near enough to the reference to be the same text."""
    if missing := BACKENDS[name].missing_packages:
        pytest.skip(f"{' and '.join(missing)} not installed: pip install -e '.[peers]'")
    with load_encoder("torch-fp32") as reference, load_encoder(name, cache_dir=real_cache) as encoder:
        expected = reference.encode(TEXTS)
        embeddings = encoder.encode(TEXTS)
        assert encoder.token_counts(TEXTS).tolist() == reference.token_counts(TEXTS).tolist()
        assert sorted(index for batch in encoder.plan(TEXTS, 4) for index in batch) == list(range(len(TEXTS)))
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (6, 384)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)
    cosines = (expected * embeddings).sum(axis=1)
    assert no_network == []
    if BACKENDS[name].bounds_need_vnni and not _has_vnni():
        pytest.skip("what INT8 gives without VNNI is not promised")
    if BACKENDS[name].precision == "int8":  # which the one of 1 MB, a word 256 times over, takes far off
        assert cosines[:-1].min() > 0.9
    else:
        assert cosines.min() > 0.999


def test_int8_is_74_percent_smaller(real_cache: Path) -> None:
    """All that each backend loads, tokenizer included."""
    weights, store = resolve_weights(), ArtifactStore(real_cache)
    int8, fp32 = (disk_bytes(store.get(BACKENDS[name], weights)) for name in ("onnx-int8", "onnx-fp32"))
    assert int8 <= 0.26 * fp32
    assert int8 <= 0.26 * weights.disk_bytes


@pytest.mark.parametrize("name", ["torch-fp32", "onnx-fp32"])
def test_a_hundred_thousand_texts(tiny_model: Callable[..., Path], name: str) -> None:
    """Each row is that of its own text."""
    words = ["welder", "nurse", "driver", "baker at night", "the day shift"]
    with load_encoder(name, model=str(tiny_model())) as encoder:
        expected = encoder.encode(words)
        embeddings = encoder.encode(words * 20_000, batch_size=2000)
    assert embeddings.shape == (100_000, 32)
    np.testing.assert_allclose(embeddings, np.tile(expected, (20_000, 1)), atol=1e-5)


def test_closing_frees_the_threads(tiny_model: Callable[..., Path]) -> None:
    """Also those of a library whose objects hold one another."""
    before = psutil.Process().num_threads()
    encoder = load_encoder("st-onnx-fp32", model=str(tiny_model()))
    encoder.close()
    assert psutil.Process().num_threads() <= before


def test_the_graph_has_one_output_and_int8_products(real_cache: Path) -> None:
    """What is called INT8 multiplies in int8: 6 layers of 6 products each."""
    products = {}
    for name in ("onnx-fp32", "onnx-int8", "onnx-int8-per-tensor", "onnx-int8-block"):
        load_encoder(name, cache_dir=real_cache).close()
        [folder] = (folder for folder in (real_cache / "artifacts").glob(f"{name}-????????????????"))
        graph = onnx.load(folder / "model.onnx").graph
        assert [output.name for output in graph.output] == ["sentence_embedding"]
        kinds = [node.op_type for node in graph.node]
        products[name] = [kinds.count(kind) for kind in ("MatMul", "MatMulInteger", "MatMulNBits")]
    # Of the 48 products of fp32, 12 are of two activations, inside attention.
    assert products == {
        "onnx-fp32": [48, 0, 0],
        "onnx-int8": [12, 36, 0],
        "onnx-int8-per-tensor": [12, 36, 0],
        "onnx-int8-block": [12, 0, 36],
    }


@pytest.mark.parametrize("name", ["torch-fp32", "torch-bf16", "onnx-fp32", "st-onnx-fp32"])
def test_threads_get_their_own_answers(tiny_model: Callable[..., Path], name: str) -> None:
    asked = [[f"welder {letter} " * length] for length, letter in enumerate("abcdefghijkl", 1)]
    with load_encoder(name, model=str(tiny_model())) as encoder:
        expected = [encoder.encode(texts) for texts in asked]
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(encoder.encode, asked * 4))
    for answer, wanted in zip(answers, expected * 4, strict=True):
        np.testing.assert_allclose(answer, wanted, atol=1e-6)


def test_an_unfaithful_export_is_refused(
    tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_LARGEST_EXPORT_ERROR", -1.0)
    with pytest.raises(ArtifactError, match="the exported graph differs from the model by"):
        load_encoder("onnx-fp32", model=str(tiny_model()))


def test_an_unknown_backend() -> None:
    with pytest.raises(UsageError, match="unknown backend 'onnx'; known are: torch-fp32"):
        load_encoder("onnx")


def test_building_leaves_the_users_logging_alone() -> None:
    """The quantisers call logging.basicConfig when they are imported."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.root.manager.disable
    with quiet():
        root.addHandler(logging.NullHandler())
        root.setLevel(logging.DEBUG)
        assert not logging.getLogger("any").isEnabledFor(logging.WARNING)
    assert (root.handlers[:], root.level, logging.root.manager.disable) == before


@pytest.mark.parametrize("name", ["torch-fp32", "onnx-fp32"])
def test_a_damaged_model_is_one_line(tiny_model: Callable[..., Path], tmp_path: Path, name: str) -> None:
    """Half of the weights, as a broken copy leaves them."""
    folder = shutil.copytree(tiny_model(), tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(ArtifactError) as caught:
        load_encoder(name, model=str(folder))
    assert name in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_mode() -> None:
    with pytest.raises(UsageError, match="unknown mode 'fast'; known are: latency, throughput"):
        load_encoder("onnx-int8", mode="fast")  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("onnx-fp32", {"MatMul": 42, "FusedMatMul": 6, "BiasGelu": 6, "LayerNormalization": 13}),
        (
            "onnx-int8",
            # Query, key and value share the quantisation of their input; the rest quantise their own.
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
    """As the session optimises it for itself: no product by weights is left in fp32, none runs unfused."""
    row = BACKENDS[name]
    folder = ArtifactStore(real_cache).get(row, resolve_weights())
    options = session_options(row.load_options, 2)
    assert options.intra_op_num_threads == 2
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3  # that the file suits this machine only is known
    disabled = str(row.load_options.get("disabled_optimizers", "")).split(",")
    onnxruntime.InferenceSession(
        folder / "model.onnx",
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=[optimizer for optimizer in disabled if optimizer],
    )
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    kinds = Counter(node.op_type for node in graph.node)
    assert {kind: kinds[kind] for kind in expected} == expected
    unfused = {"MatMulInteger", "Erf", "SkipLayerNormalization", "ReduceMean"}
    assert unfused & set(kinds) == set()
    int8 = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    quantised = [node for node in graph.node if node.op_type in _INT8_PRODUCTS]
    assert all(node.input[1] in int8 for node in quantised)


def test_a_session_has_the_threads_of_its_mode(real_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them for one call, or one for each replica."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr("embedopt.inference.threads.usable_cores", lambda: 4)
    modes: list[tuple[Mode, int, int]] = [("latency", 1, 3), ("throughput", 3, 1)]
    for mode, replicas, threads in modes:
        with load_encoder("onnx-int8", mode=mode, cache_dir=real_cache) as encoder:
            assert isinstance(encoder, Pipeline)
            forwards = [encoder._free.get() for _ in range(replicas)]
            for forward in forwards:
                assert isinstance(forward, OnnxForward)
                assert forward._session.get_session_options().intra_op_num_threads == threads
                encoder._free.put(forward)


@pytest.mark.parametrize("name", ["torch-fp32", "torch-bf16", "onnx-fp32", "st-onnx-fp32"])
def test_both_modes_give_the_same_embeddings(
    tiny_model: Callable[..., Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr("embedopt.inference.threads.usable_cores", lambda: 4)
    texts = [f"welder {letter} " * length for length, letter in enumerate("abcdefghijkl", 1)]
    model = str(tiny_model())
    with (
        load_encoder(name, model=model) as single,
        load_encoder(name, mode="throughput", model=model) as replicated,
    ):
        assert single.replicas == 1
        assert replicated.replicas == (3 if BACKENDS[name].has_modes else 1)
        np.testing.assert_allclose(replicated.encode(texts, 2), single.encode(texts, 2), atol=1e-5)
