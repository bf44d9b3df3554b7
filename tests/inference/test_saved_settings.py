"""Saved settings are used under the conditions for which they were saved, and nowhere else."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedopt.errors import ArtifactError, OutputError
from embedopt.inference import saved_settings
from embedopt.inference.artifacts.store import ArtifactStore
from embedopt.inference.artifacts.weights import Weights, resolve_weights
from embedopt.inference.backend import Mode
from embedopt.inference.backends import BACKENDS
from embedopt.inference.hardware import Hardware
from embedopt.inference.loading import load_encoder, open_encoder
from embedopt.inference.saved_settings import forget, save, tuned

_HERE = Hardware(cpu="Test CPU", instruction_sets=("avx2",), cores=2, threads=2)
_ROW = BACKENDS["onnx-fp32"]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_settings, "this_hardware", lambda: _HERE)


@pytest.fixture
def weights(tiny_model: Callable[..., Path]) -> Weights:
    return resolve_weights(str(tiny_model()))


def test_saved_settings_are_used(weights: Weights) -> None:
    """Only the saved settings change, in their mode and for their backend only."""
    file = save(_ROW, "throughput", weights, {"batch_tokens": 1024, "disabled_optimizers": ""})
    assert file is not None
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert tuned(_ROW, "throughput", weights) == dataclasses.replace(_ROW, batch_tokens=1024)
    assert tuned(_ROW, "latency", weights) is _ROW
    assert tuned(BACKENDS["onnx-int8"], "throughput", weights) is BACKENDS["onnx-int8"]
    save(_ROW, "throughput", weights, {"disabled_optimizers": "SkipLayerNormFusion"})
    row = tuned(_ROW, "throughput", weights)
    assert row.settings == {**_ROW.settings, "disabled_optimizers": "SkipLayerNormFusion"}


@pytest.mark.parametrize(
    "elsewhere",
    [{"cpu": "Other CPU"}, {"instruction_sets": ("avx2", "vnni")}, {"cores": 4}, {"threads": 1}],
)
def test_settings_saved_on_other_hardware_are_not_used(
    weights: Weights, monkeypatch: pytest.MonkeyPatch, elsewhere: dict[str, object]
) -> None:
    save(_ROW, "throughput", weights, {"batch_tokens": 1024})
    other = dataclasses.replace(_HERE, **elsewhere)  # type: ignore[arg-type]  # one field each
    monkeypatch.setattr(saved_settings, "this_hardware", lambda: other)
    assert tuned(_ROW, "throughput", weights) is _ROW


def test_settings_saved_for_another_model_library_or_default_are_not_used(
    weights: Weights, tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    save(_ROW, "throughput", weights, {"batch_tokens": 1024})
    other_model = resolve_weights(str(tiny_model("cls")))
    other_row = dataclasses.replace(_ROW, batch_tokens=256)
    assert tuned(_ROW, "throughput", other_model) is _ROW
    assert tuned(other_row, "throughput", weights) is other_row
    monkeypatch.setattr(saved_settings, "library_versions", lambda packages: {"onnxruntime": "2.0"})
    assert tuned(_ROW, "throughput", weights) is _ROW


def test_without_a_file_the_hardware_is_not_looked_at(
    weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That takes 0.2 s, which each opening of an encoder would pay."""

    def refuse() -> Hardware:
        raise AssertionError

    save(_ROW, "throughput", weights, {"batch_tokens": 1024})
    monkeypatch.setattr(saved_settings, "this_hardware", refuse)
    assert tuned(_ROW, "latency", weights) is _ROW
    assert tuned(BACKENDS["onnx-int8"], "throughput", weights) is BACKENDS["onnx-int8"]


def test_saving_no_settings_deletes_the_saved_ones(weights: Weights) -> None:
    file = save(_ROW, "throughput", weights, {"batch_tokens": 1024})
    assert file is not None
    assert save(_ROW, "throughput", weights, {}) is None
    assert not file.exists()
    assert tuned(_ROW, "throughput", weights) is _ROW


