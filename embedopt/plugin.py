"""The pytest plugin of the suite: options and hooks, which call the logic of other modules.

It is the only file that touches pytest-benchmark's internals. In a run that collects nothing from
``benchmarks/``, it only declares its options. It does so after all other plugins, both where it is loaded
before them, by ``-p embedopt.plugin`` in ``benchmarks/pytest.ini``, and after them, by a ``conftest.py``.
"""

import math
import os
import re
from collections.abc import Generator, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from embedopt import fixtures
from embedopt.errors import EmbedoptError, RecordError
from embedopt.inference.backends import BACKENDS
from embedopt.inference.targets import declare_targets
from embedopt.judge.gate.settings import GateSettings, read_settings
from embedopt.judge.gate.whole_runs import judge_history
from embedopt.judge.history.saved_runs import History, SavedRun, differences, parse_run, read_history
from embedopt.judge.recommend import with_pareto_front
from embedopt.measure.command_line import given_words, head_folder, parse_options
from embedopt.measure.declared_options import declare_options, long_name
from embedopt.measure.findings import NOT_FINITE, Findings
from embedopt.measure.session import Session
from embedopt.questions import Questions
from embedopt.report.summary_tables import render_comparisons, render_summary
from embedopt.report.verdict_tables import render_positions, render_verdicts
from embedopt.report.words import command_for, describe_damaged, title_of
from embedopt.run_display import RunDisplay, parameters_of
from embedopt.schema import clear_not_finite, to_json
from embedopt.selection import Selection

