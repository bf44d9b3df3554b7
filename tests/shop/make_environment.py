"""Make ``.venv`` with the versions of requirements.txt: stand-ins, which take a second and no network."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Make the environment, and a module for each requirement that knows its version."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", HERE / ".venv"], check=True)
    [packages] = (HERE / ".venv").glob("lib/python*/site-packages")
    for line in (HERE / "requirements.txt").read_text(encoding="utf8").splitlines():
        name, _, version = line.partition("==")
        (packages / f"{name}.py").write_text(f"__version__ = {version!r}\n", encoding="utf8")


if __name__ == "__main__":
    main()
