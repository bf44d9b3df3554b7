"""Everything that opening a model reads is in its digest, and its own code runs only where it is trusted."""

import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from embedopt.cli.app import main
from embedopt.errors import WeightsError
from embedopt.inference.artifacts.model_code import own_prompts
from embedopt.inference.artifacts.weights import Weights, resolve_weights
from embedopt.inference.loading import load_encoder
from tests.models import make_own_code_model

_TEXTS = ["nurse, night shift", "java and python"]
_NEEDS_TRUST = (
    "needs Python code that comes with the model{}; wanted your trust in that code: read it, then add "
    "--trust-remote-code (in Python, trust_remote_code=True)"
)


@pytest.fixture
def own_code_model(tiny_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    return make_own_code_model(tiny_model(), tmp_path / "model")


def _folder(path: Path, **contents: object) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (path / name.replace("__", ".")).write_text(json.dumps(content), encoding="utf8")
    return path


@pytest.mark.parametrize("backend", ["torch-fp32", "torch-bf16", "onnx-fp32"])
def test_code_of_a_model_runs_where_it_is_trusted(own_code_model: Path, backend: str) -> None:
    """The embeddings are the library's own; changed code has an artifact of its own."""
    for scale in (1, -3):
        code = (own_code_model / "own_code.py").read_text(encoding="utf8").replace("-1, 1", f"-1, {scale}")
        (own_code_model / "own_code.py").write_text(code, encoding="utf8")
        library = SentenceTransformer(str(own_code_model), device="cpu", trust_remote_code=True)
        expected = library.encode(_TEXTS, normalize_embeddings=True)
        with load_encoder(backend, model=str(own_code_model), trust_remote_code=True) as encoder:
            np.testing.assert_allclose(
                encoder.encode(_TEXTS), expected, atol=0.02 if backend == "torch-bf16" else 1e-5
            )


def test_code_of_a_model_does_not_run_unasked(own_code_model: Path) -> None:
    """A module's class is seen in modules.json, before anything is opened; a Transformer's by the library."""
    (own_code_model / "own_code.py").write_text("raise SystemExit('it ran')", encoding="utf8")
    with pytest.raises(WeightsError) as caught:
        load_encoder("torch-fp32", model=str(own_code_model))
    assert str(caught.value) == f"{own_code_model} {_NEEDS_TRUST.format(': own_code.OwnPooling')}"
    modules = json.loads((own_code_model / "modules.json").read_text(encoding="utf8"))
    modules[1]["type"] = "sentence_transformers.models.Pooling"
    _folder(own_code_model, modules__json=modules)
    for backend in ("torch-fp32", "onnx-fp32"):
        with pytest.raises(WeightsError) as caught:
            load_encoder(backend, model=str(own_code_model))
        assert str(caught.value) == f"{own_code_model} {_NEEDS_TRUST.format('')}"


def test_code_inside_a_router_is_seen(tmp_path: Path) -> None:
    model = _folder(
        tmp_path, modules__json=[{"type": "sentence_transformers.models.Router", "path": "0_Router"}]
    )
    _folder(model, config__json={}, tokenizer__json={}, model__safetensors=[])
    _folder(model / "0_Router", router_config__json={"types": {"query_0": "own_code.Query"}})
    with pytest.raises(WeightsError, match=r"comes with the model: own_code.Query; wanted"):
        resolve_weights(str(model))


@pytest.mark.parametrize("content", [[{}], ["Transformer"], {"type": "Transformer"}])
def test_modules_without_their_type_are_refused(tmp_path: Path, content: object) -> None:
    model = _folder(tmp_path / "model", modules__json=content)
    with pytest.raises(WeightsError) as caught:
        resolve_weights(str(model))
    assert str(caught.value) == (
        f"{model / 'modules.json'} lists no modules by type; wanted type and path: fetch the model again"
    )


def test_the_digest_covers_code_links_and_the_folders_of_modules(tmp_path: Path) -> None:
    """Also a module's folder that is called like another runtime's, or that lies elsewhere."""
    model = _folder(tmp_path / "model", config__json={})
    modules = [{"type": "own", "path": path} for path in ("", "onnx", "../beside", "linked")]
    _folder(model, modules__json=modules)
    changed = [
        _folder(model, own_code__py=1) / "own_code.py",
        _folder(model / "package", helper__py=1) / "helper.py",
        _folder(model / "onnx", config__json=1) / "config.json",
        _folder(tmp_path / "beside", config__json=1) / "config.json",
        _folder(tmp_path / "target", config__json=1) / "config.json",
        _folder(model, chat_template__jinja=1) / "chat_template.jinja",
    ]
    (model / "linked").symlink_to(tmp_path / "target")
    (model / "around").symlink_to(model)
    digests = [Weights("m", model).digest]
    for file in changed:
        file.write_text("2", encoding="utf8")
        digests.append(Weights("m", model).digest)
    assert len(set(digests)) == 7


def test_the_digest_of_trusted_code_covers_every_file_and_code_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files may have any name; it may lie in another hub repository, or be an installed package."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(tmp_path / name))
    references = {"AutoModel": "owner/code--modeling.Own", "AutoTokenizer": ["tokens.Own", None]}
    model = _folder(tmp_path / "model", config__json={"auto_map": references})
    _folder(model, modules__json=[{"type": "own_package.inner.Pooling", "path": "1_Pooling"}])
    changed = [
        _folder(model, scales__npy=1) / "scales.npy",
        _folder(tmp_path / "owner" / "code", modeling__py=1) / "modeling.py",
        _folder(tmp_path / "own_package", __init____py=1, inner__py=1) / "inner.py",
    ]
    untrusted = Weights("m", model).digest
    digests = [Weights("m", model, trust_remote_code=True).digest]
    for file in changed:
        file.write_text("2", encoding="utf8")
        digests.append(Weights("m", model, trust_remote_code=True).digest)
    assert len(set(digests)) == 4
    assert Weights("m", model).digest == untrusted


def test_settings_that_are_not_json_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("{", encoding="utf8")
    with pytest.raises(
        WeightsError, match=r"modules.json can't be read \(.*\); wanted JSON: fetch the model"
    ):
        _ = Weights("m", tmp_path).files


def test_a_prompt_of_null_is_none(tmp_path: Path) -> None:
    config = {"prompts": {"query": None, "passage": "passage: "}, "default_prompt_name": "query"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(config), encoding="utf8")
    assert own_prompts(tmp_path) == ({"query": "", "passage": "passage: "}, "")


def test_a_revision_is_asked_of_the_hub_and_refused_for_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _folder(tmp_path / "model", config__json={}, tokenizer__json={}, model__safetensors=[])
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, revision, **_: {"v2": str(model)}[revision]
    )
    assert resolve_weights("owner/name", "v2") == Weights("owner/name@v2", model)
    for folder, named in ((str(model), str(model)), (None, "all-MiniLM-L6-v2")):
        with pytest.raises(WeightsError) as caught:
            resolve_weights(folder, "v2")
        assert str(caught.value) == (
            f"--revision v2 was given for {named}, a folder; wanted a hub name: leave --revision out"
        )


def test_the_option_of_the_command_line_is_needed(
    own_code_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["build", "--backends", "torch-fp32", "--model", str(own_code_model)]
    assert main(argv) == 2
    assert "read it, then add --trust-remote-code" in " ".join(capsys.readouterr().err.split())
    assert main([*argv, "--trust-remote-code"]) == 0
    assert main(["build", "--revision", "v2"]) == 2