# Name and benchmarks of each table of pytest-benchmark.
_Groups = list[tuple[str | None, list[dict[str, Any]]]]
# Options of pytest-benchmark whose value may be left out.
_OPTIONAL_VALUES = ("benchmark_compare", "benchmark_histogram", "benchmark_cprofile_dump")
_BENCHMARK_NAMES = ("benchmark", "pytest_benchmark.plugin")
# Every run becomes history: it is saved, with its raw samples. The tables have the columns that decide.
_BENCHMARK_OPTIONS = (
    *("--benchmark-autosave", "--benchmark-save-data"),
    *("--benchmark-columns=median,iqr,rounds,ops", "--benchmark-name=short"),
)
_MARKERS = (
    "only_for(*backends): collect the benchmark for these backends only; declared: those of pyproject.toml",
    "needs(*needs): collect the benchmark only where the run has these, see embedopt.measure.needs",
)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the options of the suite at once, where the other plugins have declared theirs."""
    if any(map(pluginmanager.hasplugin, _BENCHMARK_NAMES)):
        _declare_options(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Iterator[None]:
    """Declare the options after those of plugins and conftest.py, whose names are not taken away."""
    yield
    if any(map(early_config.pluginmanager.hasplugin, _BENCHMARK_NAMES)):
        _declare_options(parser)
        args[:0] = _BENCHMARK_OPTIONS  # what the user gives comes later, and so holds


def _declare_options(parser: pytest.Parser) -> None:
    if parser.optparser.get_default("embedopt_taken") is not None:
        return
    taken = declare_options(parser.getgroup("embedopt", "sentence-embedding inference").addoption)
    parser.optparser.set_defaults(embedopt_taken=taken)


def pytest_configure(config: pytest.Config) -> None:
    """Register the suite where the run collects from ``benchmarks/``."""
    if not hasattr(config.option, "embedopt_taken"):
        raise pytest.UsageError("pytest-benchmark is not loaded; wanted it: pip install 'embedopt[suite]'")
    _check_order(config)
    root = _root(config, config.args)
    if root is None:
        return
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    try:
        head = head_folder(config.option, root)
        declare_targets(head)
        options = parse_options(config.option, head, given_words(config.invocation_params.args))
        settings = read_settings(head / "pyproject.toml", BACKENDS)
    except EmbedoptError as error:
        raise pytest.UsageError(_in_long_names(str(error), config.option.embedopt_taken)) from error
    if options.against and (hasattr(config, "workerinput") or getattr(config.option, "numprocesses", None)):
        raise pytest.UsageError("--against with -n would measure in several processes at once: leave -n out")
    if options.gate_threshold is not None:
        settings = replace(settings, threshold=options.gate_threshold)
    display = RunDisplay(config, options)
    session = Session(options, on_step=display.write_line, on_detail=display.show)
    selection = Selection(config, root / "benchmarks", options)
    for name, plugin in {
        "questions": Questions(root / "benchmarks", session),
        "selection": selection,
        "suite": Suite(config, session, settings, selection),
        "display": display,
        "fixtures": fixtures,
    }.items():
        config.pluginmanager.register(plugin, f"embedopt-{name}")


def _in_long_names(message: str, taken: Sequence[str]) -> str:
    """Return a message with the long names of our options whose short names other plugins have taken."""
    for name in taken:
        message = re.sub(rf"(?<![\w-]){name}(?![\w-])", long_name(name), message)
    return message


def _check_order(config: pytest.Config) -> None:
    """Refuse a path to the benchmarks that argparse took for the value of an option before it."""
    for name in _OPTIONAL_VALUES:
        value = config.getoption(name)
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str) and not path.endswith(".json") and _root(config, [path]):
                option = f"--{name.replace('_', '-')}"
                raise pytest.UsageError(
                    f"{option} {path} takes the path for the option's value; wanted the path first: "
                    f"pytest {path} {option}"
                )


def _root(config: pytest.Config, arguments: Sequence[str]) -> Path | None:
    """Return the folder that holds the ``benchmarks/`` of the arguments; None where they name none."""
    for argument in arguments:
        # Not resolved: pytest follows no links in the paths that it collects.
        path = Path(os.path.abspath(config.invocation_params.dir / argument.split("::")[0]))  # noqa: PTH100
        for folder in (path, *path.parents):
            benchmarks = folder / "benchmarks"
            if benchmarks.is_dir() and (path == folder or benchmarks in (path, *path.parents)):
                return folder
    return None


class Suite:
    """The hooks of one run of the suite."""

    def __init__(
        self, config: pytest.Config, session: Session, settings: GateSettings, selection: Selection
    ) -> None:
        self._config = config
        self._selection = selection
        self._options = session.options
        self._settings = settings
        self._session = session
        self._findings = Findings(session)
        config.stash[fixtures.SESSION] = session
        config.stash[fixtures.FINDINGS] = self._findings
        config.stash[fixtures.SETTINGS] = settings
        self._compared: list[SavedRun | RecordError] = []
        self._started = datetime.now(UTC).isoformat()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Read all input and build missing artifacts, before the first benchmark."""
        names = {name for item in session.items if (name := parameters_of(item).get("encoder"))}
        if self._config.option.collectonly or not names:
            return
        try:
            self._session.prepare(names)
        except EmbedoptError as error:
            raise pytest.UsageError(str(error)) from error

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Time calls by the clock of their encoder; an error of ours is its message."""
        arguments = getattr(item, "funcargs", {})
        if "benchmark" in arguments and "encoder" in arguments:
            arguments["benchmark"]._timer = arguments["encoder"].clock
        try:
            yield
        except EmbedoptError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None

    def pytest_benchmark_update_json(self, output_json: MutableMapping[str, Any]) -> None:
        """Put the record of the run into the saved file."""
        output_json["embedopt"] = self._record()

    def _record(self) -> dict[str, Any]:
        """Return the record of the run as JSON values; a figure that is not finite counts as not measured."""
        run = replace(self._findings.run(), part=self._selection.part)
        values = to_json(with_pareto_front(run))
        not_finite = clear_not_finite(values)
        reasons = {figure: f"came out as {value}: {NOT_FINITE}" for figure, value in not_finite.items()}
        return values | ({"not_measured": reasons} if reasons else {})

    @pytest.hookimpl(wrapper=True)
    def pytest_benchmark_group_stats(self) -> Generator[None, _Groups, _Groups]:
        """Sort the tables of pytest-benchmark by batch size; by name, 16 comes before 2."""
        groups = yield
        return sorted(groups, key=lambda group: (group[1][0]["params"] or {}).get("batch_size", math.inf))

    def pytest_benchmark_compare_machine_info(self, compared_benchmark: Mapping[str, Any]) -> None:
        """Keep the runs that pytest-benchmark compares with."""
        name = f"the run of {compared_benchmark.get('datetime', 'an unknown time')}"
        try:
            self._compared.append(parse_run(name, compared_benchmark))
        except RecordError as error:
            self._compared.append(RecordError(f"{name} can't be compared: {error}"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Iterator[None]:
        """Save the run also where only embedopt took times: by itself, pytest-benchmark would not."""
        benchmarks = self._config._benchmarksession  # type: ignore[attr-defined]  # its only way in
        if self._findings.has_own_times and not benchmarks.benchmarks and not benchmarks.disabled:
            benchmarks.benchmarks.append(_Untimed())
        if benchmarks.compare is True:
            self._compare_with_newest(benchmarks)
        yield

    def _compare_with_newest(self, benchmarks: Any) -> None:
        """Compare each benchmark with the newest comparable run that has it, not with the last file alone."""
        unmatched = {bench.fullname for bench in benchmarks.benchmarks if bench}
        if not unmatched or not hasattr(benchmarks.storage, "path"):  # Elasticsearch has none
            return
        mapping, head = {}, self._findings.run()
        compared: list[SavedRun | RecordError] = []
        for path, content in reversed(list(benchmarks.storage.load())):
            own = [bench for bench in content["benchmarks"] if bench["fullname"] in unmatched]
            try:
                base = parse_run(f"the run of {content.get('datetime')}", content | {"benchmarks": own})
            except RecordError:  # reported by pytest_benchmark_compare_machine_info
                continue
            if own and base.run and not differences(base.run, head):
                mapping[path] = {bench["fullname"]: bench for bench in own}
                unmatched -= mapping[path].keys()
                compared.append(base)
        if mapping:
            benchmarks.compared_mapping, self._compared = mapping, compared

    @pytest.hookimpl(wrapper=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
        """Show the tables of the suite, even when --benchmark-compare-fail stops the run."""
        try:
            yield
        finally:
            self._summarise(terminalreporter)

    def _summarise(self, reporter: pytest.TerminalReporter) -> None:
        findings, color = self._findings, reporter.hasmarkup
        benchmarks = [bench for bench in self._config._benchmarksession.benchmarks if bench]  # type: ignore[attr-defined]  # its only way in
        has_measurements = bool(benchmarks) or findings.has_measurements
        if not has_measurements and not findings.gate_run:
            return
        values = {
            "benchmarks": [
                {"fullname": bench.fullname, "extra_info": bench.extra_info} for bench in benchmarks
            ],
            "embedopt": self._record(),
            "datetime": self._started,  # older than the saved file of this very run
        }
        head = parse_run("this run", values)
        reporter.section("embedopt")
        if has_measurements:
            everything = self._config.get_verbosity() > 0
            price_per_hour = self._options.price_per_hour
            reporter.write(render_summary(head, price_per_hour, everything=everything, color=color))
        if (verdicts := self._config.stash.get(fixtures.VERDICTS, ())) and (run := findings.gate_run):
            title, command = title_of("this code", run), command_for(verdicts, run.base_commit)
            reporter.write(render_verdicts(title, verdicts, run.notes, command=command, color=color))
        if self._config.option.benchmark_compare:
            self._compare(reporter, head)

    def _compare(self, reporter: pytest.TerminalReporter, head: SavedRun) -> None:
        storage, compare = self._config._benchmarksession.storage, self._config.option.benchmark_compare  # type: ignore[attr-defined]  # its only way in
        # Elasticsearch has no folder, and so no history here.
        history = read_history(storage.path) if hasattr(storage, "path") else History()
        earlier = [run.name for time, run in history.runs if head.time and time < head.time]
        named = f"--benchmark-compare={compare}" if isinstance(compare, str) else ""
        reporter.write(render_comparisons(self._compared, head, earlier, named))
        positions = judge_history(head, history.before(head), self._settings)
        reporter.write(render_positions(positions, describe_damaged(history.damaged)))


class _Untimed:
    """A benchmark without times, which makes pytest-benchmark save a run that has no other benchmark."""

    has_error = True

    def __bool__(self) -> bool:
        return False
