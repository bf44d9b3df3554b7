"""Artifacts are whole or missing, and built once."""

import errno
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from embedopt.errors import ArtifactError
from embedopt.inference.artifacts import store as store_module
from embedopt.inference.artifacts.store import ArtifactStore, disk_bytes, quiet
from embedopt.inference.artifacts.weights import Weights
from embedopt.inference.backend import Backend
from tests.fakes import fake_backend

_CHILD = """
import sys
from pathlib import Path
from embedopt.inference.artifacts.store import ArtifactStore
from embedopt.inference.artifacts.weights import Weights
from tests.fakes import fake_backend
cache, model, build, log = sys.argv[1:]
step = lambda text: print(text, flush=True)
folder = ArtifactStore(Path(cache), step).get(fake_backend(build, log=log), Weights("m", Path(model)))
print(folder, flush=True)
"""


@pytest.fixture
def weights(tmp_path: Path) -> Weights:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    return Weights("tiny", folder)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def backend(log: Path) -> Backend:
    return fake_backend(log=str(log))


def _builds(log: Path) -> int:
    return len(log.read_text(encoding="utf8").splitlines())


def _child(cache: Path, weights: Weights, build: str, log: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(cache), str(weights.path), build, str(log)],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_an_artifact_is_built_once(tmp_path: Path, backend: Backend, weights: Weights, log: Path) -> None:
    """Two stores on one cache share one build, and the steps of the build are reported."""
    steps: list[str] = []
    first = ArtifactStore(tmp_path, steps.append).get(backend, weights)
    second = ArtifactStore(tmp_path).get(backend, weights)
    assert first == second
    assert _builds(log) == 1
    assert steps[0] == "building fake: for tests"
    assert steps[1].startswith("built fake in ")
    assert disk_bytes(first) == len(b"model") + len("words")


def test_without_a_build_function_the_weights_are_opened(tmp_path: Path, weights: Weights) -> None:
    row = Backend(name="plain", summary="", precision="fp32", opener="tests.fakes:FakeEncoder")
    assert ArtifactStore(tmp_path).get(row, weights) == weights.path
    assert list(tmp_path.glob("artifacts/*")) == []


@pytest.mark.parametrize("change", ["weights", "options", "libraries"])
def test_another_model_recipe_or_library_version_has_an_artifact_of_its_own(
    tmp_path: Path,
    backend: Backend,
    weights: Weights,
    log: Path,
    change: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = ArtifactStore(tmp_path).get(backend, weights)
    if change == "weights":
        (weights.path / "model.safetensors").write_bytes(b"others")
        weights = Weights("tiny", weights.path)
    elif change == "options":
        backend = fake_backend(log=str(log), more="1")
    else:
        monkeypatch.setattr(store_module, "library_versions", lambda packages: {"onnxruntime": "0.0"})
    assert ArtifactStore(tmp_path).get(backend, weights) != before
    assert _builds(log) == 2


@pytest.mark.parametrize(
    ("name", "content", "damage"),
    [
        ("model.onnx", b"mod", "model.onnx has changed"),
        ("model.onnx", None, "model.onnx is missing"),
        ("manifest.json", b"{", "its manifest can't be read"),
        ("manifest.json", b'{"key": 1, "files": {}}', "its manifest is another artifact's"),
        ("manifest.json", b"[]", "its manifest can't be read"),
        ("manifest.json", None, "manifest.json is missing"),
    ],
)
def test_a_damaged_artifact_is_built_again(
    tmp_path: Path,
    backend: Backend,
    weights: Weights,
    log: Path,
    name: str,
    content: bytes | None,
    damage: str,
) -> None:
    """A file is truncated, missing or another's: a warning names it."""
    folder = ArtifactStore(tmp_path).get(backend, weights)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    steps: list[str] = []
    with pytest.warns(UserWarning, match=damage):
        assert ArtifactStore(tmp_path, steps.append).get(backend, weights) == folder
    assert steps[0] == f"{folder} is damaged ({damage}): building it again"
    assert (folder / "model.onnx").read_bytes() == b"model"
    assert _builds(log) == 2


def test_a_failed_build_leaves_nothing_and_says_why_in_one_line(tmp_path: Path, weights: Weights) -> None:
    with pytest.raises(ArtifactError) as caught:
        ArtifactStore(tmp_path).get(fake_backend("build_fails"), weights)
    assert "building fake from" in str(caught.value)
    assert "KeyError" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.suffix for path in (tmp_path / "artifacts").iterdir()] == [".lock"]


