"""What the package offers, and what it does not drag in."""

import subprocess
import sys

import pytest

import embedopt


def test_exported_members() -> None:
    assert embedopt.__all__ == sorted(embedopt.__all__, key=str.lower)
    assert {name for name in vars(embedopt) if name[0].isupper() or name == "load_encoder"} == set(
        embedopt.__all__
    )


@pytest.mark.parametrize(
    "module", ["embedopt", "embedopt.report.summary_tables", "embedopt.measure.session", "embedopt.cli.app"]
)
def test_importing_loads_no_runtime(module: str) -> None:
    """A verdict can be had, and a usage error given, without waiting for torch."""
    code = (
        f"import sys, {module}; print(sorted({{'torch', 'onnxruntime', 'transformers'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
