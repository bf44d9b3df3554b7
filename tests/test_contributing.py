"""The map in CONTRIBUTING.md and the folders agree."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf8")


def _modules_on_the_map() -> set[str]:
    """Return the modules that the map lists, as paths below ``embedopt/`` without their suffix."""
    [block] = re.findall(r"^embedopt/\n(.*?)^tests/", TEXT, re.MULTILINE | re.DOTALL)
    entries = re.sub(r"\n {20,}", " ", block).splitlines()  # a long entry goes on in the next line
    modules: set[str] = set()
    folders: dict[int, str] = {0: ""}
    for entry in entries:
        indent = len(entry) - len(entry.lstrip())
        name, rest = entry[:24].strip(), entry[24:]
        parent = folders[indent - 2]
        if not name.endswith("/"):
            modules |= {parent + module for module in name.split(", ")}
            continue
        folders[indent] = parent + name
        groups = [group.partition(": ")[0] for group in rest.split("; ")]
        modules |= {parent + name + module for group in groups for module in group.split(", ")}
    return modules


def test_the_map_lists_each_module_in_its_folder() -> None:
    package = ROOT / "embedopt"
    files = [file.relative_to(package) for file in package.rglob("*.py") if not file.name.startswith("__")]
    assert _modules_on_the_map() == {file.with_suffix("").as_posix() for file in files}


def test_tests_mirror_the_package() -> None:
    """A file of unit tests is named after a module or a folder, in the folder that it mirrors."""
    package, tests = ROOT / "embedopt", ROOT / "tests"
    unmatched = [
        file.relative_to(ROOT).as_posix()
        for folder in tests.rglob("*")
        if (mirrored := package / folder.relative_to(tests)).is_dir() and folder.is_dir()
        for file in folder.glob("test_*.py")
        if not (mirrored / file.name.removeprefix("test_")).exists()
        and not (mirrored / file.stem.removeprefix("test_")).is_dir()
    ]
    assert unmatched == []


def test_each_test_that_is_written_is_collected() -> None:
    """A test that runs nowhere tests nothing, whatever it is called and wherever it stands."""
    written = [
        f"{file.relative_to(ROOT).as_posix()}::{node.name}"
        for file in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")
    ]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    collected = {line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line}
    assert sorted(written) == sorted(collected)  # a name that is written twice in a file runs once
