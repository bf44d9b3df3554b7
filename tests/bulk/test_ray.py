"""Jobs on a Ray cluster: the same vectors, whatever happens to a node."""

import dataclasses
import errno
import io
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from embedopt.bulk.job import Columns, EmbedderOptions, Job
from embedopt.bulk.ray import Actor, Work, _connect, absolute_job, unpack
from embedopt.bulk.sources import Source, parts_of, stamp_of
from embedopt.cli.app import main
from embedopt.errors import UsageError
from embedopt.inference.backends import declare, get_backend
from tests.bulk.jobs import TEXTS, vectors, write_texts
from tests.fakes import FakeEncoder, fake_embedding

ROOT = Path(__file__).parents[2]


def test_a_killed_node_loses_and_doubles_nothing(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'embedopt[ray]'")
    source, model = write_texts(tmp_path / "in" / "a.parquet"), str(tiny_model())
    here = ["encode", str(source), "-o", str(tmp_path / "here"), "--id", "doc", "--backend", "onnx-fp32"]
    assert main([*here, "--model", model]) == 0
    done = subprocess.run(
        [sys.executable, "-m", "tests.bulk.two_nodes", str(source), str(tmp_path / "there"), model],
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == ["killed 1, 100 rows in 5 parts"], done.stderr
    assert vectors(tmp_path / "there") == vectors(tmp_path / "here")
    assert not list((tmp_path / "there").glob(".*"))


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    path = write_texts(tmp_path / "a.parquet")
    source = Source(path=path, name="a.parquet", digest="1", rows=100, stamp=stamp_of(path))
    job = Job(inputs=(), output=tmp_path / "out", columns=Columns(id="doc"), chunk_rows=10)
    monkeypatch.setattr("embedopt.bulk.ray.identity_of", lambda *_: {"model": "a"})
    monkeypatch.setattr("embedopt.bulk.job.load_encoder", lambda *_, **__: FakeEncoder())
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")
    schema = pa.schema([("doc", pa.string())])
    return Work(job=job, parts=parts_of(source, 30), carried=schema, identity={"model": "a"}, artifact=None)


def test_an_actor_knows_the_rows_that_the_project_declares(work: Work, tmp_path: Path) -> None:
    row = dataclasses.replace(get_backend("torch-fp32"), name="shop", project=tmp_path)
    Actor(dataclasses.replace(work, declared=[row]))
    assert get_backend("shop") == row
    declare([])


def test_actors_get_absolute_paths_of_the_output_and_of_a_model_that_is_a_folder(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    paths = []
    for model in ("mine", "owner/name", None):
        job = dataclasses.replace(work.job, output=Path("out"), embedder=EmbedderOptions(model=model))
        paths.append((absolute_job(job).output, absolute_job(job).embedder.model))
    assert paths == [(tmp_path / "out", wanted) for wanted in (str(tmp_path / "mine"), "owner/name", None)]


def test_an_actor_encodes_the_rows_of_its_part_alone(work: Work) -> None:
    rows = Actor(work)({"item": [1, 3]})
    assert [(done["part"], done["rows"]) for done in rows["done"]] == [
        ("a-00001.parquet", 30),
        ("a-00003.parquet", 10),
    ]
    assert rows["error"] == ["", ""]
    expected = {f"d{row}": fake_embedding(TEXTS[row]).tobytes() for row in (*range(30, 60), *range(90, 100))}
    assert vectors(work.job.output) == expected


def test_a_node_that_would_make_other_vectors_is_refused(work: Work) -> None:
    other = dataclasses.replace(work, identity={"model": "b"})
    assert Actor(other)({"item": [0]}) == {
        "done": [{}],
        "error": [
            "a node of the cluster would make other vectors: it has model a, not b; wanted the same on all "
            "nodes: make them alike, or add --mixed"
        ],
    }
    mixed = dataclasses.replace(other, job=dataclasses.replace(work.job, mixed=True))
    assert Actor(mixed)({"item": [0]})["error"] == [""]


def test_an_input_that_changed_is_an_error_of_its_part(work: Work) -> None:
    write_texts(work.parts[0].source.path, ["baker"] * 100)
    assert Actor(work)({"item": [1]})["error"] == [
        f"{work.parts[0].source.path} changed while it was read: run the command again when it is whole"
    ]
    assert not work.job.output.exists() or not list(work.job.output.glob("*.parquet"))


def test_a_bad_row_is_an_error_of_its_part(work: Work) -> None:
    path = write_texts(work.parts[0].source.path, [None, *TEXTS[1:]])
    source = dataclasses.replace(work.parts[0].source, stamp=stamp_of(path))
    rows = Actor(dataclasses.replace(work, parts=parts_of(source, 30)))({"item": [0]})
    assert rows["error"][0].endswith(
        "a.parquet: row 1 has null for its text; wanted a text: mend it, or leave "
        "such rows out with --on-error skip"
    )


def test_an_artifact_is_unpacked_once(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("model.onnx", b"model")
    for _ in range(2):
        unpack("fake-1", stream.getvalue(), tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["fake-1"]
    assert (tmp_path / "cache" / "fake-1" / "model.onnx").read_bytes() == b"model"


def test_an_address_where_nothing_listens_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray, which would wait for minutes, is not asked."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'embedopt[ray]'")
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray was asked"))
    with socket.socket() as free:  # bound, and nobody listens
        free.bind(("127.0.0.1", 0))
        address = f"ray://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UsageError) as caught:
            _connect(address)
    assert str(caught.value) == (
        f"--ray {address}: no cluster answers ([Errno 111] Connection refused); wanted local or an address "
        "such as head:6379: start one with ray start --head"
    )


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "head:99999",
            "--ray head:99999: no cluster answers (port must be 0-65535); wanted local or an address such as "
            "head:6379: start one with ray start --head",
        ),
        (
            "local",
            "--ray local: Ray does not start on this machine: [Errno 28] No space left on device; wanted a "
            "machine that it can start on: mend the cause, or leave --ray out",
        ),
    ],
)
def test_a_port_beyond_all_and_a_full_disk_are_one_true_line(
    monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'embedopt[ray]'")

    def connect(*_: object) -> None:
        raise OverflowError("port must be 0-65535")

    def init(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(socket, "create_connection", connect)  # no name server is asked
    monkeypatch.setattr("ray.init", init)
    with pytest.raises(UsageError) as caught:
        _connect(address)
    assert str(caught.value) == message
