"""All tests: no network, warnings are errors, and small models made by fixtures."""

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
# By this, pytest-benchmark switches itself off, in the runs that tests of the suite start as well.
os.environ.pop("PYTEST_XDIST_WORKER", None)

from tests.models import Pooling, make_model  # after the variable is set
from tests.preloaded import preloaded_python

pytest_plugins = ["pytester", "tests.suite"]

# The same examples in every run, and no limit of time: a failure is due to a change, not to a new example or
# a busy machine.
settings.register_profile("same-examples", derandomize=True, deadline=None)
settings.load_profile("same-examples")

# Warnings of other libraries, which we can't mend.
_FOREIGN_WARNINGS = (
    "ignore:builtin type .* has no __module__ attribute:DeprecationWarning",
    "default::pytest_benchmark.logger.PytestBenchmarkWarning",
    "ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    config.option.benchmark_autosave = None  # nothing is timed here, so there is nothing to save
    # A background job of a shell ignores Ctrl-C, and one under nohup SIGHUP; what tests start would, too.
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Last: pytest run inside pytest forgets the modules that the inner run imported, torch among them.
    items.sort(key=lambda item: item.path.name.startswith("test_suite"))
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("error"))
        for warning in _FOREIGN_WARNINGS:
            item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let PyTorch compute tiny models on one thread, and garbage collections pass its many objects by.

    On two threads that wait for each other, a model of the zoo takes three times as long.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a cache of its own, so that none reads or writes the user's."""
    monkeypatch.setenv("EMBEDOPT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that makes a random two-layer BERT in sentence-transformers' layout, each once."""
    made: dict[tuple[Pooling, bool, str], Path] = {}

    def make(pooling: Pooling = "mean", *, normalize: bool = True, prompt: str = "") -> Path:
        key = (pooling, normalize, prompt)
        if key not in made:
            made[key] = make_model(
                tmp_path_factory.mktemp("model"), pooling, normalize=normalize, prompt=prompt
            )
        return made[key]

    return make


@pytest.fixture(scope="session")
def real_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache that all tests on the real model share, so that each artifact is built once.

    Each process of pytest-xdist has a folder of its own, in one of the run.
    """
    folder = tmp_path_factory.getbasetemp()
    cache = (folder.parent if "PYTEST_XDIST_TESTRUNUID" in os.environ else folder) / "real-cache"
    cache.mkdir(exist_ok=True)
    return cache


@pytest.fixture(scope="module")
def python() -> Iterator[str]:
    """The path of an interpreter whose processes have imported the large libraries when they start."""
    with preloaded_python() as path:
        yield path
