"""The public names of the package, and the imports that stay light."""

import subprocess
import sys

import pytest

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
