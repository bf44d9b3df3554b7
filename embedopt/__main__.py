"""``python -m embedopt``, and the ``embedopt`` command."""

import atexit
import os
import signal
import sys

from embedopt.cli.app import main
from embedopt.signals import ended_by_signals


def run() -> None:
    """Run the command line, and exit with its code or by the signal that ended it."""
    with ended_by_signals() as received:
        atexit.register(_end_by, received)  # before any other, so that it runs last
        sys.exit(main())


def _end_by(received: list[int]) -> None:
    for number in received[:1]:  # a shell or supervisor wants to see which signal it was
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


if __name__ == "__main__":
    run()
