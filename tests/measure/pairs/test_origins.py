"""Whether base and head ran the code of their own commits."""

import os
from pathlib import Path

import pytest

from embedopt.measure.pairs.origins import Origins, why_not_own
from tests.repositories import git

WANTED = "wanted each its own: set source, or python and install, in [tool.embedopt] of pyproject.toml"
CODE = "def embed(texts): ..."


def _write(file: Path, text: str = CODE) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf8")
    return file


@pytest.fixture
def sides(tmp_path: Path) -> dict[str, Path]:
    """The folder ``team`` of two commits: a package in src/, a module, and a package without __init__.py."""
    folders = {name: tmp_path / name / "team" for name in ("base", "head")}
    for folder in folders.values():
        _write(folder / "src" / "shop" / "__init__.py", "")
        _write(folder / "src" / "shop" / "text.py")
        _write(folder / "lone.py")
        _write(folder / "src" / "spaced" / "text.py")
        _write(folder / "tools" / "queue.py")
        git(folder.parent, "init", "-q")
        git(folder.parent, "add", ".")
    return folders


def _why(sides: dict[str, Path], base: list[Path], head: list[Path]) -> str | None:
    files = {"base": base, "head": head}
    ran = [Origins(name, sides[name], frozenset(map(os.path.realpath, files[name]))) for name in files]
    return why_not_own(*ran)


def test_each_from_its_own_checkout_beside_shared_packages_can_be_compared(
    sides: dict[str, Path], tmp_path: Path
) -> None:
    shared = [
        _write(tmp_path / "lib" / "python3.12" / "queue.py"),
        _write(tmp_path / "lib" / "python3.12" / "site-packages" / "numpy" / "__init__.py"),
        _write(tmp_path / "lib" / "python3.12" / "site-packages" / "numpy" / "text.py"),
    ]
    own = {name: [folder / "src" / "shop" / "text.py", folder / "lone.py"] for name, folder in sides.items()}
    assert _why(sides, own["base"] + shared, own["head"] + shared) is None


@pytest.mark.parametrize("module", ["shop/text.py", "lone.py", "spaced/text.py", "shop/_fast.so"])
def test_one_installed_copy_for_both_can_t_be_compared(
    sides: dict[str, Path], tmp_path: Path, module: str
) -> None:
    installed = tmp_path / "lib" / "python3.12" / "site-packages"
    if module.startswith("shop"):
        _write(installed / "shop" / "__init__.py", "")
    copy = _write(installed / module)
    assert _why(sides, [copy], [copy]) == f"base and head both ran {copy}; {WANTED}"


def test_a_base_that_runs_the_code_of_the_head_can_t_be_compared(sides: dict[str, Path]) -> None:
    """So it is where the shared environment has an editable install of the head."""
    file = sides["head"] / "src" / "shop" / "text.py"
    assert _why(sides, [file], [file]) == f"base and head both ran {file}; {WANTED}"


@pytest.mark.parametrize("side", ["base", "head"])
def test_a_copy_of_each_side_is_its_own_as_long_as_it_equals_the_commit(
    sides: dict[str, Path], side: str
) -> None:
    copies = {}
    for name, folder in sides.items():
        installed = folder / ".venv" / "lib" / "python3.12" / "site-packages" / "shop"
        _write(installed / "__init__.py", "")
        copies[name] = [_write(installed / "text.py")]
    assert _why(sides, copies["base"], copies["head"]) is None
    _write(sides[side] / "src" / "shop" / "text.py", "def embed(texts): slower()")
    assert _why(sides, copies["base"], copies["head"]) == (
        f"{side} ran {copies[side][0]}, which is not the file of its commit; {WANTED}"
    )


def test_one_environment_for_two_lock_files_can_t_be_compared(sides: dict[str, Path], tmp_path: Path) -> None:
    installed = _write(tmp_path / "lib" / "python3.12" / "site-packages" / "numpy.py")
    own = {name: [folder / "lone.py"] for name, folder in sides.items()}
    assert _why(sides, [*own["base"], installed], [*own["head"], installed]) is None
    _write(sides["head"].parent / "uv.lock", "version = 1")
    _write(sides["head"] / "pyproject.toml", '[project]\ndependencies = ["numpy<2"]')
    assert _why(sides, own["base"], [*own["head"], installed]) is None
    assert _why(sides, [*own["base"], installed], [*own["head"], installed]) == (
        f"base and head both ran {installed}, though dependencies, uv.lock changed; {WANTED}"
    )


def test_one_running_service_for_both_can_t_be_compared(sides: dict[str, Path]) -> None:
    url, other = "http://127.0.0.1:8000/embed", "http://127.0.0.1:8001/embed"
    base, head = (Origins(name, sides[name], frozenset([url])) for name in sides)
    assert why_not_own(base, head) == (
        f"base and head were both answered by {url}; wanted a server of each: give start, too"
    )
    assert why_not_own(base, Origins("head", sides["head"], frozenset([other]))) is None


@pytest.mark.parametrize("is_own", [True, False], ids=["each its .venv", "the .venv of the head"])
def test_a_server_from_the_environment_in_each_checkout_is_its_own(
    sides: dict[str, Path], is_own: bool
) -> None:
    ran = {
        name: Origins(
            name,
            folder,
            frozenset(
                [
                    os.path.realpath(
                        _write((folder if is_own else sides["head"]) / ".venv/lib/site-packages/infinity.py")
                    )
                ]
            ),
            start=".venv/bin/python -m infinity",
        )
        for name, folder in sides.items()
    }
    words = "base and head both ran '.venv/bin/python -m infinity', and no file of their commits; "
    assert why_not_own(ran["base"], ran["head"]) == (None if is_own else words + WANTED)
