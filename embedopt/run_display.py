"""What a run shows while it measures: its plan, then one line that says where it stands."""

import contextlib
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import pytest

from embedopt.inference.backend import INSTALL_PEERS
from embedopt.measure.options import Options
from embedopt.measure.schedule import Schedule, plan_steps
from embedopt.report.progress import RunProgress, in_words


def parameters_of(item: pytest.Item) -> Mapping[str, Any]:
    """Return the parameters of a test by name."""
    return item.callspec.params if hasattr(item, "callspec") else {}


class RunDisplay:
    """Hooks that replace pytest's dots; with ``-v``, pytest's own line for each test stays."""

    def __init__(self, config: pytest.Config, options: Options) -> None:
        self._config, self._options = config, options
        self._schedule = Schedule(())
        self._progress: RunProgress | None = None

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> list[str]:
        """Say what will be measured and about how long it takes, and name the backends that are left out."""
        profile, left_out = self._options.profile, self._options.left_out
        tests = [(getattr(item, "originalname", item.name), parameters_of(item)) for item in items]
        steps = plan_steps(tests, self._options)
        self._schedule = Schedule(steps)
        questions = ", ".join(dict.fromkeys(step.question for step in steps))
        backends = ", ".join(dict.fromkeys(step.backend for step in steps if step.backend))
        missing = ", ".join(row.name for row in left_out)
        return [
            f"{profile} profile, {in_words(self._schedule.left_s)}: {questions}",
            *([f"backends: {backends}"] if backends else []),
            *([f"not installed, left out: {missing}: {INSTALL_PEERS}"] if missing else []),
        ]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """Begin to show where the run stands."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or self._config.get_verbosity() > 0 or self._config.option.collectonly:
            return
        reporter.showfspath = False
        reporter._show_progress_info = False  # no public switch: pytest's own dots and percentages
        terminal = reporter._tw._file if reporter.isatty else None
        self._progress = RunProgress(terminal, self.write_line)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Leave out the dot of a test that passed."""
        passed = report.when == "call" and report.passed
        return ("passed", "", "PASSED") if passed and self._progress is not None else None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Show which test runs."""
        self.show()
        try:
            return (yield)
        finally:
            self._schedule.finish_step()
            self._clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self) -> None:
        """Take the line away before pytest writes the letter of a test that did not pass."""
        self._clear()

    def show(self, detail: str = "") -> None:
        """Show where the run stands; ``detail`` says what the current test does at the moment."""
        if self._progress is None:
            return
        schedule = self._schedule
        step = schedule.steps[schedule.done]
        batch = f"batch {step.batch_size}" if step.batch_size else ""
        doing = ", ".join(part for part in (step.backend, step.question, batch, detail) if part)
        with self._uncaptured():
            self._progress.show(
                doing,
                done=schedule.done,
                steps=len(schedule.steps),
                left_s=schedule.left_s,
                now_s=time.monotonic(),
            )

    def write_line(self, line: str) -> None:
        """Write a line of its own, whatever pytest captures."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            with self._uncaptured():
                self._clear()
                reporter.ensure_newline()
                reporter.write_line(line)

    def _clear(self) -> None:
        if self._progress is not None:
            self._progress.clear()

    @contextlib.contextmanager
    def _uncaptured(self) -> Iterator[None]:
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            yield
