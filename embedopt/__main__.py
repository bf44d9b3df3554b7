"""``python -m embedopt``, and the ``embedopt`` command."""

import sys

from embedopt.cli.app import main


def run() -> None:
    """Run the command line and exit with its code."""
    sys.exit(main())


if __name__ == "__main__":
    run()
