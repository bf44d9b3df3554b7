"""The suite in a repository that holds nothing of it but benchmarks/pytest.ini."""

import subprocess
import sys
from collections import Counter

import pytest

from embedopt.ci.init import PYTEST_INI
from tests.repositories import git
from tests.suite import saved_files


@pytest.fixture
def shop(pytester: pytest.Pytester, opened: Counter[str]) -> pytest.Pytester:
    """A repository with unit tests, and with benchmarks/ as init leaves it."""
    pytester.mkdir("benchmarks").joinpath("pytest.ini").write_text(PYTEST_INI, encoding="utf8")
    pytester.makepyprojecttoml('[project]\nname = "shop"\nversion = "1"\n')
    pytester.mkdir("tests").joinpath("test_shop.py").write_text("def test_it(): pass\n", encoding="utf8")
    return pytester


def _run(shop: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return shop.runpytest_inprocess("benchmarks", "-p", "no:cacheprovider", *arguments)


def test_the_questions_come_with_embedopt(shop: pytest.Pytester) -> None:
    result = _run(shop, "--profile", "quick", "-v", "--backends", "onnx-int8")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["benchmarks/test_latency.py::test_*onnx-int8* PASSED*", "*805 texts*"])
    [file] = saved_files(shop)  # by itself
    assert '"data": [' in file.read_text(encoding="utf8")


def test_questions_of_their_own_stand_beside_ours_or_in_their_place(shop: pytest.Pytester) -> None:
    ours = "def test_dimension(encoder):\n    assert encoder.encode(['a']).shape == (1, 8)\n"
    for name in ("bench_ours.py", "test_latency.py"):
        (shop.path / "benchmarks" / name).write_text(ours, encoding="utf8")
    result = _run(shop, "--collect-only", "-q", "--embedopt-backends", "onnx-int8")
    lines = [line.removeprefix("benchmarks/") for line in result.outlines if "::" in line]
    questions = {line.partition("[")[0] for line in lines}
    assert {"bench_ours.py::test_dimension", "test_latency.py::test_dimension"} < questions
    assert "test_latency.py::test_latency" not in questions
    assert "test_accuracy.py::test_agreement" in questions


def test_their_unit_tests_run_without_ours(shop: pytest.Pytester) -> None:
    """Not even a question of their own is collected with them: it would want our fixtures."""
    (shop.path / "benchmarks" / "bench_ours.py").write_text("def test_it(encoder): pass\n", encoding="utf8")
    for arguments in ((), ("tests", "benchmarks")):
        shop.runpytest_inprocess(*arguments, "-p", "no:cacheprovider").assert_outcomes(passed=1)


_OTHER = """
def pytest_addoption(parser):
    parser.addoption("--profile", action="store_true")
    parser.getgroup("other").addoption("--backends", default="theirs")
    parser.addoption("--model", default="large")

def pytest_report_header(config):
    return f"other plugin: {config.getoption('--profile')}, {config.getoption('--model')}"
"""


@pytest.mark.parametrize("place", ["conftest.py", "a plugin that is loaded after ours"])
def test_options_of_others_keep_their_names_and_ours_have_long_ones(
    shop: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place == "conftest.py":
        (shop.path / "benchmarks" / place).write_text(_OTHER, encoding="utf8")
    else:
        shop.makepyfile(other_plugin=_OTHER)
        shop.syspathinsert()
        monkeypatch.setenv("PYTEST_ADDOPTS", "-p other_plugin")
    given = ("--profile", "--embedopt-profile", "quick", "--batch-sizes", "1")
    result = _run(shop, *given, "--embedopt-backends", "onnx-int8", "-k", "latency")
    result.assert_outcomes(passed=2, deselected=15)
    result.stdout.fnmatch_lines(["other plugin: True, large"])
    wrong = _run(shop, "--embedopt-profile", "quick", "--embedopt-batch-sizes", "3", "--min-cosine", "2")
    wrong.stderr.fnmatch_lines(["ERROR: unknown batch size 3; known are: *"])
    missing = _run(shop, "--embedopt-model", "no-such-model", "--embedopt-backends", "onnx-int8")
    assert missing.ret == pytest.ExitCode.USAGE_ERROR


def test_messages_name_the_option_that_there_is(shop: pytest.Pytester) -> None:
    code = "def pytest_addoption(parser): parser.addoption('--min-cosine')\n"
    (shop.path / "benchmarks" / "conftest.py").write_text(code, encoding="utf8")
    result = _run(shop, "--embedopt-min-cosine", "2")
    result.stderr.fnmatch_lines(["ERROR: --embedopt-min-cosine is 2.0; wanted a cosine, from -1 to 1"])
    result = _run(shop, "--slo-p99-ms", "0")
    result.stderr.fnmatch_lines(["ERROR: --slo-p99-ms is 0.0; wanted milliseconds above 0"])


def test_what_the_user_says_of_pytest_benchmark_holds(shop: pytest.Pytester) -> None:
    result = _run(
        shop, "-k", "latency", "--profile", "quick", "--backends", "torch-fp32", "--benchmark-columns=max"
    )
    assert "Max" in result.stdout.str()
    assert "Median" not in result.stdout.str()


_SEEN = """
import json, sys

def pytest_collection_finish(session):
    config = session.config
    plugins = sorted(name for name, _ in config.pluginmanager.list_name_plugin() if not name.isdigit())
    ours = sorted(name for name in sys.modules if name.startswith("embedopt."))
    with open("seen.json", "w") as file:
        json.dump([plugins, sorted(vars(config.option)), ours], file)
"""


def test_unit_tests_notice_nothing_of_embedopt(shop: pytest.Pytester) -> None:
    """The same plugins, options and fixtures as where it can't be imported, and no module of ours."""
    (shop.path / "conftest.py").write_text(_SEEN, encoding="utf8")
    seen = []
    for hidden in ("", "import sys; sys.modules['embedopt'] = None; "):
        code = f"{hidden}import pytest; pytest.main(); raise SystemExit(pytest.main(['--fixtures', '-q']))"
        command = [sys.executable, "-c", code, "tests", "-p", "no:cacheprovider"]
        done = subprocess.run(command, cwd=shop.path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        fixtures = [line for line in done.stdout.splitlines() if " -- " in line]
        seen.append((fixtures, (shop.path / "seen.json").read_text(encoding="utf8")))
    assert seen[0] == seen[1]
    assert "embedopt" not in str(seen).replace(str(shop.path), "")


def test_the_plugin_of_the_benchmarks_may_be_loaded_before_ours(shop: pytest.Pytester) -> None:
    """The options are declared when ours is loaded, and are not declared again."""
    ini = PYTEST_INI.replace("-p embedopt.plugin", "-p benchmark -p embedopt.plugin")
    (shop.path / "benchmarks" / "pytest.ini").write_text(ini, encoding="utf8")
    assert _run(shop, "--collect-only", "-q", "--backends", "onnx-int8").ret == 0


def test_another_root_of_pytest_is_no_obstacle(shop: pytest.Pytester) -> None:
    root = shop.mkdir("elsewhere")
    assert _run(shop, f"--rootdir={root}", "--collect-only", "-q", "--backends", "onnx-int8").ret == 0


def test_a_repository_without_a_target_is_not_compared_with_itself(shop: pytest.Pytester) -> None:
    """As in the workflow that init writes without a target."""
    git(shop.path, "init", "-q")
    git(shop.path, "add", ".")
    git(shop.path, "commit", "-qm", "adopt embedopt")
    result = _run(shop, "-k", "test_against", "--embedopt-against", "HEAD")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --against: pyproject.toml declares no target, *"])
