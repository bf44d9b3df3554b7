"""Projects that declare code of their own, in a folder, with an interpreter of their own."""

import json
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

# The rows depend on each text alone: lengths and sums of its characters.
EMBED = """
def embed(texts):
    return [[float(len(text)), 1.0 + sum(map(ord, text)) % 97, 3.0] for text in texts]
"""


def make_project(folder: Path, code: str = EMBED, **settings: Any) -> Path:
    """Write ``src/shop/embedding.py`` and a pyproject.toml that declares ``shop``; return the folder."""
    module = folder / "src" / "shop" / "embedding.py"
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(textwrap.dedent(code), encoding="utf8")
    values = {"call": "shop.embedding:embed"} | settings
    lines = [f"{name} = {_toml(value)}" for name, value in values.items() if value is not None]
    table = "\n".join(["[tool.embedopt.targets.shop]", *lines])
    (folder / "pyproject.toml").write_text(table, encoding="utf8")
    return folder


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


@cache
def make_interpreter(folder: Path) -> Path:
    """Make a virtual environment without any package, and return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python"
