"""What the vectors of a job depend on, in words."""

from collections.abc import Callable
from pathlib import Path

import pytest

from embedopt.bulk.identity import identity_of
from embedopt.bulk.job import Columns, EmbedderOptions, Job
from embedopt.bulk.progress import Progress


@pytest.mark.parametrize(
    ("backend", "ray", "expected"),
    [
        ("onnx-int8-dynamic", None, ["3", "512", "8192"]),
        ("onnx-int8-dynamic", "local", ["1", "512", "8192"]),
        ("onnx-fp32", None, [None, None, None]),
    ],
)
def test_what_decides_a_batch_counts_where_vectors_depend_on_it(
    tiny_model: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    ray: str | None,
    expected: list[str | None],
) -> None:
    monkeypatch.setattr("embedopt.bulk.identity.replicas_and_threads", lambda mode: (3, 1))
    options = EmbedderOptions(backend=backend, model=str(tiny_model()))
    job = Job(inputs=(), output=Path("out"), columns=Columns(), embedder=options, ray=ray)
    identity = identity_of(job, Progress())
    names = ("replicas", "tokens of a batch", "rows of a chunk")
    assert [identity.get(name) for name in names] == expected
    assert identity["backend"] == backend
