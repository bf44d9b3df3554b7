"""An encoder is opened by name, or one line says why it can't be."""

import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embedopt.errors import ArtifactError, MissingPackageError, UsageError
from embedopt.inference.backends import get_backend
from embedopt.inference.loading import load_encoder, open_encoder
from tests.fakes import fake_backend


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown backend 'onnx'; known are: torch-fp32"):
        load_encoder("onnx")


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown mode 'fast'; known are: latency, throughput"):
        load_encoder("onnx-int8", mode="fast")  # type: ignore[arg-type]  # what is tested


def test_a_missing_package_is_one_line_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is built before the check."""
    find_spec = importlib.util.find_spec
    specs = {"nncf": None, "openvino": find_spec("json")}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: specs[name] if name in specs else find_spec(name)
    )
    with pytest.raises(MissingPackageError) as caught:
        load_encoder("openvino-int8", cache_dir=tmp_path)
    assert str(caught.value) == (
        "openvino-int8 needs nncf, which is not installed: pip install 'embedopt[peers]'"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["torch-fp32", "onnx-fp32"])
def test_a_damaged_model_is_one_line(tiny_model: Callable[..., Path], tmp_path: Path, name: str) -> None:
    """Only the first bytes of the weights are there, as after a broken copy."""
    folder = shutil.copytree(tiny_model(), tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(ArtifactError) as caught:
        load_encoder(name, model=str(folder))
    assert name in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_of_the_file_system_is_one_of_the_model_not_of_the_output(tmp_path: Path) -> None:
    """As of a name that is too long for a file."""
    with pytest.raises(ArtifactError, match=r"torch-fp32 can't be opened \(.*File name too long.*\); wanted"):
        load_encoder("torch-fp32", model="x" * 300)


@pytest.mark.parametrize("name", ["onnx-int8", "openvino-int8"])
def test_nothing_is_written_under_the_users_home(
    tiny_model: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    """The telemetry of ONNX Runtime, OpenVINO and nncf keeps an id there, but in a CI."""
    if get_backend(name).missing_packages:
        pytest.skip(f"the packages of {name} are not installed")
    (tmp_path / "home").mkdir()
    kept = {key: os.environ[key] for key in ("PATH", "EMBEDOPT_CACHE")}
    code = "import sys, embedopt; embedopt.load_encoder(sys.argv[1], model=sys.argv[2]).encode(['a'])"
    command = [sys.executable, "-c", code, name, str(tiny_model())]
    subprocess.run(command, env=kept | {"HOME": str(tmp_path / "home")}, check=True, capture_output=True)
    assert list((tmp_path / "home").rglob("*")) == []


def test_a_declared_row_that_can_not_be_opened_blames_no_model(tmp_path: Path) -> None:
    row = dataclasses.replace(fake_backend(), opener="no_such_module:open", project=tmp_path)
    with pytest.raises(ArtifactError) as caught:
        open_encoder(row, tmp_path / "model")
    assert str(caught.value) == (
        f"fake can't open {tmp_path}: ModuleNotFoundError: No module named 'no_such_module'; wanted what "
        "opens: check [tool.embedopt.targets.fake] and embedopt's packages"
    )
