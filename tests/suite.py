"""The suite in a folder of its own, with fake encoders in the place of every runtime."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from embedopt.inference.artifacts import clipping as clipping_module
from embedopt.inference.backend import Backend
from embedopt.measure import footprint as footprint_module
from embedopt.measure import session as session_module
from embedopt.measure.load_test import capacity as capacity_module
from embedopt.measure.session import Session
from embedopt.records import Footprint, LoadPoint
from tests.fakes import FakeEncoder, MoodyEncoder

ROOT = Path(__file__).parents[1]
CORPUS = "\n".join(json.dumps({"id": number, "text": f"text {number}"}) for number in range(40))
QUERIES = json.dumps({"text": "a query", "relevant": [3, 4]})


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Replace every runtime by a fake encoder, and count how often each is opened."""
    counts: Counter[str] = Counter()

    def open_fake(row: Backend, folder: Path, mode: str | None, **_: object) -> FakeEncoder:
        counts[f"{row.name} replicated" if mode else row.name] += 1
        return (MoodyEncoder if row.name == "onnx-int8-per-tensor" else FakeEncoder)(row.name)

    monkeypatch.setattr(session_module, "open_encoder", open_fake)
    monkeypatch.setattr(Session, "folder", lambda self, name: Path())
    monkeypatch.setattr(clipping_module, "clipped_share", lambda *_: 0.0)
    footprint = Footprint(disk_bytes=1_000_000, load_s=0.5, peak_rss_bytes=10_000_000)
    monkeypatch.setattr(footprint_module, "measure_footprint", lambda *_: footprint)
    point = LoadPoint(rate_per_s=9.0, seconds=1.0, p99_ms=5.0, kept_share=1.0, lost=0)
    monkeypatch.setattr(capacity_module, "drive", lambda *_: point)
    monkeypatch.setattr(capacity_module, "single_rate", lambda *_: 27.0)
    return counts


@pytest.fixture
def suite(pytester: pytest.Pytester, opened: Counter[str]) -> pytest.Pytester:
    """A copy of conftest.py and benchmarks/ with a small corpus."""
    shutil.copy(ROOT / "conftest.py", pytester.path)
    shutil.copytree(
        ROOT / "benchmarks", pytester.path / "benchmarks", ignore=shutil.ignore_patterns("corpus")
    )
    (pytester.path / "benchmarks" / "corpus").mkdir()
    (pytester.path / "benchmarks" / "corpus" / "listings.jsonl").write_text(CORPUS, encoding="utf8")
    (pytester.path / "benchmarks" / "corpus" / "queries.jsonl").write_text(QUERIES, encoding="utf8")
    pytester.makepyprojecttoml(
        '[tool.pytest.ini_options]\naddopts = ["--benchmark-autosave", "--benchmark-save-data"]\n'
    )
    return pytester


def run_suite(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run all benchmarks with the profile ``quick``."""
    return suite.runpytest_inprocess("benchmarks", "--profile", "quick", "-p", "no:cacheprovider", *arguments)


def saved_files(suite: pytest.Pytester) -> list[Path]:
    """Return the files that runs have saved, in their order."""
    return sorted(suite.path.glob(".benchmarks/*/*.json"))
