"""The questions of a run: which files of benchmarks are collected, and for which backends and batch sizes."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from embedopt.errors import EmbedoptError
from embedopt.evidence import cell_name
from embedopt.inference.backends import REFERENCE
from embedopt.measure.corpus import SHIPPED
from embedopt.measure.needs import is_for, meets
from embedopt.measure.session import Session
from embedopt.run_display import parameters_of

_Collecting = Generator[None, pytest.CollectReport, pytest.CollectReport]


class Questions:
    """Hooks that collect ``benchmarks``: its own files, and ours whose names it does not have."""

    def __init__(self, benchmarks: Path, session: Session) -> None:
        self._benchmarks = benchmarks
        self._session = session
        ours = {benchmarks / file.name: file for file in sorted(SHIPPED.glob("test_*.py"))}
        self._shipped = {path: file for path, file in ours.items() if not path.exists()}
        gate_file = benchmarks / "test_against.py"
        self._gate_file = self._shipped.get(gate_file, gate_file)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give each benchmark its backends and batch sizes."""
        options = self._session.options
        if "against_kind" in metafunc.fixturenames and options.against:
            backends, questions = options.against.backends, options.against.questions
            cells = [(name, size, kind) for name in backends for size, kind in questions]
            ids = [f"{name}-{cell_name('', size, '' if size else kind)}" for name, size, kind in cells]
            arguments = ("against_backend", "against_batch_size", "against_kind")
            metafunc.parametrize(arguments, cells, ids=ids)
        if "encoder" not in metafunc.fixturenames:
            return
        # A benchmark that compares all backends opens the others itself, beside the reference.
        names = [REFERENCE] if "case" in metafunc.fixturenames else [row.name for row in options.backends]
        metafunc.parametrize("encoder", names, indirect=True, scope="session")
        if "batch_size" in metafunc.fixturenames:
            metafunc.parametrize("batch_size", options.batch_sizes)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> _Collecting:
        """Add our files, and leave out the benchmarks that do not apply to this run.

        They are neither counted nor skipped.
        """
        report = yield
        try:
            nodes = [node for node in report.result or () if self._applies(node)]
        except EmbedoptError as error:
            raise pytest.UsageError(str(error)) from error
        is_folder = isinstance(collector, pytest.Directory) and collector.path == self._benchmarks
        report.result = [*nodes, *(self._shipped_modules(collector) if is_folder else ())]
        return report

    def _shipped_modules(self, folder: pytest.Collector) -> Iterator[pytest.Module]:
        """Yield our files, by the names that they would have in the folder."""
        for path, file in self._shipped.items():
            if not folder.config.hook.pytest_ignore_collect(collection_path=path, config=folder.config):
                nodeid = Path(os.path.relpath(path, folder.config.rootpath)).as_posix()
                yield pytest.Module.from_parent(folder, path=file, nodeid=nodeid)

    def _applies(self, node: pytest.Item | pytest.Collector) -> bool:
        if not isinstance(node, pytest.Function):
            return True
        backend = parameters_of(node).get("encoder", "")
        only_for = [name for marker in node.iter_markers("only_for") for name in marker.args]
        needs = [need for marker in node.iter_markers("needs") for need in marker.args]
        return is_for(backend, only_for) and all(meets(self._session, need, backend) for need in needs)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Run the gate first: before anything is opened in this process."""
        items.sort(key=lambda item: item.path != self._gate_file)
