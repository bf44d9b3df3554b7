"""Projects that declare code of their own, in a folder, with an interpreter of their own."""

import json
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path

# The rows depend on each text alone: lengths and sums of its characters.
EMBED = """
def embed(texts):
    return [[float(len(text)), 1.0 + sum(map(ord, text)) % 97, 3.0] for text in texts]
"""


def make_project(folder: Path, code: str = EMBED, **settings: object) -> Path:
    """Write ``src/shop/embedding.py`` and a pyproject.toml that declares ``shop``; return the folder."""
    module = folder / "src" / "shop" / "embedding.py"
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(textwrap.dedent(code), encoding="utf8")
    values = {"call": "shop.embedding:embed"} | settings
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    table = "\n".join(["[tool.embedopt.targets.shop]", *lines])
    (folder / "pyproject.toml").write_text(table, encoding="utf8")
    return folder


@cache
def make_interpreter(folder: Path) -> Path:
    """Make a virtual environment without any package, and return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python"
