"""Saves a run that pytest-benchmark would not: one that timed nothing with its own fixture."""

import pytest


class _Untimed:
    """A benchmark that pytest-benchmark counts and passes over: it has no times."""

    has_error = True

    def __bool__(self) -> bool:
        return False


def save_without_benchmarks(config: pytest.Config) -> None:
    """Let pytest-benchmark save a run without benchmarks, wherever it was asked to save one."""
    session = config._benchmarksession  # type: ignore[attr-defined]  # its only way in
    if not session.benchmarks and not session.disabled:
        session.benchmarks.append(_Untimed())
