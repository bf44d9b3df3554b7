"""What the tests share: no network, warnings are errors, models small enough to make on the spot."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported

from tests.models import Pooling, make_model  # after the variable is set

pytest_plugins = ["pytester"]

# The same examples every time: a change fails for what it does, not for what was drawn that day.
settings.register_profile("same-examples", derandomize=True)
settings.load_profile("same-examples")

# Of libraries that we can't mend, each by its text.
_FOREIGN_WARNINGS = (
    "ignore:builtin type .* has no __module__ attribute:DeprecationWarning",
    "default::pytest_benchmark.logger.PytestBenchmarkWarning",
    "ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    config.option.benchmark_autosave = None  # nothing is timed here, so there is nothing to save


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Last: running pytest inside pytest makes it forget the modules that the run imported, torch among them.
    items.sort(key=lambda item: item.path.name == "test_suite.py")
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("error"))
        for warning in _FOREIGN_WARNINGS:
            item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("EMBEDOPT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make, once each, a folder with a random two-layer BERT in sentence-transformers' layout."""
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
    """A cache that the tests on the real model share, so that each artifact is built once."""
    return tmp_path_factory.mktemp("real-cache")
