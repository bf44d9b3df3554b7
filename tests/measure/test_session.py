"""What was found is gathered, and held to its bounds."""

import dataclasses
from pathlib import Path

import pytest

from embedopt.errors import ArtifactError, InputError
from embedopt.inference.backends import BACKENDS, Backend
from embedopt.inference.saved_settings import save
from embedopt.measure import session as session_module
from embedopt.measure.options import Options
from embedopt.measure.session import Session
from embedopt.records import Accuracy, Footprint, LoadTest, Throughput
from tests.fakes import FakeEncoder
from tests.runs import make_run


def _session(tmp_path: Path, *, model: str | None = None, min_cosine: float = 0.95) -> Session:
    (tmp_path / "texts.txt").write_text("one\ntwo words\nthree", encoding="utf8")
    options = Options(
        backends=tuple(BACKENDS.values()),
        batch_sizes=(1,),
        profile="quick",
        corpus=tmp_path / "texts.txt",
        model=model,
        min_cosine=min_cosine,
    )
    return Session(options)


def test_what_benchmarks_find_is_merged(tmp_path: Path) -> None:
    session = _session(tmp_path)
    assert not session.has_found_something
    session.add("onnx-int8", Accuracy(texts=3, cosine_mean=0.99))
    session.add("onnx-int8", Accuracy(batch_invariance_min=0.98))
    session.add("onnx-int8", Footprint(disk_bytes=7))
    session.add("torch-fp32", Throughput(texts_per_s=5.0))
    assert session.has_found_something
    run = session.run()
    assert run.accuracy == {"onnx-int8": Accuracy(texts=3, cosine_mean=0.99, batch_invariance_min=0.98)}
    assert run.footprint == {"onnx-int8": Footprint(disk_bytes=7)}
    assert run.throughput == {"torch-fp32": Throughput(texts_per_s=5.0)}
    assert run.corpus.texts == 3
    assert run.backends["onnx-int8"].base == "onnx-fp32"
    assert run.backends["onnx-int8"].settings["per_channel"] is True
    assert run.hardware_class == run.machine.hardware_class


def test_load_is_kept_by_backend_and_way_of_batching(tmp_path: Path) -> None:
    session = _session(tmp_path)
    session.add_load("onnx-int8", "none", LoadTest(highest_per_s=400.0))
    session.add_load("onnx-int8", "adaptive", LoadTest(highest_per_s=500.0))
    session.add_load("onnx-int8", "adaptive", LoadTest(soak_growth_bytes=7))
    assert session.has_found_something
    assert session.run().load == {
        "onnx-int8": {
            "none": LoadTest(highest_per_s=400.0),
            "adaptive": LoadTest(highest_per_s=500.0, soak_growth_bytes=7),
        }
    }


def test_bounds_are_floors_or_ceilings(tmp_path: Path) -> None:
    session = _session(tmp_path)
    good = Accuracy(cosine_mean=0.999999, cosine_min=0.99999, max_abs_error=1e-6, batch_invariance_min=1.0)
    assert session.missed_bounds("onnx-fp32", good) == []
    bad = Accuracy(cosine_mean=0.94, cosine_min=0.9, max_abs_error=1e-4)
    missed = session.missed_bounds("onnx-fp32", bad)
    assert [line.split(" (")[0] for line in missed] == [
        "onnx-fp32: cosine_mean is 0.9400000, wanted 0.95 or higher",
        "onnx-fp32: cosine_min is 0.9000000, wanted 0.99999 or higher",
        "onnx-fp32: max_abs_error is 0.0001000, wanted 1e-05 or lower",
    ]


def test_the_mean_cosine_is_held_to_the_stricter_of_two_floors(tmp_path: Path) -> None:
    found = Accuracy(cosine_mean=0.97)
    assert len(_session(tmp_path).missed_bounds("onnx-int8", found)) == 1  # the row says 0.99
    assert len(_session(tmp_path, min_cosine=0.98).missed_bounds("onnx-int8-per-tensor", found)) == 1
    assert _session(tmp_path).missed_bounds("onnx-int8-per-tensor", found) == []


