"""Encoding a data set from Parquet to Parquet: speed, memory, and the time to resume with nothing left.

``python -m embedopt.measure.bulk`` is the process that is measured.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from embedopt.measure.footprint import peak_rss_bytes, run_measurement
from embedopt.measure.options import Options
from embedopt.records import Throughput

# Rows of a row group: as many as pyarrow writes by itself into a file of a million rows.
_ROW_GROUP_ROWS = 131_072


def measure_bulk(backend: str, texts: Sequence[str], options: Options) -> Throughput:
    """Encode a generated Parquet file in a process of its own.

    Args:
        backend: name of the backend.
        texts: texts that the rows are made of.
        options: options of the run: the number of rows, the model and the cache.

    Raises:
        MeasureError: the process failed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory() as folder:
        numbered = [f"{text} {row}" for row, text in enumerate(islice(cycle(texts), options.bulk_texts))]
        pq.write_table(pa.table({"text": numbered}), f"{folder}/in.parquet", row_group_size=_ROW_GROUP_ROWS)
        embedder = {
            "backend": backend,
            "model": options.model,
            "revision": options.revision,
            "trust_remote_code": options.trust_remote_code,
        }
        arguments = (folder, str(options.cache_dir or ""))
        measured = run_measurement(__name__, f"encodes with {backend}", json.dumps(embedder), *arguments)
    return Throughput(
        bulk_texts=options.bulk_texts,
        bulk_per_s=measured["per_s"],
        bulk_share=measured["share"],
        bulk_resume_s=measured["resume_s"],
        bulk_peak_bytes=int(measured["peak_rss_bytes"]),
    )


def main(argv: list[str]) -> None:
    """Encode as the JSON on standard input says, and print the measurements as JSON.

    Args:
        argv: folder with the generated file, folder of the artifacts or an empty string.
    """
    from embedopt.bulk.encode import encode_files
    from embedopt.bulk.job import Columns, EmbedderOptions, Job
    from embedopt.bulk.progress import Progress

    folder, cache = Path(argv[0]), argv[1]
    job = Job(
        inputs=(str(folder / "in.parquet"),),
        output=folder / "out",
        columns=Columns(),
        embedder=EmbedderOptions(cache_dir=Path(cache) if cache else None, **json.load(sys.stdin)),
    )
    with Progress() as progress:
        totals = encode_files(job, progress)
        peak = peak_rss_bytes()
        started_s = time.perf_counter()
        encode_files(job, progress)
    resume_s = time.perf_counter() - started_s
    measurements = {
        "per_s": totals.encoded / totals.seconds,
        "share": totals.encoding_s / totals.seconds,
        "resume_s": resume_s,
        "peak_rss_bytes": peak,
    }
    print(json.dumps(measurements))


if __name__ == "__main__":
    main(sys.argv[1:])