@pytest.mark.parametrize("build", ["build_on_full_disk", "build_on_full_disk_in_cpp"])
def test_a_full_disk_is_one_line(tmp_path: Path, weights: Weights, build: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        ArtifactStore(tmp_path).get(fake_backend(build), weights)
    assert str(caught.value) == (
        f"the cache {tmp_path / 'artifacts'} can't be written (no space left on device); wanted a folder "
        "with about 500 MB free: give another one with --cache-dir or EMBEDOPT_CACHE"
    )
    assert [path.suffix for path in (tmp_path / "artifacts").iterdir()] == [".lock"]


def test_a_read_only_cache_is_read_but_not_written(
    tmp_path: Path, backend: Backend, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An artifact in it can be opened; a missing one is one line."""
    folder = ArtifactStore(tmp_path / "full").get(backend, weights)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert ArtifactStore(tmp_path / "full").get(backend, weights) == folder
    with pytest.raises(ArtifactError, match=r"can't be written \(read-only file system\)"):
        ArtifactStore(tmp_path / "empty").get(backend, weights)


def test_a_cache_inside_a_file_is_one_line(tmp_path: Path, backend: Backend, weights: Weights) -> None:
    (tmp_path / "file").write_text("", encoding="utf8")
    with pytest.raises(ArtifactError, match=r"can't be written \(not a directory\)"):
        ArtifactStore(tmp_path / "file").get(backend, weights)


def test_a_build_that_was_killed_is_cleared_away(tmp_path: Path, weights: Weights, log: Path) -> None:
    """What the killed process left is not used, and its lock does not block the next build."""
    process = _child(tmp_path, weights, "build_half_then_wait", log)
    with process:
        assert _line(process).startswith("building fake")
        assert _line(process) == "half-written"
        process.kill()
    [left] = (tmp_path / "artifacts").glob("*.tmp")
    name = left.name.split(".")[0]
    assert not (tmp_path / "artifacts" / name).exists()

    with pytest.MonkeyPatch.context() as patch:
        # The same key, with a build function that finishes.
        patch.setattr("tests.fakes.build_half_then_wait", lambda source, target, **_: (target / "ok").touch())
        folder = ArtifactStore(tmp_path).get(fake_backend("build_half_then_wait", log=str(log)), weights)
    assert folder.name == name
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "ok"]
    assert list((tmp_path / "artifacts").glob("*.tmp")) == []


def test_two_processes_at_once_build_once(tmp_path: Path, weights: Weights, log: Path) -> None:
    """The second process waits, says so, and uses the artifact of the first."""
    first = _child(tmp_path, weights, "build_slowly", log)
    second = None
    try:
        assert _line(first).startswith("building fake")
        assert _line(first) == "building"
        second = _child(tmp_path, weights, "build_slowly", log)
        assert _line(second) == "waiting for another process that builds fake"
        assert first.stdin is not None
        first.stdin.write("\n")
        first.stdin.flush()
        assert _line(first).startswith("built fake in ")
        assert _line(first) == _line(second) != ""
        assert first.wait() == second.wait() == 0
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.communicate()
    assert _builds(log) == 1


def test_the_manifest_lists_the_files_and_all_that_the_artifact_depends_on(
    tmp_path: Path, backend: Backend, weights: Weights
) -> None:
    folder = ArtifactStore(tmp_path).get(backend, weights)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf8"))
    assert set(manifest["files"]) == {"model.onnx", "part/words.txt"}
    assert manifest["key"]["backend"] == "fake"
    assert manifest["key"]["built_from"] == weights.digest
    assert set(manifest["key"]["libraries"]) >= {"torch", "onnxruntime", "optimum-onnx"}


def test_the_environment_names_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDOPT_CACHE", str(tmp_path / "here"))
    assert ArtifactStore().root == tmp_path / "here" / "artifacts"
    monkeypatch.delenv("EMBEDOPT_CACHE")
    assert ArtifactStore().root.parent.name == "embedopt"


def test_building_leaves_the_users_logging_alone() -> None:
    """The libraries that quantise call logging.basicConfig when they are imported."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.root.manager.disable
    with quiet():
        root.addHandler(logging.NullHandler())
        root.setLevel(logging.DEBUG)
        assert not logging.getLogger("any").isEnabledFor(logging.WARNING)
    assert (root.handlers[:], root.level, logging.root.manager.disable) == before
