"""A session opens each thing once."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedopt.errors import ArtifactError, InputError
from embedopt.inference.backend import Backend
from embedopt.inference.backends import BACKENDS, REFERENCE
from embedopt.inference.saved_settings import save
from embedopt.measure import session as session_module
from embedopt.measure.corpus import Corpus
from embedopt.measure.findings import Findings
from embedopt.measure.options import Options
from embedopt.measure.session import Session
from tests.fakes import FakeEncoder, fake_embedding
from tests.measure.sessions import make_options, make_session


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Backend, FakeEncoder]]:
    """Replace every runtime by a fake encoder; list what is opened."""
    pairs: list[tuple[Backend, FakeEncoder]] = []

    def open_fake(row: Backend, folder: Path, mode: str | None, **_: object) -> FakeEncoder:
        pairs.append((row, FakeEncoder(row.name)))
        return pairs[-1][1]

    monkeypatch.setattr(session_module, "open_encoder", open_fake)
    monkeypatch.setattr(Session, "folder", lambda self, name: tmp_path)
    return pairs


def test_the_reference_is_opened_once_and_closed_at_the_end(
    tmp_path: Path, opened: list[tuple[Backend, FakeEncoder]]
) -> None:
    session = make_session(tmp_path)
    session.release(session.open("torch-fp32"))
    session.release(session.open("onnx-int8"))
    assert session.reference_embeddings("onnx-fp32") is session.reference_embeddings(REFERENCE)
    assert [encoder.name for _, encoder in opened] == ["torch-fp32", "onnx-int8"]
    assert [encoder.released for _, encoder in opened] == [0, 1]
    session.close()
    assert [encoder.released for _, encoder in opened] == [1, 1]
    assert session.mean_tokens == pytest.approx((3 + 4 + 3) / 3)


_E5 = {"query": "query: ", "passage": "passage: "}


@pytest.mark.parametrize(
    ("own", "given", "queries", "candidates"),
    [
        ({}, {}, "", ""),
        (_E5, {}, "query: ", "passage: "),
        ({**_E5, "document": ""}, {}, "query: ", ""),
        ({"search": "find "}, {}, "", ""),
        (_E5, {"query_prompt": "", "document_prompt": "the "}, "", "the "),
        (_E5, {"query_prompt": "passage", "document_prompt": "query"}, "passage: ", "query: "),
    ],
)
def test_a_search_is_encoded_after_the_prompts_that_are_given_or_the_models_own(
    own: dict[str, str],
    given: dict[str, Any],
    queries: str,
    candidates: str,
    tmp_path: Path,
    opened: list[tuple[Backend, FakeEncoder]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "own_prompts", lambda _: (own, ""))
    session = Session(dataclasses.replace(make_options(tmp_path), **given))
    session.corpus = Corpus("c", ("one", "two", "three"), {1: (0,)})
    search = session.search(session.open("onnx-int8"))
    assert (search.query_prompt, search.document_prompt) == (queries, candidates)
    np.testing.assert_array_equal(search.queries, [fake_embedding(f"{queries}two")])
    expected = [fake_embedding(f"{candidates}{text}") for text in ("one", "three")]
    np.testing.assert_array_equal(search.candidates, expected)
    [(_, encoder)] = opened  # embeddings of the corpus without another prompt are there already
    assert len(encoder.calls) == len({queries, candidates})


def test_saved_settings_are_used_and_recorded_in_the_mode_they_were_saved_for(
    tmp_path: Path, opened: list[tuple[Backend, FakeEncoder]]
) -> None:
    """Settings that were not saved keep the value of the backend's row."""
    session, row = make_session(tmp_path), BACKENDS["onnx-int8"]
    save(row, "latency", session.weights, {"session.dynamic_block_base": "0"})
    save(row, "throughput", session.weights, {"batch_tokens": 1024})
    with session.opened("onnx-int8"):
        pass
    [(backend, _)] = opened
    assert backend.in_mode("latency").settings == {**row.settings, "session.dynamic_block_base": "0"}
    assert backend.in_mode("throughput").settings == {**row.settings, "batch_tokens": 1024}
    own = {**row.build_options, **row.settings}
    backends = Findings(session).run().backends
    assert backends["onnx-int8"].settings == {**own, "session.dynamic_block_base": "0"}
    assert backends["onnx-int8"].throughput_settings == {**own, "batch_tokens": 1024}
    assert backends["torch-fp32"].throughput_settings == {}


def test_damaged_settings_are_an_error_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "folder", lambda self, name: tmp_path)
    session = make_session(tmp_path)
    file = save(BACKENDS["onnx-int8"], "throughput", session.weights, {"batch_tokens": 1024})
    assert file is not None
    file.write_text("{", encoding="utf8")
    session.prepare(["onnx-fp32"])
    with pytest.raises(ArtifactError, match="is damaged; wanted settings that embedopt tune saved"):
        session.prepare(["onnx-int8"])


def test_bad_input_is_an_error_before_anything_is_built(tmp_path: Path) -> None:
    options = Options(backends=(), batch_sizes=(1,), profile="quick", corpus=tmp_path / "none.txt")
    with pytest.raises(InputError, match=r"none\.txt: no such file"):
        Session(options).prepare(["onnx-int8"])
