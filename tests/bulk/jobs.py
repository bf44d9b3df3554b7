"""Jobs on fake encoders, whose vectors depend on the text alone."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedopt.bulk.encode import encode_files
from embedopt.bulk.job import Columns, Job
from embedopt.bulk.manifest import Identity
from embedopt.bulk.progress import Progress, Totals
from tests.fakes import FakeEncoder

TEXTS = [f"nurse {number} in Zürich" for number in range(100)]


def write_texts(file: Path, texts: list[Any] = TEXTS, row_group_size: int = 7) -> Path:
    """Write a Parquet file with the columns doc, text and lang."""
    table = pa.table(
        {
            "doc": [f"d{number}" for number in range(len(texts))],
            "text": pa.array(texts, pa.string()),
            "lang": ["de"] * len(texts),
        }
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=row_group_size)
    return file


def run_job(
    output: Path, *inputs: Path | str, identity: Identity | None = None, encoder: Any = None, **options: Any
) -> Totals:
    """Run a job with parts of 20 rows and chunks of 10, on a fake encoder."""
    settings = {"columns": Columns(id="doc"), "part_rows": 20, "chunk_rows": 10, **options}
    with pytest.MonkeyPatch.context() as patch, Progress() as progress:
        patch.setattr("embedopt.bulk.encode.identity_of", lambda *_: identity or {"model": "a"})
        patch.setattr("embedopt.bulk.job.load_encoder", lambda *_, **__: encoder or FakeEncoder())
        return encode_files(Job(inputs=tuple(map(str, inputs)), output=output, **settings), progress)


def vectors(output: Path) -> dict[Any, bytes]:
    """Return the bytes of the embedding of each id; no id may come twice."""
    table = pq.read_table(output)
    ids = table["id"].to_pylist()
    assert len(set(ids)) == len(ids)
    rows = table["embedding"].combine_chunks()
    matrix = np.asarray(rows.flatten()).reshape(len(rows), -1)
    return {key: vector.tobytes() for key, vector in zip(ids, matrix, strict=True)}


def killing_encoder(calls: int) -> FakeEncoder:
    """Return an encoder that kills its process by SIGKILL in a call, after ``calls`` others."""
    counted = iter(range(calls))

    def on_encode(_: int) -> None:
        if next(counted, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    return FakeEncoder(on_encode=on_encode)


def manifest_lines(output: Path) -> list[dict[str, Any]]:
    """Return the lines of a manifest."""
    return [json.loads(line) for line in (output / "_manifest.jsonl").read_text("utf8").splitlines()]


if __name__ == "__main__":  # a job of its own process, killed after some calls
    run_job(Path(sys.argv[1]), sys.argv[2], encoder=killing_encoder(int(sys.argv[3])))
