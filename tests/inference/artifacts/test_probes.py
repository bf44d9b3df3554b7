"""A backend is held to the library's embeddings after its build and each time it is opened."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedopt.errors import ArtifactError, UnsupportedModelError, WeightsError
from embedopt.inference.artifacts import probes
from embedopt.inference.backends import BACKENDS
from embedopt.inference.hardware import fitted
from tests.fakes import FakeEncoder, fake_backend, fake_embedding

_TEXTS = ["nurse", "", "a long one"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artifact of which the third probe is a long one."""
    _keep(tmp_path, np.stack([fake_embedding(text) for text in _TEXTS]))
    return tmp_path


def _keep(folder: Path, expected: "np.typing.NDArray[np.float32]", invariance: float = 1.0) -> None:
    np.savez(folder / "probes.npz", texts=_TEXTS, expected=expected, short=2, invariance=[invariance])


def _finish(folder: Path) -> None:
    """Leave what the end of a build leaves."""
    (folder / "manifest.json").write_text("{}", encoding="utf8")


@pytest.mark.parametrize(("is_fresh", "texts"), [(True, _TEXTS), (False, _TEXTS[:2])])
def test_a_fresh_artifact_is_held_to_all_probes_and_an_opened_one_to_the_short(
    folder: Path, is_fresh: bool, texts: list[str]
) -> None:
    """They are one batch, so that padding matters."""
    if not is_fresh:
        _finish(folder)
    encoder = FakeEncoder()
    probes.check(encoder, fake_backend(), folder)
    assert encoder.calls == [texts]


@pytest.mark.parametrize("number", [-1.0, float("nan")])
def test_another_embedding_or_nan_is_refused(folder: Path, number: float) -> None:
    """A fresh artifact can't express the model; one that passed when it was fresh has changed."""
    _keep(folder, number * np.stack([fake_embedding(text) for text in _TEXTS]))
    with pytest.raises(
        UnsupportedModelError, match=r"by a cosine of (-1.0000|nan)\d* on 'nurse'; wanted 0.9"
    ):
        probes.check(FakeEncoder(), fake_backend(), folder)
    _finish(folder)
    with pytest.raises(ArtifactError, match="unlike when it was built: its files and") as caught:
        probes.check(FakeEncoder(), fake_backend(), folder)
    assert not isinstance(caught.value, UnsupportedModelError)


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        (
            {},
            "its files and its libraries' versions are those that passed, so the code that encodes, the "
            "environment or the CPU is another: undo that change, or leave onnx-int8 out",
        ),
        (
            {"batch_tokens": 64},
            "its settings are not the row's; "
            "embedopt tune --backend onnx-int8 --reset deletes those that were saved",
        ),
    ],
)
def test_a_refusal_of_what_passed_says_what_can_have_changed(
    folder: Path, changes: dict[str, int], remedy: str
) -> None:
    """Not the files: the store has checked them, so that to build them again is no help."""
    _keep(folder, -np.stack([fake_embedding(text) for text in _TEXTS]))
    _finish(folder)
    with pytest.raises(ArtifactError) as caught:
        probes.check(FakeEncoder(), fitted(BACKENDS["onnx-int8"]).with_settings(changes), folder)
    assert str(caught.value).partition("when it was built: ")[2] == remedy


def test_the_bound_is_the_rows(folder: Path) -> None:
    _keep(folder, -np.stack([fake_embedding(text) for text in _TEXTS]))
    encoder = FakeEncoder()
    probes.check(encoder, replace(fake_backend(), probe_cosine=-1.1), folder)
    assert encoder.calls == [_TEXTS]


def test_a_model_that_depends_on_padding_is_named(folder: Path) -> None:
    _keep(folder, -np.stack([fake_embedding(text) for text in _TEXTS]), invariance=0.5)
    with pytest.raises(
        UnsupportedModelError, match="since the library's own embedding depends on the padding"
    ):
        probes.check(FakeEncoder(), fake_backend(), folder)


def test_an_error_of_the_runtime_is_one_line(folder: Path) -> None:
    def fail(_: int) -> None:
        raise RuntimeError("bad shape\nand more")

    with pytest.raises(UnsupportedModelError) as caught:
        probes.check(FakeEncoder(on_encode=fail), fake_backend(), folder)
    assert str(caught.value) == (
        "fake can't embed texts: RuntimeError: bad shape: leave fake out for this model"
    )


def test_an_artifact_without_probes_is_not_encoded_with(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    probes.check(encoder, fake_backend(), tmp_path)
    assert encoder.calls == []


def test_nan_of_the_library_is_refused() -> None:
    with pytest.raises(WeightsError, match="the model gives NaN or infinity"):
        probes.finite(np.array([[1.0, np.nan]], dtype=np.float32))
