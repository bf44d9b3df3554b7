"""What holds for the encoder of every runtime."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants as hub_constants

from embedopt.inference.backends import BACKENDS
from embedopt.inference.hardware import has_vnni, this_hardware
from embedopt.inference.loading import load_encoder
from tests.models import UNUSUAL_TEXTS

# Texts of 1 to 12 words, each unlike the others.
_LISTS = [[f"welder {letter} " * length] for length, letter in enumerate("abcdefghijkl", 1)]


@pytest.fixture
def host_names(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Refuse to look up any host, with the hub's offline switch off; return the list of refused names."""
    names: list[object] = []

    def refuse(host: object, *_: object, **__: object) -> None:
        names.append(host)
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
    return names


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "static-fp32"])
def test_unusual_texts_on_the_real_model_are_close_to_the_reference(
    real_cache: Path, name: str, host_names: list[object]
) -> None:
    """Ordinary texts, odd ones and one of 40 kB, without a network."""
    if missing := BACKENDS[name].missing_packages:
        pytest.skip(f"{' and '.join(missing)} not installed: pip install 'embedopt[peers]'")
    with load_encoder("torch-fp32") as reference, load_encoder(name, cache_dir=real_cache) as encoder:
        expected = reference.encode(UNUSUAL_TEXTS)
        embeddings = encoder.encode(UNUSUAL_TEXTS)
        counts = reference.token_counts(UNUSUAL_TEXTS).tolist()
        assert encoder.token_counts(UNUSUAL_TEXTS).tolist() == counts
        assert sorted(index for batch in encoder.plan(UNUSUAL_TEXTS, 4).batches for index in batch) == list(
            range(6)
        )
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (6, 384)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)
    assert host_names == []
    _assert_close(name, (expected * embeddings).sum(axis=1))


def _assert_close(name: str, cosines: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> None:
    if BACKENDS[name].bounds_need_vnni and not has_vnni(this_hardware().instruction_sets):
        pytest.skip("the cosine of INT8 on a CPU without VNNI is not promised")
    if BACKENDS[name].precision == "int8":  # the last text is one word 256 times, for which INT8 is far off
        assert cosines[:-1].min() > 0.9
    else:
        assert cosines.min() > 0.999


@pytest.mark.parametrize("name", ["torch-fp32", "onnx-fp32"])
def test_each_of_a_hundred_thousand_texts_gets_its_own_row(
    tiny_model: Callable[..., Path], name: str
) -> None:
    words = ["welder", "nurse", "driver", "baker at night", "the day shift"]
    with load_encoder(name, model=str(tiny_model())) as encoder:
        expected = encoder.encode(words)
        embeddings = encoder.encode(words * 20_000, batch_size=2000)
    assert embeddings.shape == (100_000, 32)
    np.testing.assert_allclose(embeddings, np.tile(expected, (20_000, 1)), atol=1e-5)


@pytest.mark.parametrize("name", ["torch-fp32", "torch-bf16", "onnx-fp32", "st-onnx-fp32"])
def test_each_thread_gets_its_own_embeddings(tiny_model: Callable[..., Path], name: str) -> None:
    with load_encoder(name, model=str(tiny_model())) as encoder:
        expected = [encoder.encode(texts) for texts in _LISTS]
        with ThreadPoolExecutor(6) as pool:
            results = list(pool.map(encoder.encode, _LISTS * 4))
    for result, embeddings in zip(results, expected * 4, strict=True):
        np.testing.assert_allclose(result, embeddings, atol=1e-6)


def test_torch_counts_on_no_more_threads_than_openmp_starts(
    tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more, its products in bfloat16 are NaN, or anything. OpenMP reads it when a process starts."""
    import torch

    monkeypatch.setenv("OMP_THREAD_LIMIT", "2")
    torch.set_num_threads(3)
    with load_encoder("torch-bf16", model=str(tiny_model())):
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize("name", ["torch-fp32", "torch-bf16", "onnx-fp32", "st-onnx-fp32"])
def test_all_modes_give_the_same_embeddings(
    tiny_model: Callable[..., Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr("embedopt.inference.hardware.usable_cores", lambda: 4)
    texts = [text for texts in _LISTS for text in texts]
    model = str(tiny_model())
    replicas = 3 if BACKENDS[name].has_modes else 1
    with (
        load_encoder(name, model=model) as encoder,
        load_encoder(name, mode="latency", model=model) as single,
        load_encoder(name, mode="throughput", model=model) as replicated,
    ):
        assert (encoder.replicas, single.replicas, replicated.replicas) == (replicas, 1, replicas)
        expected = single.encode(texts, 2)
        np.testing.assert_allclose(replicated.encode(texts, 2), expected, atol=1e-5)
        np.testing.assert_allclose(encoder.encode(texts, 2), expected, atol=1e-5)