@pytest.mark.parametrize(
    ("sets", "missed"), [(("avx2",), 0), (("avx2", "vnni"), 1), (("avx2", "avx-vnni"), 1)]
)
def test_without_vnni_int8_is_held_to_min_cosine_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: tuple[str, ...], missed: int
) -> None:
    machine = dataclasses.replace(make_run().machine, instruction_sets=sets)
    monkeypatch.setattr(session_module, "this_machine", lambda: machine)
    session = _session(tmp_path)
    assert len(session.missed_bounds("onnx-int8", Accuracy(cosine_mean=0.97))) == missed
    assert len(session.missed_bounds("onnx-int8", Accuracy(cosine_mean=0.94))) == 1
    assert len(session.missed_bounds("onnx-fp32", Accuracy(cosine_min=0.97))) == 1


def test_with_another_model_only_min_cosine_holds(tmp_path: Path) -> None:
    session = _session(tmp_path, model="somewhere")
    assert session.missed_bounds("onnx-int8", Accuracy(cosine_mean=0.96, cosine_min=0.1)) == []
    assert len(session.missed_bounds("onnx-int8", Accuracy(cosine_mean=0.94))) == 1


def test_the_reference_is_loaded_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[FakeEncoder] = []

    def open_fake(row: object, folder: Path, mode: str) -> FakeEncoder:
        loaded.append(FakeEncoder(getattr(row, "name", "?")))
        return loaded[-1]

    monkeypatch.setattr(session_module, "open_encoder", open_fake)
    monkeypatch.setattr(Session, "folder", lambda self, name: tmp_path)
    session = _session(tmp_path)
    reference = session.open("torch-fp32")
    session.release(reference)
    other = session.open("onnx-int8")
    session.release(other)
    assert session.reference_embeddings is session.reference_embeddings
    assert [encoder.name for encoder in loaded] == ["torch-fp32", "onnx-int8"]
    assert [encoder.released for encoder in loaded] == [0, 1]
    session.close()
    assert [encoder.released for encoder in loaded] == [1, 1]
    assert session.run().corpus.mean_tokens == pytest.approx((3 + 4 + 3) / 3)


def test_what_was_tuned_is_what_runs_and_what_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each mode its own; what was not tuned keeps the row's."""
    opened: list[Backend] = []

    def open_fake(row: Backend, folder: Path, mode: str) -> FakeEncoder:
        opened.append(row)
        return FakeEncoder(row.name)

    monkeypatch.setattr(session_module, "open_encoder", open_fake)
    monkeypatch.setattr(Session, "folder", lambda self, name: tmp_path)
    session, row = _session(tmp_path), BACKENDS["onnx-int8"]
    save(row, "latency", session.weights, {"session.dynamic_block_base": "0"})
    save(row, "throughput", session.weights, {"batch_tokens": 1024})
    with session.many_texts(session.open("onnx-int8")):
        pass
    assert opened == [
        row.with_settings({"session.dynamic_block_base": "0"}),
        row.with_settings({"batch_tokens": 1024}),
    ]
    own = {**row.build_options, **row.settings}
    info = session.run().backends["onnx-int8"]
    assert info.settings == {**own, "session.dynamic_block_base": "0"}
    assert info.throughput_settings == {**own, "batch_tokens": 1024}
    assert session.run().backends["torch-fp32"].throughput_settings == {}


def test_damaged_settings_are_found_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "folder", lambda self, name: tmp_path)
    session = _session(tmp_path)
    file = save(BACKENDS["onnx-int8"], "throughput", session.weights, {"batch_tokens": 1024})
    assert file is not None
    file.write_text("{", encoding="utf8")
    session.prepare(["onnx-fp32"])
    with pytest.raises(ArtifactError, match="is damaged; wanted settings that embedopt tune saved"):
        session.prepare(["onnx-int8"])


def test_bad_input_is_found_before_anything_is_built(tmp_path: Path) -> None:
    options = Options(backends=(), batch_sizes=(1,), profile="quick", corpus=tmp_path / "none.txt")
    with pytest.raises(InputError, match=r"none\.txt: no such file"):
        Session(options).prepare(["onnx-int8"])
