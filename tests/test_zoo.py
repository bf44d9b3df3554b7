"""Each model of the zoo on each backend: the library's embeddings within its precision, or one true line."""

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from embedopt.errors import EmbedoptError
from embedopt.inference.backend import Backend
from embedopt.inference.backends import BACKENDS
from embedopt.inference.encoder import FloatArray
from embedopt.inference.hardware import has_vnni, this_hardware
from embedopt.inference.loading import load_encoder
from tests.zoo import LIMIT, MODELS, Model

_TEXTS = [
    "welder, night shift in Zurich",
    "",
    "nurse",
    "c and python " * 3 + "the end baker",
    "Java [SEP] and [CLS] [MASK] <s> </s> <|endoftext|> <bos>",
    "day " * 30 + "welder night",
    "Ünï 👩",
]
# Lowest cosine to the library's embedding.
_LOWEST = {"fp32": 0.9999, "bf16": 0.99, "int8": 0.85}
# What is built from another's graph differs from it by its weights alone, and what the library exports for
# itself takes the longest: both are tried where an architecture, a module or a fault is new to them.
_FAST = ("torch-fp32", "torch-bf16", "onnx-fp32", "static-fp32")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zoo-cache")


@pytest.fixture(autouse=True)
def _shorter_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let long probes exceed the zoo's limits, and not take a model without one ten seconds."""
    monkeypatch.setattr("embedopt.inference.artifacts.probes._LONG_WORDS", 4 * LIMIT)


@pytest.fixture(autouse=True)
def _ignore_warnings() -> Iterator[None]:
    """Ignore those of the libraries, which models as odd as these give."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _backends(model: Model) -> list[Backend]:
    rows = [row for row in BACKENDS.values() if not row.missing_packages]
    return rows if model.is_tried_everywhere else [row for row in rows if row.name in _FAST]


def _expected(model: Model, folder: Path) -> tuple[list[str], dict[str | None, FloatArray | None]]:
    """Return the texts that the library embeds, and its embeddings by the name of a prompt.

    They are None where it has none that are right.
    """
    from sentence_transformers import SentenceTransformer

    if model.refused:
        return _TEXTS[:1], dict.fromkeys(model.prompts)
    library: SentenceTransformer = SentenceTransformer(str(folder), device="cpu")
    texts = _TEXTS[: model.texts]
    return texts, {
        prompt: np.asarray(library.encode(texts, prompt_name=prompt, normalize_embeddings=True))
        for prompt in model.prompts
    }


def _fault(embeddings: FloatArray, expected: FloatArray | None, lowest: float) -> str:
    """Return in words what is wrong with embeddings; nothing for right ones."""
    if expected is None:
        return "answered, though the library has no right answer"
    if embeddings.shape != expected.shape:
        return f"shape {embeddings.shape}, wanted {expected.shape}"
    both_zero = ~embeddings.any(axis=1) & ~expected.any(axis=1)
    cosine = float((np.einsum("ij,ij->i", embeddings, expected) + both_zero).min())
    return "" if cosine >= lowest else f"cosine {cosine:.4f}"


def _outcomes(
    row: Backend,
    folder: Path,
    cache: Path,
    texts: list[str],
    expected: Mapping[str | None, FloatArray | None],
) -> Iterator[tuple[str | None, str]]:
    """Yield each prompt with the message of a refusal, what is wrong, or nothing for right embeddings."""
    try:
        encoder = load_encoder(row.name, model=str(folder), cache_dir=cache)
    except EmbedoptError as error:
        yield from ((prompt, f"refused: {error}") for prompt in expected)
        return
    with encoder:
        for prompt, embeddings in expected.items():
            try:
                yield prompt, _fault(encoder.encode(texts, prompt=prompt), embeddings, _LOWEST[row.precision])
            except EmbedoptError as error:
                yield prompt, f"refused: {error}"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_backend_answers_as_the_library_or_refuses_in_one_true_line(
    model: Model, tmp_path: Path, cache: Path
) -> None:
    folder = model.write(tmp_path / model.name)
    texts, expected = _expected(model, folder)
    wrong = {
        (row.name, prompt): outcome
        for row in _backends(model)
        for prompt, outcome in _outcomes(row, folder, cache, texts, expected)
        if not re.fullmatch(_pattern(model, row), outcome)
    }
    assert wrong == {}


def _pattern(model: Model, row: Backend) -> str:
    """Return the pattern of a backend's outcome: a line with certain words, or nothing."""
    if row.packages:  # a peer supports fewer architectures, in versions that are not ours to choose
        return "(refused: .+)?"
    words = model.refusal_by(row.name)
    # How far off 8-bit sums that saturate are is promised to nobody; what is too far off has to be refused.
    if not words and row.bounds_need_vnni and not has_vnni(this_hardware().instruction_sets):
        return "(refused: .* differs from sentence-transformers by a cosine of .*)?"
    return f"refused: .*({words}).*" if words else ""


def test_the_zoo_has_models_enough() -> None:
    assert len({model.name for model in MODELS}) == len(MODELS) >= 100
