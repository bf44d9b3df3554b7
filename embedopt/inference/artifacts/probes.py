"""Probes: texts whose embeddings by sentence-transformers are kept beside an artifact, to check it by.

All are compared after a build; the short ones again each time the artifact is opened, without PyTorch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from embedopt.errors import ArtifactError, EmbedoptError, UnsupportedModelError, WeightsError, first_line
from embedopt.inference.artifacts.layout import MANIFEST
from embedopt.inference.backend import Backend, Mode
from embedopt.inference.backends import BACKENDS
from embedopt.inference.encoder import Encoder, FloatArray
from embedopt.inference.hardware import fitted

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_FILE = "probes.npz"
_SHORT = (
    "forklift driver, nights",
    "",
    "nurse",
    "Wir suchen eine Köchin für unser Café in Zürich, 80 %",
)
# Words of a long text: more than most limits on tokens, which are then seen to cut the right end.
_LONG_WORDS = 600
# Below this, the library's own embedding of a text depends on the texts beside it.
_SAME_TEXT = 0.999


def texts_for(model: "SentenceTransformer") -> tuple[list[str], list[str]]:
    """Return the short and the long texts on which ``model`` is probed."""
    special = " ".join(map(str, getattr(model.tokenizer, "all_special_tokens", ())))
    counted = " ".join(f"{number} ways to bake" for number in range(_LONG_WORDS // 4))
    return [*_SHORT, f"driver {special} and welder"], [counted, f"Nights {'x1 ' * _LONG_WORDS}in Java"]


def write(model: "SentenceTransformer", folder: Path) -> None:
    """Keep the probes of ``model`` in the folder of an artifact.

    Raises:
        UnsupportedModelError: sentence-transformers can't embed texts with the model.
        WeightsError: the model gives NaN.
    """
    short, long = texts_for(model)
    expected = _library_answers(model, [*short, *long])
    alone = _library_answers(model, short[:1])
    counts = {"short": np.array(len(short)), "invariance": _cosines(expected[:1], alone)}
    texts = np.array([*short, *long])
    np.savez_compressed(folder / _FILE, allow_pickle=False, texts=texts, expected=expected, **counts)


def _library_answers(model: "SentenceTransformer", texts: list[str]) -> FloatArray:
    try:
        answers = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    except Exception as error:  # of the library, of any class
        raise UnsupportedModelError(
            f"sentence-transformers can't embed texts with this model: {type(error).__name__}: "
            f"{first_line(error)}; wanted one that embeds texts: mend its files, or correct --model"
        ) from error
    return finite(np.asarray(answers, dtype=np.float32))


def finite(embeddings: FloatArray) -> FloatArray:
    """Return ``(n, dim)`` embeddings as they are.

    Raises:
        WeightsError: one has a component that is not a number.
    """
    if not np.isfinite(embeddings).all():
        raise WeightsError(
            "the model gives NaN or infinity for ordinary texts; wanted numbers: its weights are damaged or "
            "overflow, so fetch the model again or correct --model"
        )
    return embeddings


def check(encoder: Encoder, backend: Backend, folder: Path) -> None:
    """Hold an artifact to the probes in its folder, if any: to all while it is built, then to the short.

    Raises:
        UnsupportedModelError: the backend fails on them or gives other embeddings.
        ArtifactError: the same of an artifact that passed when it was built.
    """
    is_fresh = not (folder / MANIFEST).exists()
    if not (folder / _FILE).exists():
        return
    with np.load(folder / _FILE) as probes:
        count = len(probes["texts"]) if is_fresh else int(probes["short"])
        fault = _fault(encoder, backend, probes["texts"][:count].tolist(), probes["expected"][:count])
        depends_on_batch = bool(probes["invariance"] < _SAME_TEXT)
    if fault and is_fresh:
        reason = " since the library's own embedding depends on the padding of its batch" * depends_on_batch
        raise UnsupportedModelError(f"{fault}{reason}: leave {backend.name} out for this model")
    if fault:
        raise ArtifactError(f"{fault}, unlike when it was built: {_remedy(backend)}")


def _remedy(backend: Backend) -> str:
    """Return what to do about an artifact that passed: its store has checked that its files are the same."""
    row = fitted(BACKENDS.get(backend.name, backend))
    if any(backend.in_mode(mode).settings != row.in_mode(mode).settings for mode in get_args(Mode)):
        saved = f"embedopt tune --backend {backend.name} --reset deletes those that were saved"
        return f"its settings are not the row's; {saved}"
    return (
        "its files and its libraries' versions are those that passed, so the code that encodes, the "
        f"environment or the CPU is another: undo that change, or leave {backend.name} out"
    )


def _fault(encoder: Encoder, backend: Backend, texts: list[str], expected: FloatArray) -> str | None:
    """Return in words how an encoder's embeddings differ from those expected; None if they agree."""
    try:
        embeddings = encoder.encode_as_one_batch(texts)
    except EmbedoptError:
        raise
    except Exception as error:  # of a runtime, of any class
        return f"{backend.name} can't embed texts: {type(error).__name__}: {first_line(error)}"
    if embeddings.shape != expected.shape:
        return f"{backend.name} gives {embeddings.shape[1]} components; wanted {expected.shape[1]}"
    cosines = _cosines(embeddings, expected)
    if (cosines >= backend.probe_cosine).all():  # false for NaN
        return None
    worst = int(np.nanargmin(np.nan_to_num(cosines, nan=-2.0)))
    return (
        f"{backend.name} differs from sentence-transformers by a cosine of {cosines[worst]:.5f} on "
        f"{texts[worst][:24]!r}; wanted {backend.probe_cosine} or more"
    )


def _cosines(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the ``(n,)`` cosines of unit rows; 1 where both rows are all zeros."""
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    result: FloatArray = np.einsum("ij,ij->i", a, b) + both_zero
    return result
