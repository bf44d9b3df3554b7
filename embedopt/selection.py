"""What a run left out and what failed in it: the record of a part of a run."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from embedopt.measure.command_line import parse_backends, parse_batch_sizes
from embedopt.measure.options import Options
from embedopt.records import Part
from embedopt.run_display import parameters_of


class Selection:
    """Hooks that follow what happens to the benchmarks of the folder ``benchmarks``."""

    def __init__(self, config: pytest.Config, benchmarks: Path, options: Options) -> None:
        self._benchmarks, self._against = benchmarks, options.against
        self._is_narrowed = not _collects_all(config, benchmarks) or _leaves_cells_out(options)
        self._questions: dict[str, tuple[str, str]] = {}
        self._passed: dict[str, bool] = {}
        self._skipped: set[str] = set()

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leave the gate's file out without ``--against``, and all others where the head is elsewhere.

        Those others would measure the code of this checkout, not the head.
        """
        if collection_path.parent != self._benchmarks or collection_path.suffix != ".py":
            return None
        is_gate = collection_path.name == "test_against.py"
        if self._against is None:
            return True if is_gate else None
        is_elsewhere = self._against.head != self._benchmarks.parent
        return True if is_elsewhere and not is_gate else None

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Note that a benchmark was left out by ``-k``, ``-m`` or ``--deselect``."""
        self._is_narrowed |= bool(items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the question, which is its file's name, and the backend of each benchmark."""
        self._questions = {
            item.nodeid: (item.path.stem.removeprefix("test_"), backend)
            for item in session.items
            if (backend := parameters_of(item).get("encoder"))
        }

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a benchmark ended."""
        self._passed[report.nodeid] = self._passed.get(report.nodeid, True) and not report.failed
        if report.skipped:
            self._skipped.add(report.nodeid)

    @property
    def part(self) -> Part | None:
        """The mark of an incomplete run, with what failed; None for a complete run."""
        unanswered = self._skipped | (self._questions.keys() - self._passed.keys())
        if not self._is_narrowed and unanswered.isdisjoint(self._questions):
            return None
        failed: dict[str, dict[str, None]] = {}
        for nodeid, (question, backend) in self._questions.items():
            if not self._passed.get(nodeid, True):
                failed.setdefault(question, {})[backend] = None
        return Part(failed={question: tuple(backends) for question, backends in failed.items()})


def _collects_all(config: pytest.Config, benchmarks: Path) -> bool:
    """Return whether the command line names the whole folder, and leaves no file of it out."""
    option = config.option
    if option.ignore or option.ignore_glob or getattr(option, "lf", False):
        return False
    folders = {Path(os.path.abspath(config.invocation_params.dir / argument)) for argument in config.args}  # noqa: PTH100  # pytest follows no links
    return not folders.isdisjoint((benchmarks, *benchmarks.parents))


def _leaves_cells_out(options: Options) -> bool:
    """Return whether ``--backends`` or ``--batch-sizes`` name fewer than the profile has."""
    installed = {row.name for row in parse_backends(None, options.profile) if not row.missing_packages}
    sizes = set(parse_batch_sizes(None, options.profile))
    return not (installed <= {row.name for row in options.backends} and sizes <= set(options.batch_sizes))
