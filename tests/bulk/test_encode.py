"""From files to a folder of embeddings: layout, resuming, refusals."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from embedopt.bulk.job import Columns, EmbedderOptions
from embedopt.bulk.manifest import DonePart, Manifest
from embedopt.bulk.progress import Totals, summary
from embedopt.errors import EmbedoptError, InputError, OutputError, UsageError
from embedopt.schema import to_json
from tests.bulk.jobs import TEXTS, manifest_lines, run_job, vectors, write_texts
from tests.fakes import DIM, FakeEncoder, fake_embedding

EXPECTED = {f"d{number}": fake_embedding(text).tobytes() for number, text in enumerate(TEXTS)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_texts(tmp_path / "in" / "a.parquet")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def files(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def test_each_id_has_the_embedding_of_its_text(source: Path, out: Path) -> None:
    totals = run_job(out, source)
    assert vectors(out) == EXPECTED
    assert (totals.parts, totals.rows, totals.rejected, totals.encoded) == (5, 100, 0, 100)
    assert files(out) == ["_lock", "_manifest.jsonl", *(f"a-0000{index}.parquet" for index in range(5))]


def test_the_columns_and_where_they_come_from(source: Path, out: Path) -> None:
    run_job(
        out,
        source,
        columns=Columns(id="doc", keep=("lang", "text")),
        embedder=EmbedderOptions(dtype="float16"),
    )
    schema = pq.read_schema(out / "a-00000.parquet")
    assert schema.names == ["id", "lang", "text", "embedding"]
    assert [field.type for field in schema] == [
        pa.string(), pa.string(), pa.string(), pa.list_(pa.field("element", pa.float16()), DIM)
    ]  # fmt: skip
    provenance = json.loads(schema.metadata[b"embedopt"])
    assert provenance["model"] == "a"
    assert provenance["source"] == "a.parquet"
    assert vectors(out)["d3"] == fake_embedding(TEXTS[3]).astype(np.float16).tobytes()


def test_without_an_id_column_the_id_is_the_row_from_1(source: Path, out: Path) -> None:
    run_job(out, source, columns=Columns())
    assert vectors(out) == dict(enumerate(EXPECTED.values(), 1))


def test_row_groups_order_and_files_do_not_change_a_vector(tmp_path: Path, out: Path) -> None:
    shuffled = np.random.default_rng(0).permutation(len(TEXTS))
    table = pq.read_table(write_texts(tmp_path / "in" / "a.parquet")).take(shuffled)
    pq.write_table(table.slice(0, 33), tmp_path / "in" / "b.parquet", row_group_size=5)
    (tmp_path / "in" / "deep").mkdir()
    pq.write_table(table.slice(33), tmp_path / "in" / "deep" / "c.parquet", row_group_size=64)
    (tmp_path / "in" / "a.parquet").unlink()
    run_job(out, tmp_path / "in")
    assert vectors(out) == EXPECTED
    assert "deep/c-00003.parquet" in files(out)


def test_a_run_killed_three_times_loses_at_most_the_part_in_progress(source: Path, out: Path) -> None:
    done = []
    for calls in (1, 5, 3):  # two calls a part
        command = [sys.executable, "-m", "tests.bulk.jobs", str(out), str(source), str(calls)]
        killed = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True)
        assert killed.returncode == -signal.SIGKILL
        done.append(sum("part" in line for line in manifest_lines(out)) if out.exists() else 0)
    assert done == [0, 2, 3]
    encoder = FakeEncoder()
    assert run_job(out, source, encoder=encoder).encoded == 40
    assert [len(texts) for texts in encoder.calls] == [10, 10, 10, 10]
    assert vectors(out) == EXPECTED
    assert files(out) == ["_lock", "_manifest.jsonl", *(f"a-0000{index}.parquet" for index in range(5))]


def test_a_manifest_cut_short_by_a_kill_is_mended(source: Path, out: Path) -> None:
    run_job(out, source)
    manifest = out / "_manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-10])
    assert run_job(out, source).encoded == 20
    assert len(manifest_lines(out)) == 6
    assert run_job(out, source).encoded == 0


def test_only_what_is_missing_is_encoded(source: Path, out: Path) -> None:
    run_job(out, source)
    (out / "a-00002.parquet").unlink()
    write_texts(source.with_name("b.parquet"), ["baker"] * 3)
    encoder = FakeEncoder()
    totals = run_job(out, source.parent, encoder=encoder)
    assert (totals.encoded, totals.rows) == (23, 103)
    assert [len(texts) for texts in encoder.calls] == [10, 10, 3]


def test_summary_counts_what_this_run_did_and_its_price(source: Path, out: Path) -> None:
    totals = run_job(out, source)
    lines = summary(out, totals, 3.6)
    assert lines[0] == f"{out}: 100 embeddings in 5 files"
    assert lines[1].startswith("100 texts in ")
    assert "at $3.60 an hour" in lines[1]
    assert summary(out, run_job(out, source), 3.6)[1] == "nothing was left to encode"


def test_summary_names_the_price_of_all_machines(out: Path) -> None:
    totals = Totals(
        parts=1, rows=10, rejected=0, encoded=10, seconds=3600.0, encoding_s=0.0, machines=4, others=0
    )
    assert summary(out, totals, 0.05)[1] == (
        "10 texts in 3,600.0 s, 0 texts/s; $0.2000 at $0.05 an hour for each of 4 machines, "
        "$20000.000 per million texts"
    )


def test_summary_counts_the_files_of_other_inputs(source: Path, out: Path) -> None:
    run_job(out, source)
    other = write_texts(source.with_name("b.parquet"), ["baker"])
    assert summary(out, run_job(out, other), 3.6)[:2] == [
        f"{out}: 1 embeddings in 1 file",
        "5 further files of inputs that were not named: delete what is unwanted",
    ]


def test_a_changed_input_is_refused(source: Path, out: Path) -> None:
    run_job(out, source)
    write_texts(source, [*TEXTS[:-1], "welder"])
    with pytest.raises(OutputError, match=r"in another way: .*a\.parquet has changed; choose another folder"):
        run_job(out, source)
    assert vectors(out) == EXPECTED
    assert run_job(out, source, mixed=True).encoded == 0
    assert run_job(out, source, force=True).encoded == 100
    assert vectors(out)["d99"] == fake_embedding("welder").tobytes()


def test_an_input_that_was_emptied_is_refused(source: Path, out: Path) -> None:
    run_job(out, source)
    write_texts(source, [])
    with pytest.raises(OutputError, match=r"a\.parquet has changed"):
        run_job(out, source)


def test_rows_that_an_input_gained_are_encoded_with_mixed(source: Path, out: Path) -> None:
    write_texts(source, TEXTS[:25])
    run_job(out, source)
    write_texts(source, TEXTS[:30])
    assert run_job(out, source, mixed=True).encoded == 10  # the part that grew
    assert vectors(out) == {key: EXPECTED[key] for key in list(EXPECTED)[:30]}


def test_what_changed_is_named_in_the_order_of_the_identity(tmp_path: Path) -> None:
    done = DonePart(part="a-00000.parquet", source="a", digest="1", rows=1, rejected=0)
    manifest = Manifest(tmp_path, [{"model": "a"}, to_json(done)])
    now = {"model": "b", **dict.fromkeys("zyxwvutsrqponml", "1")}
    expected = ["model was a, is now b", *(f"{name} was none, is now 1" for name in "zyxwvutsrqponml")]
    assert manifest.changes(now, []) == expected


def test_a_folder_with_vectors_of_another_model_is_refused(source: Path, out: Path) -> None:
    run_job(out, source)
    (out / "a-00001.parquet").unlink()
    with pytest.raises(OutputError, match="model was a, is now b; choose another folder"):
        run_job(out, source, identity={"model": "b"})
    assert run_job(out, source, identity={"model": "b"}, mixed=True).encoded == 20
    made_by = [
        json.loads(pq.read_schema(out / f"a-0000{index}.parquet").metadata[b"embedopt"])["model"]
        for index in range(3)
    ]
    assert made_by == ["a", "b", "a"]


def test_a_folder_that_cant_be_written_is_one_line(source: Path, out: Path) -> None:
    """A folder in the place of the lock stands in for a disk that is read only, which root does not feel."""
    (out / "_lock").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"out can't be written \(.*\): choose another place with -o"):
        run_job(out, source)


def test_a_folder_of_something_else_is_refused(source: Path, out: Path) -> None:
    out.mkdir()
    (out / "notes.txt").write_text("mine", "utf8")
    with pytest.raises(OutputError, match=r"holds notes\.txt and no _manifest\.jsonl"):
        run_job(out, source)


def test_a_damaged_manifest_is_named(source: Path, out: Path) -> None:
    run_job(out, source)
    (out / "_manifest.jsonl").write_text("no json\n", "utf8")
    with pytest.raises(OutputError, match=r"_manifest\.jsonl is damaged"):
        run_job(out, source)


def test_one_process_at_a_time(source: Path, out: Path) -> None:
    out.mkdir()
    with FileLock(out / "_lock"), pytest.raises(OutputError, match="another process writes to"):
        run_job(out, source)


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(source: Path, out: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    run_job(out, source)
    (out / "a-00003.parquet").unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError) as raised:
            run_job(out, source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(raised.value) == (
        f"{out / 'a-00003.parquet'} can't be written (file too large): make room or choose another place "
        "with -o, and run the command again: it goes on where it was"
    )
    assert run_job(out, source).encoded == 20
    assert vectors(out) == EXPECTED


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (None, "has null for its text"),
        (b"\xff", "has a text that is no valid UTF-8 ('utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_bad_row_ends_the_job_or_is_rejected(tmp_path: Path, out: Path, bad: Any, reason: str) -> None:
    texts = pa.array([text.encode() for text in TEXTS[:30]] + [bad], pa.binary())
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "a.parquet"
    ids = [f"d{number}" for number in range(31)]
    pq.write_table(pa.table({"doc": ids, "text": texts.view(pa.string())}), file)
    with pytest.raises(InputError) as raised:
        run_job(out, file)
    assert str(raised.value).startswith(f"{file}: row 31 {reason}")
    assert str(raised.value).endswith("; wanted a text: mend it, or leave such rows out with --on-error skip")
    totals = run_job(out, file, skip_bad_rows=True)
    assert (totals.rows, totals.rejected) == (30, 1)
    reject = json.loads((out / "_rejects" / "a-00001.parquet.jsonl").read_text("utf8"))
    assert (reject["row"], reject["id"]) == (31, "d30")
    assert reject["reason"].startswith(reason)
    assert vectors(out) == {key: EXPECTED[key] for key in ids[:30]}
    assert summary(out, totals, 0.0)[0].endswith(f", 1 rows rejected: see {out / '_rejects'}")


def _strings(*values: bytes | None) -> pa.Array:
    return pa.array(values, pa.binary()).view(pa.string())


def test_values_that_the_output_would_take_over_are_checked_too(tmp_path: Path, out: Path) -> None:
    file = tmp_path / "a.parquet"
    table = {
        "doc": _strings(b"a", b"b\xff", None, b"d"),
        "text": TEXTS[:4],
        "tags": pa.ListArray.from_arrays([0, 1, 2, 3, 4], _strings(b"x", b"y", b"z", b"\xfe")),
    }
    pq.write_table(pa.table(table), file)
    columns = Columns(id="doc", keep=("tags",))
    assert run_job(out, file, columns=columns, skip_bad_rows=True).rows == 1
    lines = (out / "_rejects" / "a-00000.parquet.jsonl").read_text("utf8").splitlines()
    assert [tuple(json.loads(line).values()) for line in lines] == [
        (2, "b\\xff", "has a value in the column doc that is no valid UTF-8"),
        (3, None, "has a null in the column doc"),
        (4, "d", "has a value in the column tags that is no valid UTF-8"),
    ]


def test_a_row_of_json_lines_says_what_is_wrong_with_it(tmp_path: Path, out: Path) -> None:
    file = tmp_path / "a.jsonl"
    good, bad_id = b'{"doc": "a", "text": "nurse"}', b'{"doc": "\xff", "text": "nurse"}'
    file.write_bytes(b"\n".join([good, b"no", b'{"text": "nurse"}', b'{"doc": 1}', bad_id]))
    assert run_job(out, file, skip_bad_rows=True).rows == 1
    lines = (out / "_rejects" / "a.jsonl-00000.parquet.jsonl").read_text("utf8").splitlines()
    assert [tuple(json.loads(line).values()) for line in lines] == [
        (2, None, "is not JSON (Expecting value: line 1 column 1 (char 0))"),
        (3, None, "has a null in the column doc"),
        (4, "1", "has no text"),
        (5, r"\xed\xb3\xbf", "has a value in the column doc that is no valid UTF-8"),
    ]


def test_a_part_of_bad_rows_alone_is_done_too(tmp_path: Path, out: Path) -> None:
    file = write_texts(tmp_path / "in" / "a.parquet", [None, None])
    assert run_job(out, file, skip_bad_rows=True).rejected == 2
    assert run_job(out, file, skip_bad_rows=True).encoded == 0


def test_a_file_that_changes_meanwhile_is_an_error(tmp_path: Path, out: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("nurse\n" * 50, "utf8")

    def shrink(_: int) -> None:
        file.write_text("nurse\n" * 10, "utf8")

    with pytest.raises(InputError, match="changed while it was read: run the command again"):
        run_job(out, file, columns=Columns(), encoder=FakeEncoder(on_encode=shrink), part_rows=10)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns(text="body"), "has no columns 'body' among doc, text, lang; wanted one"),
        (Columns(id="key"), "has no columns 'key' among doc, text, lang; wanted one"),
    ],
)
def test_a_missing_column_is_named(source: Path, out: Path, columns: Columns, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_job(out, source, columns=columns)


def test_mixed_schemas_are_refused(source: Path, out: Path) -> None:
    other = source.with_name("b.parquet")
    pq.write_table(pa.table({"doc": [1, 2], "text": ["a", "b"]}), other)
    with pytest.raises(InputError, match=r"b\.parquet: column 'doc' is int64, in .*a\.parquet it is string"):
        run_job(out, source.parent)


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="would have two columns 'id'"):
        Columns(id="doc", keep=("id",))


def test_an_error_of_the_encoder_leaves_no_file(source: Path, out: Path) -> None:
    def fail(_: int) -> None:
        raise EmbedoptError("closed")

    with pytest.raises(EmbedoptError, match="closed"):
        run_job(out, source, encoder=FakeEncoder(on_encode=fail))
    assert files(out) == ["_lock", "_manifest.jsonl"]
