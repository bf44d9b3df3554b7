"""Made-up shards of one run."""

import dataclasses
from typing import Any

from embedopt.judge.history.saved_runs import parse_run
from embedopt.judge.merge import Shard
from tests.runs import make_file, make_run


def make_shard(
    name: str, backend: str, *, slower: float = 1.0, commit: str = "c" * 40, **changes: Any
) -> Shard:
    """A shard with the reference and one backend, on a machine ``slower`` times as slow."""
    kept = {"torch-fp32", backend}
    whole = make_run(**changes)
    parts = ("backends", "accuracy", "throughput", "footprint")
    own: dict[str, Any] = {
        part: {key: value for key, value in getattr(whole, part).items() if key in kept} for part in parts
    }
    own["throughput"] = {
        name: dataclasses.replace(
            rates, texts_per_s=rates.texts_per_s / slower, in_order_per_s=rates.in_order_per_s / slower
        )
        for name, rates in own["throughput"].items()
    }
    content = make_file(dataclasses.replace(whole, **own)) | {"commit_info": {"id": commit}}
    content["benchmarks"] = [
        bench for bench in content["benchmarks"] if bench["extra_info"]["backend"] in kept
    ]
    for bench in content["benchmarks"]:
        for field, factor in (("p50_ms", slower), ("texts_per_s", 1 / slower)):
            if field in bench["extra_info"] and isinstance(bench["extra_info"][field], float):
                bench["extra_info"][field] *= factor
    return parse_run(name, content), content
