"""What the pyproject.toml of a checkout declares."""

from pathlib import Path

import pytest

from embedopt.errors import GitError, MeasureError
from embedopt.measure.pairs import project
from embedopt.measure.pairs.project import (
    has_suite,
    moved_judges,
    moved_rules,
    newly_accepted,
    pins,
    why_not_comparable,
)
from tests.repositories import git


def _project(folder: Path, *requirements: str) -> Path:
    (folder / "embedopt" / "measure").mkdir(parents=True)
    (folder / "embedopt" / "measure" / "worker.py").touch()
    listed = ", ".join(f'"{requirement}"' for requirement in requirements)
    (folder / "pyproject.toml").write_text(f"[project]\ndependencies = [{listed}]\n", encoding="utf8")
    return folder


def test_a_base_with_other_pins_needs_its_own_environment(tmp_path: Path) -> None:
    head = _project(tmp_path / "head", "torch==2.13.0", "numpy==2.4.6", "rich>=14")
    base = _project(tmp_path / "base", "torch==2.12.0", "onnx==1.0", "numpy==2.4.6", "rich>=13")
    with (head / "pyproject.toml").open("a", encoding="utf8") as project:
        project.write('[project.optional-dependencies]\npeers = ["openvino==2026.4.1"]\n')
    assert pins(head) == {"torch": "2.13.0", "numpy": "2.4.6", "openvino": "2026.4.1"}
    assert why_not_comparable(head, head, own_python=False) is None
    assert why_not_comparable(head, base, own_python=True) is None
    assert why_not_comparable(head, base, own_python=False) == (
        "the base has other dependencies, onnx 1.0 (here unpinned), openvino unpinned (here 2026.4.1), "
        "torch 2.12.0 (here 2.13.0): "
        "name the interpreter of its own environment with --against-python; with --head, that of the head "
        "with --head-python, too"
    )


def test_a_base_without_the_worker_cant_be_compared(tmp_path: Path) -> None:
    head = _project(tmp_path / "head")
    (tmp_path / "embedopt").mkdir()
    assert has_suite(tmp_path)
    assert why_not_comparable(head, tmp_path, own_python=True) == (
        "the base has no embedopt/measure/worker.py: choose a newer commit"
    )


def test_pins_are_read_with_extras_and_markers(tmp_path: Path) -> None:
    project = _project(tmp_path, "Torch[x]==2.13.0 ; python_version > '3'", "numpy>=2,==2.4.6", "a==1.*")
    assert pins(project) == {"torch": "2.13.0", "numpy": "2.4.6", "a": "1.*"}


def test_pins_are_read_from_the_constraints_of_ci_too(tmp_path: Path) -> None:
    """A base from before they moved there pins in its pyproject.toml."""
    head = _project(tmp_path / "head", "numpy>=1.26")
    base = _project(tmp_path / "base", "numpy==2.4.6")
    (head / ".ci").mkdir()
    constraints = head / ".ci" / "constraints.txt"
    constraints.write_text("# pins\n\nnumpy==2.4.6  # of 2026\n", encoding="utf8")
    assert why_not_comparable(head, base, own_python=False) is None
    constraints.write_text("numpy 2\n", encoding="utf8")
    with pytest.raises(MeasureError, match=r"constraints\.txt has a dependency that can't be read: "):
        pins(head)


def test_a_dependency_that_cant_be_read_is_named(tmp_path: Path) -> None:
    project = _project(tmp_path, "numpy 2")
    with pytest.raises(MeasureError, match=r"has a dependency that can't be read: .*; wanted it as PEP 508"):
        pins(project)


def test_what_the_base_accepted_already_is_void() -> None:
    base, head = {"accept": ["drift a"]}, {"accept": ["drift a", "removed b"]}
    assert newly_accepted(head, base) == ("removed b",)
    assert newly_accepted({}, base) == ()


def test_each_moved_rule_is_named_with_both_values() -> None:
    base, head = {"threshold": 0.03, "accept": []}, {"threshold": 0.99, "level": 0.1, "accept": ["drift a"]}
    assert moved_rules(head, base) == ("level default -> 0.1", "threshold 0.03 -> 0.99")


def test_a_judge_that_git_does_not_know_yet_is_named_and_a_commit_that_it_lacks_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project, "__file__", str(tmp_path / "embedopt" / "measure" / "pairs" / "project.py"))
    git(_project(tmp_path), "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    assert moved_judges(tmp_path, "HEAD") == ()
    for name in ("judge.py", "report"):
        (tmp_path / "embedopt" / name).touch()
    [moved] = moved_judges(tmp_path, "HEAD")
    assert moved == "its own code measured and judged it (embedopt/judge.py)"
    with pytest.raises(GitError, match=r"^git diff failed in .*: fatal: .*; wanted what the change holds$"):
        moved_judges(tmp_path, "0" * 40)
