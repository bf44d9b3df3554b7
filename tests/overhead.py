"""What a foreign process, or HTTP, adds to a single call: ``python -m tests.overhead [BACKEND [PAIRS]]``.

A backend of ours is called in the process that opened it, and as a target of a project. Both have fresh
processes in each process pair, and are called in turns on a quiet machine.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

from embedopt.measure.corpus import load_corpus
from embedopt.measure.latency import as_new
from embedopt.measure.pairs.process_pair import Work, live_pair
from embedopt.measure.pairs.worker_client import Checkout, WorkerClient
from tests.inference.endpoints import API, START, make_service
from tests.inference.projects import make_project

_CORPUS = Path(__file__).parents[1] / "benchmarks" / "corpus"
_WARM_UP, _QUADS = 10, 100
_CALLED = "from embedopt import load_encoder\nencode = load_encoder({backend!r}).encode\n"
_SERVED = _CALLED + "def embed(texts):\n    return encode(texts).tolist()\n"


def _pair(folder: Path, backend: str, number: int, texts: list[str]) -> tuple[float, float]:
    """Return seconds of a call in process and as a target: the medians of one process pair."""
    checkout = Checkout(name="worker", root=folder, python=sys.executable, installed=True)
    with live_pair(number, lambda: WorkerClient(checkout), lambda: WorkerClient(checkout)) as pair:
        names = {id(pair.base): backend, id(pair.head): "shop"}
        for client in pair.in_order:
            client.ask("load", **Work(texts=()).opening(names[id(client)], of_base=True))
        seconds: dict[int, list[float]] = {id(pair.base): [], id(pair.head): []}
        for turn, text in enumerate(texts[: _WARM_UP + _QUADS]):
            early, late = as_new([text]), as_new([text])
            for client, asked in zip(pair.quad(turn), (early, early, late, late), strict=True):
                values = {"backend": names[id(client)], "texts": asked, "batch_size": None, "extra": 0.0}
                seconds[id(client)].append(client.ask("time", **values)["seconds"])
    own, other = (float(np.median(times[2 * _WARM_UP :])) for times in seconds.values())
    return own, other


def main(backend: str = "onnx-int8", pairs: str = "12") -> None:
    """Print a row of the backend in its process, and of both targets."""
    texts = list(load_corpus(_CORPUS).request_texts)
    with tempfile.TemporaryDirectory() as folder:
        called = _CALLED.format(backend=backend)
        api = API.replace("async def app", _SERVED.format(backend=backend) + "\n\nasync def app")
        projects = {
            "foreign process": make_project(Path(folder, "call"), called, call="shop.embedding:encode"),
            "HTTP": make_service(Path(folder, "http"), api, START),
        }
        for name, project in projects.items():
            seconds = np.asarray([_pair(project, backend, number, texts) for number in range(int(pairs))])
            own_ms, other_ms = 1e3 * np.median(seconds, axis=0)
            logs = np.log(seconds[:, 1] / seconds[:, 0])
            half = stats.sem(logs) * stats.t.ppf(0.975, len(logs) - 1)
            low, middle, high = 100 * np.expm1(np.array([-half, 0.0, half]) + logs.mean())
            print(f"{backend} in its process {own_ms:.3f} ms, {name} {other_ms:.3f} ms", end=": ")
            print(f"{middle:+.2f} % ({low:+.2f} to {high:+.2f}) in {pairs} process pairs", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
