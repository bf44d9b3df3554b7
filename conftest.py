"""Pytest options, session fixtures and hooks: thin, all logic is called, none lives here."""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest

from embedopt.errors import EmbedoptError, MissingPackageError, RecordError
from embedopt.inference.backends import BACKENDS, REFERENCE
from embedopt.inference.encoder import Encoder
from embedopt.judge.gate.settings import GateSettings, read_settings
from embedopt.judge.gate.verdict import Verdict, judge, plan_pairs
from embedopt.judge.gate.whole_runs import judge_gate_run, judge_history
from embedopt.judge.history.saved_runs import History, SavedRun, parse_run, read_history
from embedopt.judge.recommend import with_pareto_front
from embedopt.measure.options import BATCH_SIZES, ProfileName, parse_options
from embedopt.measure.saving import save_without_benchmarks
from embedopt.measure.session import Session
from embedopt.report.summary_tables import render_comparisons, render_summary
from embedopt.report.verdict_tables import describe_damaged, render_places, render_verdicts
from embedopt.schema import to_json

_STARTED = datetime.now(UTC).isoformat()
_ROOT = Path(__file__).parent
_SESSION = pytest.StashKey[Session]()
_COMPARED = pytest.StashKey[list[SavedRun | RecordError]]()
_GATE = pytest.StashKey[GateSettings]()


def pytest_addoption(parser: pytest.Parser) -> None:
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
        help="smallest change that counts, but for backends of pyproject.toml (default: 0.03)",
    )


def pytest_configure(config: pytest.Config) -> None:
    option = config.option
    try:
        options = parse_options(option, _ROOT)
        settings = read_settings(_ROOT / "pyproject.toml", BACKENDS)
    except EmbedoptError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_SESSION] = Session(options, on_step=lambda step: _say(config, step))
    config.stash[_COMPARED] = []
    config.stash[_GATE] = (
        settings if (share := option.gate_threshold) is None else replace(settings, threshold=share)
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if collection_path.name == "test_against.py" and not config.option.against else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Before anything is loaded in this process.
    items.sort(key=lambda item: item.path.name != "test_against.py")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    options = metafunc.config.stash[_SESSION].options
    if "against_what" in metafunc.fixturenames and options.against:
        cells = [(row.name, what) for row in options.against.backends for what in options.against.whats]
        metafunc.parametrize(("against_backend", "against_what"), cells)
    if "encoder" not in metafunc.fixturenames:
        return
    # What compares all backends opens the others itself, beside the reference.
    names = [REFERENCE] if "case" in metafunc.fixturenames else [row.name for row in options.backends]
    metafunc.parametrize("encoder", names, indirect=True, scope="session")
    if "batch_size" in metafunc.fixturenames:
        metafunc.parametrize("batch_size", options.batch_sizes)


def pytest_collection_finish(session: pytest.Session) -> None:
    params = [item.callspec.params for item in session.items if hasattr(item, "callspec")]
    names = {values["encoder"] for values in params if "encoder" in values}
    if session.config.option.collectonly or not names:
        return
    try:
        session.config.stash[_SESSION].prepare(names)
    except EmbedoptError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def measuring(pytestconfig: pytest.Config) -> Iterator[Session]:
    """This run: options, corpus, reference, and what was found so far."""
    session = pytestconfig.stash[_SESSION]
    yield session
    session.close()


@pytest.fixture(scope="session")
def encoder(request: pytest.FixtureRequest, measuring: Session) -> Iterator[Encoder]:
    """One backend, loaded once a session."""
    try:
        loaded = measuring.open(request.param)
    except MissingPackageError as error:
        pytest.skip(str(error))
    except EmbedoptError as error:
        pytest.fail(str(error), pytrace=False)
    yield loaded
    measuring.release(loaded)


@pytest.fixture(scope="session")
def verdicts(pytestconfig: pytest.Config, measuring: Session) -> tuple[Verdict, ...]:
    """What the gate says of all cells, measured at the first of them."""
    settings = pytestconfig.stash[_GATE]
    try:
        against = measuring.measure_gate_run(partial(plan_pairs, settings=settings))
    except EmbedoptError as error:
        pytest.fail(str(error), pytrace=False)
    return judge(against, settings)


def pytest_benchmark_update_json(config: pytest.Config, output_json: MutableMapping[str, Any]) -> None:
    output_json["embedopt"] = to_json(with_pareto_front(config.stash[_SESSION].run()))


def pytest_benchmark_compare_machine_info(
    config: pytest.Config, compared_benchmark: Mapping[str, Any]
) -> None:
    name = f"the run of {compared_benchmark.get('datetime', 'an unknown time')}"
    try:
        config.stash[_COMPARED].append(parse_run(name, compared_benchmark))
    except RecordError as error:
        config.stash[_COMPARED].append(RecordError(f"{name} can't be compared: {error}"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    if session.config.stash[_SESSION].has_timed_by_itself:
        save_without_benchmarks(session.config)
    yield


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Iterator[None]:
    try:
        yield
    finally:  # also when --benchmark-compare-fail stops the run inside
        measuring, compared = config.stash[_SESSION], config.stash[_COMPARED]
        timed = [bench for bench in config._benchmarksession.benchmarks if bench]  # type: ignore[attr-defined]  # its only way in
        if timed or measuring.has_found_something or measuring.against:
            benchmarks = [{"fullname": bench.fullname, "extra_info": bench.extra_info} for bench in timed]
            head = parse_run(
                "this run",
                {
                    "benchmarks": benchmarks,
                    "embedopt": to_json(with_pareto_front(measuring.run())),
                    "datetime": _STARTED,  # older than the saved file of this very run
                },
            )
            price, color = measuring.options.price_per_hour, terminalreporter.hasmarkup
            terminalreporter.section("embedopt")
            if timed or measuring.has_found_something:
                terminalreporter.write(render_summary(head, price, color=color))
            if verdicts := judge_gate_run(head, config.stash[_GATE]):
                title = f"this code against {config.option.against}"
                terminalreporter.write(render_verdicts(title, verdicts, color=color))
            if config.option.benchmark_compare:
                terminalreporter.write(render_comparisons(compared, head))
                storage = config._benchmarksession.storage  # type: ignore[attr-defined]  # its only way in
                # Elasticsearch has no folder, and so no history here.
                history = read_history(storage.path) if hasattr(storage, "path") else History()
                places = judge_history(head, history.before(head), config.stash[_GATE])
                terminalreporter.write(render_places(places, describe_damaged(history.damaged)))


def _say(config: pytest.Config, step: str) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    if reporter is not None and capture is not None:
        with capture.global_and_fixture_disabled():
            reporter.write_line(step)
