"""The public names of the package, the imports that stay light, and what works without any extra."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import embedopt


def test_the_public_names_are_sorted_and_all_there_is() -> None:
    expected = {"AdaptiveBatcher", "EmbedoptError", "Encoder", "Limits", "Overloaded", "load_encoder"}
    assert sorted(embedopt.__all__) == embedopt.__all__
    assert set(embedopt.__all__) == expected
    assert {name for name in vars(embedopt) if name[0].isupper() or name == "load_encoder"} == expected


@pytest.mark.parametrize(
    "module", ["embedopt", "embedopt.report.summary_tables", "embedopt.measure.session", "embedopt.cli.app"]
)
def test_importing_loads_no_runtime(module: str) -> None:
    """A verdict or a usage error must not wait for torch to be imported."""
    code = (
        f"import sys, {module}; print(sorted({{'torch', 'onnxruntime', 'transformers'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _installed_with(package: str) -> set[str]:
    """Return a package and all that it requires without an extra."""
    requirements = map(Requirement, importlib.metadata.requires(package) or ())
    names = [one.name for one in requirements if not one.marker or one.marker.evaluate({"extra": ""})]
    return {package}.union(*map(_installed_with, names))


def test_no_package_that_comes_with_embedopt_is_a_plugin_of_pytest() -> None:
    """It would be loaded in the unit tests of a project that has embedopt in its environment."""
    plugins = importlib.metadata.entry_points(group="pytest11")
    assert {plugin.dist.name for plugin in plugins if plugin.dist}.isdisjoint(_installed_with("embedopt"))
    assert "pydantic-core" in {name.replace("_", "-") for name in _installed_with("embedopt")}


# Modules of the packages in the extras: any of them may be missing where runs are judged and shown.
_EXTRAS = (
    *("torch", "onnxruntime", "onnx", "transformers", "tokenizers", "sentence_transformers", "optimum"),
    *(
        "huggingface_hub",
        "httpx",
        "pytest",
        "pytest_benchmark",
        "psutil",
        "loky",
        "platformdirs",
        "cpuinfo",
        "pyarrow",
        "ray",
    ),
)
_WITHOUT_EXTRAS = f"""
import sys

class Missing:
    @staticmethod
    def find_spec(name, *_):
        if name.partition(".")[0] in {_EXTRAS}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Missing)
from embedopt.cli.app import main
sys.exit(main(sys.argv[1:]))
"""
_RUN = str(Path(__file__).parent / "data" / "run_of_the_old_house.json")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["report", _RUN, "-o", "page.html"], 0),
        (["report", _RUN, "--format", "markdown"], 0),
        (["summary", _RUN], 0),
        (["history", "--history", _RUN], 5),  # 5: inconclusive
        (["compare", _RUN, _RUN], 5),
        (["gate", _RUN], 5),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else str(value),
)
def test_runs_are_judged_and_shown_without_any_extra(command: list[str], code: int, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _WITHOUT_EXTRAS, *command]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, "")
