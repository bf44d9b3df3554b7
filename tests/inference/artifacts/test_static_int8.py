"""Static INT8: the same embedding in any batch, in any process, and on a CPU without VNNI."""

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from embedopt.errors import ArtifactError
from embedopt.inference.artifacts import static_int8 as module
from embedopt.inference.artifacts.layout import MODEL_FILE, graph_inputs
from embedopt.inference.artifacts.static_int8 import round_weights, static_int8
from embedopt.inference.artifacts.store import ArtifactStore, quiet
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backends import BACKENDS
from embedopt.inference.loading import load_encoder
from tests.models import weights_in

TEXTS = ("nurse", "", "welder, night shift, own tools", "a " * 90, "Zürich 🙂", "forklift driver " * 12)
EMULATOR = shutil.which("qemu-x86_64")
# Embeds the inputs of a file one by one; run natively and emulated.
_EMBED = """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 3
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
given = numpy.load(sys.argv[2])
feeds = [{name: given[f"{name}{row}"] for name in ("input_ids", "attention_mask")} for row in range(4)]
numpy.save(sys.argv[3], numpy.concatenate([session.run(None, feed)[0] for feed in feeds]))
"""


def test_the_sum_of_two_weights_that_a_cpu_adds_is_at_most_128() -> None:
    weights = np.random.default_rng(0).normal(size=(385, 16))
    rounded, scales = round_weights(weights, np.ones(385))
    np.testing.assert_array_equal(rounded, np.rint(rounded))
    sums = np.append(rounded, np.zeros((1, 16)), axis=0).reshape(-1, 2, 16).sum(axis=1)
    assert (sums.min(), sums.max()) == (-128, 128)
    assert np.abs(rounded).max() <= 127
    assert np.abs(rounded * scales - weights).max() < 0.5


def test_weights_of_pairs_that_fit_are_rounded_at_the_finest_scale() -> None:
    weights = np.array([[127.0], [1.0], [-64.0], [64.0]])
    rounded, scales = round_weights(weights, np.ones(4))
    np.testing.assert_array_equal(rounded, weights)
    assert scales == pytest.approx([1.0])


def test_a_pair_over_the_limit_gives_way_by_half_each() -> None:
    np.testing.assert_array_equal(
        module._limit_pairs(np.array([[127.0, -100.0], [127.0, -29.0]])), [[64.0, -99.0], [64.0, -29.0]]
    )


def test_a_pair_of_two_signs_stays_since_its_products_do_not_add_up() -> None:
    """With the largest and the smallest activations, no sum leaves 16 bits."""
    pair = np.array([[127.0, -127.0], [-127.0, 127.0]])
    np.testing.assert_array_equal(module._limit_pairs(pair), pair)


