"""How many threads a runtime gets, the same for all of them."""

import os

from embedopt.inference.backends import Mode


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count() -> int:
    """Return ``OMP_NUM_THREADS``, which torch obeys too, or the usable cores."""
    # OpenMP takes a list, one number for each level of nesting.
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(asked) if asked.isdecimal() and int(asked) > 0 else usable_cores()


def replicas_and_threads(mode: Mode) -> tuple[int, int]:
    """Return how many replicas of a model a mode has, and how many threads each of them uses."""
    threads = thread_count()
    return (1, threads) if mode == "latency" else (min(threads, usable_cores()), 1)