def test_forget_deletes_the_settings_of_one_backend_and_mode(weights: Weights) -> None:
    block = BACKENDS["onnx-int8-block"]
    int8 = BACKENDS["onnx-int8"]
    file = save(int8, "throughput", weights, {"batch_tokens": 1024})
    save(block, "throughput", weights, {"batch_tokens": 1024})
    save(int8, "latency", weights, {"session.dynamic_block_base": "0"})
    assert forget(int8, "throughput") == (file,)
    assert forget(int8, "throughput") == ()
    assert tuned(int8, "throughput", weights) is int8
    assert tuned(block, "throughput", weights).batch_tokens == 1024
    assert tuned(int8, "latency", weights).settings["session.dynamic_block_base"] == "0"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('{"schema": 1, "sett', "is damaged"),
        ("[]", "is damaged"),
        ('{"schema": 1}', "is damaged"),
        ('{"schema": 1, "settings": 5}', "is damaged"),
        ("\udcff", "is damaged"),
        ('{"schema": 2, "settings": {}}', "has schema 2, wanted 1"),
        ('{"schema": 1, "settings": {"x": 1}}', "has x = 1, which tune does not try"),
        (
            '{"schema": 1, "settings": {"batch_tokens": -1}}',
            "has batch_tokens = -1, which tune does not try",
        ),
    ],
)
def test_a_damaged_file_is_one_line(weights: Weights, content: str, fault: str) -> None:
    file = save(_ROW, "throughput", weights, {"batch_tokens": 1024})
    assert file is not None
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ArtifactError) as caught:
        load_encoder("onnx-fp32", mode="throughput", model=str(weights.path))
    assert str(caught.value) == (
        f"{file} {fault}; wanted settings that embedopt tune saved: "
        "delete them with embedopt tune --backend onnx-fp32 --reset"
    )


def test_a_cache_that_cant_be_written_is_one_line(weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "tuned").write_text("in the way", encoding="utf8")
    with pytest.raises(OutputError, match=r"can't be written \(.*\): give another cache with --cache-dir"):
        save(_ROW, "throughput", weights, {"batch_tokens": 1024}, tmp_path)


def test_load_encoder_uses_saved_settings(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With at most 256 padded tokens in a batch, texts that fit one batch of 512 make two."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    texts = ["welder"] * 128  # 3 tokens each
    row = dataclasses.replace(_ROW, batch_tokens=256)
    save(_ROW, "throughput", weights, {"batch_tokens": 256}, tmp_path)
    plans = []
    for mode in ("latency", "throughput"):
        with load_encoder("onnx-fp32", mode=mode, model=str(weights.path), cache_dir=tmp_path) as encoder:
            plans.append([len(batch) for batch in encoder.plan(texts).batches])
    assert plans == [[128], [85, 43]]
    assert tuned(_ROW, "throughput", weights, tmp_path) == row


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_no_setting_alters_an_embedding(weights: Weights, mode: Mode) -> None:
    """In full precision, every value that tune tries differs by float rounding only."""
    texts = ["welder, night shift", "nurse in zurich", "a", "baker with python and java at day"] * 40
    folder = ArtifactStore().get(_ROW, weights)
    with open_encoder(_ROW, folder, mode) as encoder:
        expected = encoder.encode(texts)
    for setting, values in _ROW.tunable[mode].items():
        for value in values:
            with open_encoder(_ROW.with_settings({setting: value}), folder, mode) as encoder:
                np.testing.assert_allclose(encoder.encode(texts), expected, atol=1e-5, err_msg=setting)


def test_settings_of_a_mode_in_which_tune_tries_nothing_are_refused(weights: Weights) -> None:
    save(BACKENDS["torch-bf16"], "latency", weights, {"batch_tokens": 1024})
    with pytest.raises(ArtifactError, match="has batch_tokens = 1024, which tune does not try"):
        tuned(BACKENDS["torch-bf16"], "latency", weights)
