"""The environment of a project that holds no embedopt."""

from pathlib import Path

import pytest

from embedopt.errors import MeasureError
from embedopt.measure.pairs.environment import changed, install, lock_files, of_embedopt
from embedopt.measure.pairs.project import why_not_comparable


def test_the_command_of_the_user_runs_in_the_project_without_the_environment_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "/of/pytest")
    steps: list[str] = []
    install(tmp_path, None, steps.append)
    install(tmp_path, 'pwd > place && echo "${VIRTUAL_ENV-none}" >> place', steps.append)
    assert (tmp_path / "place").read_text(encoding="utf8") == f"{tmp_path}\nnone\n"
    assert steps == ['installing the base: pwd > place && echo "${VIRTUAL_ENV-none}" >> place']


def test_a_command_that_fails_shows_all_that_it_printed(tmp_path: Path) -> None:
    steps: list[str] = []
    with pytest.raises(MeasureError) as error:
        install(tmp_path, "echo resolving; echo no such package >&2; exit 3", steps.append)
    assert str(error.value) == (
        "'echo resolving; echo no such package >&2; exit 3' ended with 3 in a checkout of the base "
        "(no such package); wanted its environment: correct install in [tool.embedopt] of pyproject.toml"
    )
    assert steps[1:] == ["resolving\nno such package"]


def _write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for name, content in files.items():
        (folder / name.replace("_", ".", 1)).write_text(content, encoding="utf8")
    return folder


def test_lock_files_are_those_of_the_folder_and_of_its_worktree(tmp_path: Path) -> None:
    _write(tmp_path, uv_lock="")
    top = _write(tmp_path / "top", uv_lock="", requirements_txt="")
    (top / ".git").touch()
    shop = _write(top / "shop", poetry_lock="")
    names = [str(file.relative_to(tmp_path)) for file in lock_files(shop)]
    assert names == ["top/shop/poetry.lock", "top/uv.lock", "top/requirements.txt"]


def test_a_lock_file_that_changed_is_named_though_one_above_it_has_the_same_name(tmp_path: Path) -> None:
    shops = []
    for side in ("base", "head"):
        top = _write(tmp_path / side, requirements_txt="flask==1")
        (top / ".git").touch()
        shops.append(_write(top / "shop", requirements_txt=side))
    assert changed(*shops) == ["requirements.txt"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("uv_lock", '[[package]]\nname = "onnxruntime"\nversion = "{}"'),
        ("pylock_toml", '[[packages]]\nname = "onnxruntime"\nversion = "{}"'),
        ("requirements_txt", "flask==1\nOnnxRuntime[x] == {} ; python_version > '3' \\\n  --hash=sha256:1"),
    ],
)
def test_a_locked_version_of_a_package_of_embedopt_counts_and_no_other(
    tmp_path: Path, name: str, line: str
) -> None:
    head = _write(tmp_path / "head", **{name: line.format("1.23") + "\n"}, git="")
    base = _write(tmp_path / "base", **{name: line.format("1.22").replace("s==1", "s==2")}, git="")
    (head / "git").rename(head / ".git")
    (base / "git").rename(base / ".git")
    assert of_embedopt(head, {"shop": "1"}) == {"onnxruntime": "1.23"}
    assert why_not_comparable(head, base, own_python=True, installed=True) is None
    assert why_not_comparable(head, base, own_python=False, installed=True) == (
        "the base has other dependencies, onnxruntime 1.22 (here 1.23): "
        "name the interpreter of its own environment with --against-python; with --head, that of the head "
        "with --head-python, too"
    )


def test_a_lock_file_that_cant_be_read_is_named(tmp_path: Path) -> None:
    _write(tmp_path, uv_lock="<<<<<<< HEAD")
    with pytest.raises(
        MeasureError, match=r"uv\.lock can't be read \(.*\); wanted TOML: mend it, or make it anew"
    ):
        of_embedopt(tmp_path, {})