def test_products_share_one_quantised_input_and_hold_their_bias(
    outlier_artifact: Path, tmp_path: Path
) -> None:
    with quiet():
        assert static_int8(outlier_artifact, tmp_path) is None
    graph = onnx.load(tmp_path / MODEL_FILE).graph
    kinds = Counter(node.op_type for node in graph.node)
    assert [kinds[kind] for kind in ("MatMulIntegerToFloat", "QAttention", "QuantizeLinear")] == [6, 2, 8]
    names = {tensor.name for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulIntegerToFloat"]
    made = {node.output[0] for node in products}
    additions = [set(node.input) for node in graph.node if node.op_type == "Add"]
    assert not [addition for addition in additions if addition & made and addition & names]
    assert all(len(node.input) == 7 and node.input[6] in names for node in products)
    assert weights_in(onnx.load(tmp_path / MODEL_FILE), products[0].input[1]).dtype == np.int8


def test_sessions_share_the_weights_in_a_file_that_they_map(outlier_artifact: Path, tmp_path: Path) -> None:
    with quiet():
        static_int8(outlier_artifact, tmp_path)
    graph = onnx.load(tmp_path / MODEL_FILE, load_external_data=False).graph
    apart = {tensor.name for tensor in graph.initializer if tensor.external_data}
    large = {tensor.name for tensor in graph.initializer if np.prod(tensor.dims) > 1024}
    assert large <= apart
    modes = {file.name: file.stat().st_mode for file in tmp_path.glob("*.onnx*")}
    assert modes == dict.fromkeys((MODEL_FILE, f"{MODEL_FILE}_data"), modes[MODEL_FILE])


def test_a_product_without_a_bias_is_counted(outlier_artifact: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(outlier_artifact, source)
    model = onnx.load(source / MODEL_FILE)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    [product] = [
        node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in constants
    ][:1]
    [addition] = [node for node in model.graph.node if product.output[0] in node.input]
    product.output[0] = addition.output[0]
    model.graph.node.remove(addition)
    onnx.save(model, source / MODEL_FILE)
    target.mkdir()
    with quiet():
        assert static_int8(source, target) == "1 of 12 products have no bias to put inside"


def test_a_graph_without_products_is_refused(outlier_artifact: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(outlier_artifact, source)
    model = onnx.load(source / MODEL_FILE)
    for tensor in [tensor for tensor in model.graph.initializer if len(tensor.dims) == 2]:
        node = onnx.helper.make_node("Neg", [f"{tensor.name}_constant"], [tensor.name])
        model.graph.node.insert(0, node)
        tensor.name = f"{tensor.name}_constant"
    onnx.save(model, source / MODEL_FILE)
    (tmp_path / "target").mkdir()
    with pytest.raises(ArtifactError, match="no matrix product with constant weights"):
        static_int8(source, tmp_path / "target")


def test_an_embedding_is_the_same_to_the_bit_alone_and_in_any_batch(real_cache: Path) -> None:
    with load_encoder("onnx-int8", cache_dir=real_cache) as encoder:
        alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
        for seed in range(20):
            rows = np.random.default_rng(seed).permutation(len(TEXTS))[: 2 + seed % 5]
            padded = encoder.encode_as_one_batch([TEXTS[row] for row in rows])
            assert padded.tobytes() == alone[rows].tobytes()
        assert encoder.encode(TEXTS).tobytes() == alone.tobytes()
    with load_encoder("onnx-int8", mode="throughput", cache_dir=real_cache) as encoder:
        assert encoder.encode(TEXTS).tobytes() == alone.tobytes()


def test_an_embedding_is_the_same_in_another_process(real_cache: Path) -> None:
    with load_encoder("onnx-int8", cache_dir=real_cache) as encoder:
        embeddings = encoder.encode(TEXTS)
    code = (
        "import sys; from pathlib import Path; from embedopt import load_encoder\n"
        f"encoder = load_encoder('onnx-int8', cache_dir=Path({str(real_cache)!r}))\n"
        f"sys.stdout.write(encoder.encode({TEXTS!r}).tobytes().hex())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout == embeddings.tobytes().hex()


@pytest.mark.skipif(EMULATOR is None, reason="qemu-x86_64 is not installed: apt-get install qemu-user")
def test_an_embedding_is_the_same_without_vnni(real_cache: Path, tmp_path: Path) -> None:
    """A Haswell, which adds pairs of products in 16 bits, is emulated."""
    folder = ArtifactStore(real_cache).get(BACKENDS["onnx-int8"], resolve_weights())
    rows = [graph_inputs(folder, [[text]])[0] for text in TEXTS[:4]]
    given = {f"{name}{number}": values for number, row in enumerate(rows) for name, values in row.items()}
    np.savez(tmp_path / "given.npz", allow_pickle=False, **given)
    embeddings = []
    for emulator in ([], [str(EMULATOR), "-cpu", "Haswell"]):
        file = tmp_path / f"{len(emulator)}.npy"
        arguments = [folder / MODEL_FILE, tmp_path / "given.npz", file]
        subprocess.run(
            [*emulator, sys.executable, "-c", _EMBED, *map(str, arguments)], check=True, capture_output=True
        )
        embeddings.append(np.load(file))
    assert (embeddings[0] * embeddings[1]).sum(axis=1).min() >= 0.9999
