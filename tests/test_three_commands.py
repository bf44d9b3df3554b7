"""From a repository with pins that conflict with ours to a gated change, in three commands.

The first, pip install 'embedopt[suite]', installs the wheel of this checkout; the packages of the extra are
those of these tests. The shop has an environment of its own.
"""

import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from tests.repositories import git

ROOT = Path(__file__).parents[1]
SHOP = ROOT / "tests" / "shop"
_TARGETS = {
    "callable": ["--call", "shop.embedding:embed"],
    "service": [
        *("--start", "python -m shop.api {port}"),
        *("--url", "http://127.0.0.1:{port}/v1/embeddings", "--name", "shop"),
    ],
}


def _run(folder: Path, *command: str | Path) -> tuple[int, str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with embedopt installed, made without a network."""
    pytest.importorskip("hatchling", reason="the wheel is built with hatchling: pip install -e '.[dev]'")
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    alone = ["-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", *alone, "--no-build-isolation", ROOT, "-w", folder], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    [wheel], [packages] = folder.glob("*.whl"), folder.glob("venv/lib/python*/site-packages")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", *alone, wheel], check=True)
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others), encoding="utf8")
    _, output = _run(folder, python, "-c", "import embedopt; print(embedopt.__file__)")
    assert Path(output.strip()).is_relative_to(packages)
    return python.parent


@pytest.mark.parametrize("kind", _TARGETS)
def test_a_change_of_vectors_is_gated(tmp_path: Path, programs: Path, kind: str) -> None:
    shop = tmp_path / "shop"
    copytree(SHOP, shop, ignore=ignore_patterns("__pycache__", ".venv"))
    git(shop, "init", "-q")
    install = f"{sys.executable} make_environment.py"
    given = [*_TARGETS[kind], "--texts", "products.txt", "--install", install]
    code, output = _run(shop, programs / "embedopt", "init", *given)
    assert (code, output.splitlines()[-1]) == (
        0,
        "next: make the environment, commit, and pytest benchmarks/ --backends shop --benchmark-compare",
    )
    subprocess.run(install.split(), cwd=shop, check=True)
    git(shop, "add", ".")
    git(shop, "commit", "-qm", "adopt embedopt")

    measure = [str(programs / "python"), "-m", "pytest", "benchmarks/", "--backends", "shop"]
    quick = [*measure, "--benchmark-compare", "--profile", "quick"]
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
    code, output = _run(shop, programs / "embedopt", "gate")
    assert code == 6, output
    words = " ".join(output.split())
    assert "embeddings stored before this change no longer fit: 1 with changed vectors, " in words
    assert git(shop, "status", "--short") == "M src/shop/embedding.py\n?? .benchmarks/"
