"""Made-up histories on disk."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from embedopt.records import Run
from tests.runs import make_file, make_load, make_run

# Lasting shifts of onnx-int8 at batch 32, in logarithms by run: 8 % slower, faster, slower.
SHIFTS: Mapping[int, float] = {230: math.log(1.08), 500: -math.log(1.08), 780: math.log(1.08)}
_START = datetime(2025, 1, 1, tzinfo=UTC)


def write_history(folder: Path, runs: int, shifts: Mapping[int, float] = SHIFTS, *, seed: int = 7) -> Path:
    """Write runs an hour apart whose times spread by 3 %; the last one also has load tests."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(runs):
        run = (
            make_run(load=make_load(), pareto_front=("torch-fp32", "onnx-int8"))
            if index == runs - 1
            else make_run()
        )
        content = _content(run, index)
        level = sum(shift for at, shift in shifts.items() if index >= at)
        for bench in content["benchmarks"]:
            if "[onnx-" in bench["fullname"]:
                shift = level if "[onnx-int8-32]" in bench["fullname"] else 0.0
                factor = math.exp(shift + random.normal(0, 0.03))
                extra = bench["extra_info"]
                extra["p50_ms"] *= factor
                extra["p50_ci_ms"] = [end * factor for end in extra["p50_ci_ms"]]
        (folder / f"{index + 1:04}_run.json").write_text(json.dumps(content), encoding="utf8")
    return folder


def _content(run: Run, index: int) -> dict[str, Any]:
    time = _START + timedelta(hours=index)
    return make_file(run) | {"datetime": time.isoformat(), "commit_info": {"id": f"{index:040x}"}}
