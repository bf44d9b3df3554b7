"""The suite measures what a project declares, beside our own backends, which are fakes here."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedopt.inference.backend import Backend
from embedopt.inference.backends import declare
from embedopt.inference.encoder import Encoder
from embedopt.inference.loading import open_encoder
from embedopt.judge.history.saved_runs import read_run
from embedopt.measure import session as session_module
from embedopt.measure.load_test import capacity as capacity_module
from embedopt.measure.load_test.open_loop import drive
from tests.fakes import FakeEncoder
from tests.inference.projects import make_project
from tests.suite import run_suite, saved_files

# Dimensions and lengths that are not those of the reference, and results that are kept.
_CODE = """
kept = {}

def embed(texts):
    for text in texts:
        if text not in kept:
            kept[text] = [float(sum(ord(c) ** k for c in text[:400]) % 89) - 44.0 for k in (1, 2, 3, 4)]
    return [kept[text] for text in texts]
"""


@pytest.fixture(autouse=True)
def _real_targets(monkeypatch: pytest.MonkeyPatch, opened: Counter[str]) -> Iterator[None]:
    """Open what the project declares; our own rows stay fakes."""

    def open_either(row: Backend, folder: Path, mode: str | None = None, **_: object) -> Encoder:
        return open_encoder(row, folder) if row.project else FakeEncoder(row.name)

    monkeypatch.setattr(session_module, "open_encoder", open_either)
    yield
    declare([])


def test_code_of_a_project_answers_each_question_that_it_can(suite: pytest.Pytester) -> None:
    make_project(suite.path, _CODE)
    result = run_suite(suite, "-v", "--benchmark-autosave", "--benchmark-save-data")
    result.assert_outcomes(passed=2 * (2 + 1 + 2 + 1 + 2) + 1)
    lines = "\n".join(result.outlines)
    assert "backends: torch-fp32, shop" in lines
    assert "shop gives vectors of lengths " in lines
    [file] = saved_files(suite)
    saved = read_run(file)
    assert saved.run is not None
    run = saved.run
    assert run.backends["shop"].precision == "unknown"
    assert run.backends["shop"].settings["call"] == "shop.embedding:embed"
    accuracy = run.accuracy["shop"]
    assert accuracy.cosine_mean is None
    assert accuracy.batch_invariance_min == pytest.approx(1.0)
    assert accuracy.recall_at_10 is not None
    latency = {row.batch_size: row for row in saved.latencies if row.backend == "shop"}
    assert latency.keys() == {1, 32}
    assert latency[1].repeated_share is not None


def test_a_soak_is_for_what_a_project_declares_too(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its process, which the code makes grow by more than a soak allows."""
    monkeypatch.setattr(capacity_module, "drive", drive)
    monkeypatch.setattr(capacity_module, "single_rate", lambda *_: 1000.0)
    code = """
        kept = []

        def embed(texts):
            kept.extend(bytes([1]) * 100_000 for _ in texts)
            return [[1.0, 0.5, 0.25, float(len(text))] for text in texts]
    """
    make_project(suite.path, code)
    result = run_suite(suite, "-k", "soak", "--soak-s", "0.4")
    result.assert_outcomes(failed=1, deselected=17)
    result.stdout.fnmatch_lines(["E *assert * < 4000000"])


def test_errors_of_the_code_are_its_lines_and_no_traceback_of_ours(suite: pytest.Pytester) -> None:
    code = """
        def embed(texts):
            if len(texts) > 1:
                raise ValueError("one at a time")
            return [[1.0, 0.5, 0.25, 0.125] for _ in texts]
    """
    make_project(suite.path, code)
    result = run_suite(suite, "-k", "shop and throughput")
    result.assert_outcomes(failed=2, deselected=15)
    expected = "shop failed on a list of 41 texts: ValueError: one at a time (src/shop/embedding.py:4); *"
    result.stdout.fnmatch_lines([expected])
    assert "Traceback" not in "\n".join(result.outlines)
