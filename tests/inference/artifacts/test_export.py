"""An export gives the reference's embeddings, whatever the model's pooling."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from embedopt.inference.loading import load_encoder
from tests.models import UNUSUAL_TEXTS, Pooling


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
def test_every_pooling_is_in_the_graph(
    tiny_model: Callable[..., Path], pooling: Pooling, normalize: bool
) -> None:
    """It is read from the model's own configuration; embeddings are always L2-normalised."""
    model = str(tiny_model(pooling, normalize=normalize))
    with (
        load_encoder("torch-fp32", model=model) as reference,
        load_encoder("onnx-fp32", model=model) as encoder,
    ):
        expected = reference.encode(UNUSUAL_TEXTS)
        embeddings = encoder.encode(UNUSUAL_TEXTS)
        counts = reference.token_counts(UNUSUAL_TEXTS).tolist()
        assert counts == encoder.token_counts(UNUSUAL_TEXTS).tolist()
    assert embeddings.shape == (6, 32)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)


def test_a_default_prompt_is_kept(tiny_model: Callable[..., Path]) -> None:
    model = str(tiny_model(prompt="baker for "))
    with (
        load_encoder("torch-fp32", model=model) as reference,
        load_encoder("onnx-fp32", model=model) as encoder,
    ):
        expected = reference.encode(UNUSUAL_TEXTS)
        np.testing.assert_allclose(encoder.encode(UNUSUAL_TEXTS), expected, atol=1e-5)
        assert [5] == reference.token_counts(["nurse"]).tolist() == encoder.token_counts(["nurse"]).tolist()


def test_a_text_of_1_mb_is_cut_as_in_the_library(tiny_model: Callable[..., Path]) -> None:
    model, texts = str(tiny_model()), ["nurse " + "a " * 500_000, "nurse"]
    with (
        load_encoder("torch-fp32", model=model) as reference,
        load_encoder("onnx-fp32", model=model) as encoder,
    ):
        np.testing.assert_allclose(encoder.encode(texts), reference.encode(texts), atol=1e-5)


@pytest.mark.parametrize("backend", ["torch-fp32", "onnx-fp32"])
def test_a_prompt_is_given_by_its_name_or_as_a_text(tiny_model: Callable[..., Path], backend: str) -> None:
    """It takes the place of the default prompt, as in sentence-transformers; an empty one is none."""
    folder = str(tiny_model(prompt="baker for "))
    library = SentenceTransformer(folder, device="cpu")
    with load_encoder(backend, model=folder) as encoder:
        for prompt, text in [("search", "baker for "), ("nurse: ", "nurse: "), ("", "")]:
            expected = library.encode(UNUSUAL_TEXTS, prompt=text, normalize_embeddings=True)
            np.testing.assert_allclose(encoder.encode(UNUSUAL_TEXTS, prompt=prompt), expected, atol=1e-5)
