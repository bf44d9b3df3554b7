"""The pytest plugin of the suite: options, fixtures and hooks. All logic is called, none lives here.

It is the only file that touches pytest-benchmark's internals. In a run that collects nothing from
``benchmarks/``, it declares its options and does no more.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest

from embedopt.errors import EmbedoptError, MissingPackageError, RecordError
from embedopt.evidence import cell_name
from embedopt.inference.backends import BACKENDS, REFERENCE
from embedopt.inference.encoder import Encoder
from embedopt.judge.gate.pairs_rule import plan_pairs
from embedopt.judge.gate.settings import GateSettings, read_settings
from embedopt.judge.gate.verdict import Verdict
from embedopt.judge.gate.whole_runs import judge_gate_run, judge_history
from embedopt.judge.history.saved_runs import History, SavedRun, parse_run, read_history
from embedopt.judge.recommend import with_pareto_front
from embedopt.measure.options import BATCH_SIZES, Options, ProfileName, parse_options
from embedopt.measure.session import Session
from embedopt.report.summary_tables import render_comparisons, render_summary
from embedopt.report.verdict_tables import render_positions, render_verdicts
from embedopt.report.words import describe_damaged
from embedopt.schema import to_json


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of the suite."""
    group = parser.getgroup("embedopt", "sentence-embedding inference")
    group.addoption("--backends", metavar="A,B", help=f"all, or some of {', '.join(BACKENDS)}")
    group.addoption(
        "--batch-sizes",
        metavar="1,8",
        help=f"of the latency benchmarks: some of {', '.join(map(str, BATCH_SIZES))}",
    )
    group.addoption("--model", help="local folder or hub name (default: the bundled all-MiniLM-L6-v2)")
    group.addoption("--corpus", type=Path, metavar="FILE", help="text file, or JSON lines with a text field")
    group.addoption(
        "--cache-dir", type=Path, metavar="DIR", help="where artifacts are kept (or EMBEDOPT_CACHE)"
    )
    group.addoption("--min-cosine", type=float, default=0.95, help="floor of the mean cosine (default: 0.95)")
    group.addoption("--profile", choices=get_args(ProfileName), default="full", help="how much is measured")
    group.addoption(
        "--pairs", type=Path, metavar="FILE", help="judged pairs: score, tab, sentence, tab, sentence"
    )
    group.addoption("--price-per-hour", type=float, default=0.05, help="dollars for an hour of this machine")
    group.addoption(
        "--slo-p99-ms", type=float, default=50.0, help="what a p99 under load is held to (default: 50)"
    )
    group.addoption("--soak-s", type=float, default=0.0, help="seconds of a soak under load (default: none)")
    group.addoption("--against", metavar="REF", help="measure this code beside a commit or branch, and judge")
    group.addoption("--against-python", metavar="PATH", help="interpreter of the base's own environment")
    group.addoption(
        "--against-budget", type=float, default=480.0, metavar="SECONDS", help="for all of it (default: 480)"
    )
    group.addoption(
        "--gate-threshold",
        type=float,
        metavar="SHARE",
        help="smallest change that counts, but for backends of pyproject.toml "
        f"(default: {GateSettings().threshold})",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the suite where the run collects from ``benchmarks/``."""
    root = _root(config)
    if root is None:
        return
    try:
        options = parse_options(config.option, root)
        settings = read_settings(root / "pyproject.toml", BACKENDS)
    except EmbedoptError as error:
        raise pytest.UsageError(str(error)) from error
    if (threshold := config.option.gate_threshold) is not None:
        settings = replace(settings, threshold=threshold)
    config.pluginmanager.register(Suite(config, root, options, settings), "embedopt-suite")


def _root(config: pytest.Config) -> Path | None:
    """Return the folder that holds the ``benchmarks/`` of which something is collected, if any is."""
    for argument in config.args:
        path = Path(config.invocation_params.dir, argument.split("::")[0])
        for folder in (path, *path.parents):
            benchmarks = folder / "benchmarks"
            if benchmarks.is_dir() and (path == folder or benchmarks in (path, *path.parents)):
                return folder
    return None


class Suite:
    """One run of the suite: its fixtures and hooks.

    Args:
        config: pytest's.
        root: folder that holds ``benchmarks/``.
        options: what was asked for.
        settings: of the gate.
    """

    def __init__(self, config: pytest.Config, root: Path, options: Options, settings: GateSettings) -> None:
        self._config = config
        self._gate_file = root / "benchmarks" / "test_against.py"
        self._session = Session(options, on_step=self._write_line)
        self._settings = settings
        self._compared: list[SavedRun | RecordError] = []
        self._verdicts: tuple[Verdict, ...] = ()
        self._started = datetime.now(UTC).isoformat()

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leave the gate's file out without ``--against``; another file of that name is not ours."""
        return True if collection_path == self._gate_file and not self._session.options.against else None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Run the gate first: before anything is loaded in this process."""
        items.sort(key=lambda item: item.path != self._gate_file)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give each question its backends and batch sizes."""
        options = self._session.options
        if "against_kind" in metafunc.fixturenames and options.against:
            backends, questions = options.against.backends, options.against.questions
            cells = [(row.name, size, kind) for row in backends for size, kind in questions]
            ids = [f"{name}-{cell_name('', size, '' if size else kind)}" for name, size, kind in cells]
            arguments = ("against_backend", "against_batch_size", "against_kind")
            metafunc.parametrize(arguments, cells, ids=ids)
        if "encoder" not in metafunc.fixturenames:
            return
        # What compares all backends opens the others itself, beside the reference.
        names = [REFERENCE] if "case" in metafunc.fixturenames else [row.name for row in options.backends]
        metafunc.parametrize("encoder", names, indirect=True, scope="session")
        if "batch_size" in metafunc.fixturenames:
            metafunc.parametrize("batch_size", options.batch_sizes)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Read all input and build what is missing, before the first benchmark."""
        params = [item.callspec.params for item in session.items if hasattr(item, "callspec")]
        names = {values["encoder"] for values in params if "encoder" in values}
        if self._config.option.collectonly or not names:
            return
        try:
            self._session.prepare(names)
        except EmbedoptError as error:
            raise pytest.UsageError(str(error)) from error

    @pytest.fixture(scope="session")
    def measuring(self) -> Iterator[Session]:
        """This run: options, corpus, reference, and what was measured so far."""
        yield self._session
        self._session.close()

    @pytest.fixture(scope="session")
    def encoder(self, request: pytest.FixtureRequest, measuring: Session) -> Iterator[Encoder]:
        """One backend, opened once a session."""
        try:
            opened = measuring.open(request.param)
        except MissingPackageError as error:
            pytest.skip(str(error))
        except EmbedoptError as error:
            pytest.fail(str(error), pytrace=False)
        yield opened
        measuring.release(opened)

    @pytest.fixture(scope="session")
    def verdicts(self, measuring: Session) -> tuple[Verdict, ...]:
        """What the gate says of all cells, measured at the first of them."""
        try:
            gate_run = measuring.measure_gate_run(partial(plan_pairs, settings=self._settings))
        except EmbedoptError as error:
            pytest.fail(str(error), pytrace=False)
        self._verdicts = judge_gate_run(gate_run, self._settings)
        return self._verdicts

    def pytest_benchmark_update_json(self, output_json: MutableMapping[str, Any]) -> None:
        """Put the record of the run into the saved file."""
        output_json["embedopt"] = to_json(with_pareto_front(self._session.run()))

    def pytest_benchmark_compare_machine_info(self, compared_benchmark: Mapping[str, Any]) -> None:
        """Keep the runs that pytest-benchmark compares with."""
        name = f"the run of {compared_benchmark.get('datetime', 'an unknown time')}"
        try:
            self._compared.append(parse_run(name, compared_benchmark))
        except RecordError as error:
            self._compared.append(RecordError(f"{name} can't be compared: {error}"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Iterator[None]:
        """Save a run that has times, but none that pytest-benchmark took."""
        benchmarks = self._config._benchmarksession  # type: ignore[attr-defined]  # its only way in
        if self._session.has_timed_by_itself and not benchmarks.benchmarks and not benchmarks.disabled:
            benchmarks.benchmarks.append(_Untimed())
        yield

    @pytest.hookimpl(wrapper=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
        """Show what decides, also when --benchmark-compare-fail stops the run."""
        try:
            yield
        finally:
            self._summarise(terminalreporter)

    def _summarise(self, reporter: pytest.TerminalReporter) -> None:
        measuring, color = self._session, reporter.hasmarkup
        benchmarks = [bench for bench in self._config._benchmarksession.benchmarks if bench]  # type: ignore[attr-defined]  # its only way in
        has_findings = bool(benchmarks) or measuring.has_found_something
        if not has_findings and not measuring.against:
            return
        values = {
            "benchmarks": [
                {"fullname": bench.fullname, "extra_info": bench.extra_info} for bench in benchmarks
            ],
            "embedopt": to_json(with_pareto_front(measuring.run())),
            "datetime": self._started,  # older than the saved file of this very run
        }
        head = parse_run("this run", values)
        reporter.section("embedopt")
        if has_findings:
            reporter.write(render_summary(head, measuring.options.price_per_hour, color=color))
        if self._verdicts:
            title = f"this code against {self._config.option.against}"
            reporter.write(render_verdicts(title, self._verdicts, color=color))
        if self._config.option.benchmark_compare:
            self._compare(reporter, head)

    def _compare(self, reporter: pytest.TerminalReporter, head: SavedRun) -> None:
        reporter.write(render_comparisons(self._compared, head))
        storage = self._config._benchmarksession.storage  # type: ignore[attr-defined]  # its only way in
        # Elasticsearch has no folder, and so no history here.
        history = read_history(storage.path) if hasattr(storage, "path") else History()
        positions = judge_history(head, history.before(head), self._settings)
        reporter.write(render_positions(positions, describe_damaged(history.damaged)))

    def _write_line(self, line: str) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        if reporter is not None and capture is not None:
            with capture.global_and_fixture_disabled():
                reporter.write_line(line)


class _Untimed:
    """A benchmark that pytest-benchmark counts and passes over: it has no times."""

    has_error = True

    def __bool__(self) -> bool:
        return False
