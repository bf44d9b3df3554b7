"""From a repository with pins that conflict with ours to a gated change, in three commands.

The first, pip install 'embedopt[suite]', made the environment of these tests; the shop has one of its own.
"""

import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from tests.repositories import git

SHOP = Path(__file__).parent / "shop"
_TARGETS = {
    "callable": ["--call", "shop.embedding:embed"],
    "service": [
        *("--start", "python -m shop.api {port}"),
        *("--url", "http://127.0.0.1:{port}/v1/embeddings", "--name", "shop"),
    ],
}


def _run(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("kind", _TARGETS)
def test_a_change_of_vectors_is_gated(tmp_path: Path, kind: str) -> None:
    shop = tmp_path / "shop"
    copytree(SHOP, shop, ignore=ignore_patterns("__pycache__", ".venv"))
    git(shop, "init", "-q")
    install = f"{sys.executable} make_environment.py"
    given = [*_TARGETS[kind], "--texts", "products.txt", "--install", install]
    code, output = _run(shop, "embedopt", "init", *given)
    assert (code, output.splitlines()[-1]) == (
        0,
        "next: make the environment, commit, and pytest benchmarks/ --backends shop --benchmark-compare",
    )
    subprocess.run(install.split(), cwd=shop, check=True)
    git(shop, "add", ".")
    git(shop, "commit", "-qm", "adopt embedopt")

    quick = ["pytest", "benchmarks/", "--backends", "shop", "--benchmark-compare", "--profile", "quick"]
    code, output = _run(shop, *quick, "-k", "shop and (latency or invariance or retrieval)")
    assert code == 0, output
    assert "\nshop " in output
    assert "\nnothing to compare with yet" in output

    file = shop / "src" / "shop" / "embedding.py"
    file.write_text(file.read_text("utf8").replace("text.lower()", "text.upper()"), encoding="utf8")
    gate = ["-k", "against", "--against", "HEAD", "--batch-sizes", "1", "--against-budget", "10"]
    code, output = _run(shop, *quick, *gate)
    assert code == 1, output
    assert f"\ninstalling the base: {install}\n" in output
    code, output = _run(shop, "embedopt", "gate")
    assert code == 6, output
    words = " ".join(output.split())
    assert "embeddings stored before this change no longer fit: 1 with changed vectors, " in words
    assert git(shop, "status", "--short") == "M src/shop/embedding.py\n?? .benchmarks/"
