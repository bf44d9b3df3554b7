"""The bulk benchmark measures a process of its own."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from embedopt.measure.bulk import measure_bulk
from tests.measure.sessions import make_options


def test_a_generated_file_is_encoded_and_asked_for_again(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    options = make_options(tmp_path, model=str(tiny_model()))
    options = dataclasses.replace(options, bulk_texts=9, cache_dir=tmp_path)
    bulk = measure_bulk("onnx-fp32", ["welder", "nurse"], options)
    assert bulk.bulk_per_s is not None
    assert bulk.bulk_per_s > 0
    assert bulk.bulk_share is not None
    assert 0 < bulk.bulk_share < 1
    assert bulk.bulk_resume_s is not None
    assert bulk.bulk_peak_bytes is not None
    assert bulk.bulk_peak_bytes > 50e6
