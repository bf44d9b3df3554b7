"""Made-up runs with round figures."""

import dataclasses
from typing import Any

from embedopt.conditions import BackendInfo, CorpusInfo, Machine, Model
from embedopt.records import SCHEMA, Accuracy, Footprint, Latency, LoadPoint, LoadTest, Run, Throughput
from embedopt.schema import to_json

# What a stranger may write in place of a name: HTML, Markdown, commands of a terminal and of GitHub's runner.
HOSTILE = (
    "</script><img src=x onerror=alert(1)><b>bold</b>|`**x** @someone #1 [a](http://example.com) "
    "<details>\x1b[31m\r\n::error::pwned ##[error]pwned [red]$plotly %{x} &lt;"
)


def make_run(**changes: Any) -> Run:
    """A run of three backends; each factor of a speed-up is a round number."""
    machine = Machine(
        cpu="Test CPU",
        instruction_sets=("avx2", "vnni"),
        cores=2,
        threads=2,
        system="Linux x86_64",
        python="3.11.7",
        libraries={"torch": "2.13.0"},
    )
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "hardware_class": machine.hardware_class,
        "machine": machine,
        "model": Model(name="tiny", digest="a" * 64),
        "corpus": CorpusInfo(name="corpus", digest="b" * 64, texts=805, mean_tokens=23.5),
        "profile": "full",
        "reference": "torch-fp32",
        "backends": {
            "torch-fp32": BackendInfo(precision="fp32", base=None, settings={}),
            "onnx-fp32": BackendInfo(
                precision="fp32", base=None, settings={"session.intra_op.allow_spinning": "0"}
            ),
            "onnx-int8": BackendInfo(precision="int8", base="onnx-fp32", settings={"per_channel": True}),
        },
        "accuracy": {
            "torch-fp32": Accuracy(
                texts=805, cosine_mean=1.0, cosine_min=1.0, recall_at_10=0.5, overlap_at_10=1.0
            ),
            "onnx-int8": Accuracy(
                texts=805,
                cosine_mean=0.99337,
                cosine_p1=0.985,
                cosine_min=0.98112,
                batch_invariance_min=0.984321,
                recall_at_10=0.49,
                overlap_at_10=0.9,
            ),
        },
        "throughput": {
            "torch-fp32": _throughput(200, 250),
            "onnx-fp32": _throughput(300, 400),
            "onnx-int8": _throughput(1000, 1250),
        },
        "footprint": {
            "torch-fp32": Footprint(disk_bytes=91_600_000, load_s=4.5, peak_rss_bytes=600_000_000),
            "onnx-int8": Footprint(disk_bytes=23_400_000, load_s=0.25, peak_rss_bytes=150_000_000),
        },
    }
    return Run(**(values | changes))


def make_load() -> dict[str, dict[str, LoadTest]]:
    """Load tests of two backends: adaptive ends in an overload; with a window the generator fell behind."""
    return {
        "torch-fp32": {"none": _load(40.0, _load_point(25.0, 20.0), _load_point(75.0, 400.0))},
        "onnx-int8": {
            "none": _load(400.0, _load_point(200.0, 5.0)),
            "window": _load(None, LoadPoint(rate_per_s=200.0, seconds=2.0, fell_behind=True)),
            "adaptive": dataclasses.replace(
                _load(500.0, _load_point(600.0, 24.0), _load_point(200.0, 5.0)),
                overload=LoadPoint(
                    rate_per_s=1500.0,
                    seconds=30.0,
                    p50_ms=25.0,
                    p95_ms=40.0,
                    p99_ms=48.5,
                    kept_share=0.3,
                    refused_share=0.69,
                    refusal_ms=0.25,
                    generator_cpu=0.1,
                ),
                overload_growth_bytes=2_300_000,
                soak_growth_bytes=500_000,
            ),
        },
    }


def _load(highest_per_s: float | None, *points: LoadPoint) -> LoadTest:
    return LoadTest(
        replicas=2,
        promise_ms=50.0,
        single_per_s=600.0,
        highest_per_s=highest_per_s,
        worst_cosine=0.97815,
        points=points,
    )


def _load_point(rate_per_s: float, p50_ms: float) -> LoadPoint:
    return LoadPoint(
        rate_per_s=rate_per_s,
        seconds=2.0,
        p50_ms=p50_ms,
        p95_ms=2 * p50_ms,
        p99_ms=3 * p50_ms,
        kept_share=1.0,
        refused_share=0.0,
        lost=0,
        generator_cpu=0.025,
    )


def make_file(run: Run | None) -> dict[str, Any]:
    """The content of a saved file: latency benchmarks of three backends, and one of another suite."""
    rates = {"torch-fp32": 100.0, "onnx-fp32": 200.0, "onnx-int8": 500.0}
    sizes = {"torch-fp32": (1, 8, 32, 64), "onnx-fp32": (1,), "onnx-int8": (1, 8, 32, 64)}
    latencies = [_latency(name, size, rate) for name, rate in rates.items() for size in sizes[name]]
    benchmarks: list[dict[str, Any]] = [
        {"fullname": f"test_latency[{latency.backend}-{latency.batch_size}]", "extra_info": to_json(latency)}
        for latency in latencies
    ]
    benchmarks.append({"fullname": "test_other", "extra_info": {"backend": "onnx-int8", "p50_ms": "theirs"}})
    return {"benchmarks": benchmarks} | ({"embedopt": to_json(run)} if run else {})


def _latency(backend: str, batch_size: int, texts_per_s: float) -> Latency:
    return Latency(
        backend=backend,
        batch_size=batch_size,
        calls=400,
        p50_ms=2.0 * batch_size,
        p50_ci_ms=(1.9 * batch_size, 2.1 * batch_size),
        p95_ms=3.0 * batch_size,
        p95_ci_ms=(2.9 * batch_size, 3.1 * batch_size),
        texts_per_s=texts_per_s,
    )


def _throughput(in_order: float, planned: float) -> Throughput:
    return Throughput(
        batch_size=32,
        in_order_per_s=in_order,
        texts_per_s=planned,
        in_order_padding=0.5,
        padding=0.2,
        seconds=10.0,
    )
