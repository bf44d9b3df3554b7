"""What git shows of the base: the folder of its suite, and the addopts of its configuration."""

from pathlib import Path, PurePosixPath

import pytest

from embedopt.errors import UsageError
from embedopt.measure.pairs.base_commit import addopts, given_addopts, suite_folder
from tests.repositories import git

TOP = PurePosixPath()


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf8")


def _commit(folder: Path, files: dict[str, str]) -> str:
    _write(folder, files)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "a change")
    return git(folder, "rev-parse", "HEAD")


def _suite(folder: str = "") -> dict[str, str]:
    return {
        f"{folder}benchmarks/test_latency.py": "",
        f"{folder}conftest.py": 'pytest_plugins = ["embedopt.plugin"]\n',
    }


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pyproject.toml", '[tool.pytest.ini_options]\naddopts = "-q --model theirs"\n'),
        ("pyproject.toml", '[tool.pytest.ini_options]\naddopts = ["-q", "--model", "theirs"]\n'),
        ("pyproject.toml", '[tool.pytest]\naddopts = ["-q", "--model", "theirs"]\n'),
        ("pytest.toml", '[pytest]\naddopts = ["-q", "--model", "theirs"]\n'),
        (".pytest.toml", '[pytest]\naddopts = ["-q", "--model", "theirs"]\n'),
        ("pytest.ini", "[pytest]\naddopts = -q --model theirs\n"),
        ("benchmarks/pytest.ini", "[pytest]\naddopts = -q --model theirs\n"),
        (".pytest.ini", "[pytest]\naddopts = -q --model theirs\n"),
        ("tox.ini", "[pytest]\naddopts = -q --model theirs\n"),
        ("setup.cfg", "[tool:pytest]\naddopts = -q --model theirs\n"),
    ],
)
def test_addopts_are_read_from_every_file_that_pytest_reads(
    repository: Path, name: str, content: str
) -> None:
    commit = _commit(repository, {name: content})
    assert addopts(repository, commit, TOP) == ["-q", "--model", "theirs"]
    _commit(repository, {name: ""})
    _write(repository, {name: content})
    assert addopts(repository) == ["-q", "--model", "theirs"], "of the files as they lie there"


def test_the_first_file_that_configures_pytest_counts(repository: Path) -> None:
    commit = _commit(
        repository,
        {
            "pytest.ini": "[pytest]\n",
            "tox.ini": "[pytest]\naddopts = --model theirs\n",
        },
    )
    assert addopts(repository, commit, TOP) == []


def test_addopts_of_a_folder_above_the_suite_count(repository: Path) -> None:
    commit = _commit(repository, {"a/pyproject.toml": "[project]\n", "tox.ini": "[pytest]\naddopts=-q\n"})
    assert addopts(repository, commit, PurePosixPath("a")) == ["-q"]
    assert addopts(repository, _commit(repository, {"tox.ini": ""}), PurePosixPath("a")) == []


def test_a_configuration_that_pytest_cant_read_is_named(repository: Path) -> None:
    commit = _commit(repository, {"pyproject.toml": "[tool"})
    with pytest.raises(UsageError, match=r"^the base's pyproject.toml can't be read by pytest \("):
        addopts(repository, commit, TOP)


def test_addopts_of_the_command_line_replace_those_of_any_file() -> None:
    assert given_addopts(["-q", "-o", "addopts=-x", "benchmarks"]) == ["-x"]
    assert given_addopts(["-oaddopts=-x", "--override-ini=addopts=--model 'a b'"]) == ["--model", "a b"]
    assert given_addopts(["-o", "addopts="]) == []
    assert given_addopts(["benchmarks"]) is None


@pytest.mark.parametrize("folder", ["a", "café", 'a "b"'])
def test_a_suite_stays_in_its_folder(repository: Path, folder: str) -> None:
    commit = _commit(repository, _suite(f"{folder}/") | {f"{folder}/pytest.ini": "[pytest]\naddopts = -q\n"})
    suite = suite_folder(repository / folder, commit)
    assert suite == PurePosixPath(folder)
    assert addopts(repository / folder, commit, suite) == ["-q"]


def test_a_suite_that_the_change_moved_is_the_base_s(repository: Path) -> None:
    commit = _commit(repository, _suite("old/"))
    git(repository, "mv", "old", "new")
    assert suite_folder(repository / "new", commit) == PurePosixPath("old")


def test_a_base_without_a_suite_and_one_that_keeps_its_own_have_none_for_a_new_one(repository: Path) -> None:
    commit = _commit(repository, _suite("a/") | {"conftest.py": ""})
    _write(repository, _suite("b/"))
    assert suite_folder(repository / "b", commit) is None


def test_a_suite_adopted_by_the_conftest_of_its_benchmarks_is_one(repository: Path) -> None:
    commit = _commit(repository, {"a/benchmarks/conftest.py": 'pytest_plugins = ["embedopt.plugin"]\n'})
    assert suite_folder(repository / "a", commit) == PurePosixPath("a")


def test_several_suites_that_moved_are_refused(repository: Path) -> None:
    commit = _commit(repository, _suite("a/") | _suite("b/"))
    git(repository, "rm", "-qr", "a", "b")
    _write(repository, _suite("c/"))
    with pytest.raises(UsageError) as caught:
        suite_folder(repository / "c", commit)
    assert str(caught.value) == (
        f"--against {commit[:12]}: the base has suites in a, b, which are gone, and none in c; "
        "wanted one that moved: move each in a change of its own"
    )
