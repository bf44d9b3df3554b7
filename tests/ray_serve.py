"""The deployment of docs/how-much-load.md on a local Ray, and clients that ask it.

In a process of its own: Ray leaves threads and warnings behind.
"""

import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import serve

from embedopt.inference.backends import get_backend
from embedopt.inference.encoder import FloatArray
from embedopt.inference.encoders.http import HttpEncoder
from embedopt.inference.targets import declare_targets
from embedopt.measure.load_test.open_loop import Traffic, drive
from embedopt.measure.load_test.servers import batchings_of, open_server
from tests.fakes import FakeEncoder, fake_embedding

# What the page opens, and what takes its place.
_OPENED = 'AdaptiveBatcher(load_encoder("onnx-int8"))'
_HELD = "AdaptiveBatcher(HeldEncoder({fifo!r}), Limits(promise_ms=60_000, max_waiting=4))"


class HeldEncoder(FakeEncoder):
    """An encoder that works on the text "hold" until somebody has written to a FIFO."""

    def __init__(self, fifo: str) -> None:
        super().__init__()
        self._fifo = fifo

    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        if "hold" in texts:
            Path(self._fifo).read_bytes()
        return super()._encode(texts, batch_size)


class Client:
    """Asks the deployment."""

    def __init__(self, port: int) -> None:
        self._port = port

    def send(self, texts: list[str]) -> HTTPConnection:
        """Send a request and do not wait for its answer."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=120)
        connection.request("POST", "/embed", json.dumps({"inputs": texts}))
        return connection

    def ask(self, *texts: str) -> tuple[int, Any]:
        """Return status and content of an answer."""
        connection = self.send(list(texts))
        answer = connection.getresponse()
        content = json.loads(answer.read())
        connection.close()
        return answer.status, content


def main(code: str, fifo: str) -> None:
    """Serve and ask; print what came of it as JSON."""
    os.mkfifo(fifo)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(address="local", num_cpus=2, include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    assert code.count(_OPENED) == 1
    module: dict[str, Any] = {"__name__": "__main__", "HeldEncoder": HeldEncoder}
    exec("from embedopt import Limits\n" + code.replace(_OPENED, _HELD.format(fifo=fifo)), module)
    serve.run(module["app"])
    client = Client(port)
    with ThreadPoolExecutor(8) as pool:
        seen = {
            "answers": client.ask("nurse", "welder"),
            "overload": _overload(client, pool, fifo),
            "gone": _gone(client, pool, fifo),
            "load": _load_test(port, Path(fifo).parent),
        }
    serve.shutdown()
    ray.shutdown()
    print(json.dumps(seen))


def _overload(client: Client, pool: ThreadPoolExecutor, fifo: str) -> list[int]:
    """Return the statuses of three requests too many, then of those that waited and of the one held."""
    held = pool.submit(client.ask, "hold")
    with Path(fifo).open("w", encoding="utf8"):  # opens when the encoder reads: it is held from here on
        others = [pool.submit(client.ask, f"text {number}") for number in range(7)]
        ended = as_completed(others)
        refused = [next(ended).result()[0] for _ in range(3)]
    return [*refused, *(future.result()[0] for future in ended), held.result()[0]]


def _gone(client: Client, pool: ThreadPoolExecutor, fifo: str) -> int:
    """Let four clients go away while they wait; return how many of eight others get their own answers."""
    held = pool.submit(client.ask, "hold")
    with Path(fifo).open("w", encoding="utf8"):
        for number in range(4):
            client.send([f"gone {number}"]).close()
    assert held.result()[0] == 200
    texts = [f"text {number}" for number in range(8)]
    answers = pool.map(lambda text: _insist(client, text), texts)
    return sum(answer == [fake_embedding(text).tolist()] for text, answer in zip(texts, answers, strict=True))


def _load_test(port: int, folder: Path) -> list[float | None]:
    """Send four requests as benchmarks/test_load.py does; return the shares answered in time and refused."""
    table = f'[tool.embedopt.targets.service]\nurl = "http://127.0.0.1:{port}/embed"\n'
    (folder / "pyproject.toml").write_text(table, encoding="utf8")
    declare_targets(folder)
    texts = [f"text {number}" for number in range(4)]
    alone = np.stack([fake_embedding(text) for text in texts])
    with HttpEncoder(get_backend("service"), folder) as encoder:
        server = open_server(batchings_of(encoder)[-1], encoder, 60_000.0)
        point = drive(server, np.arange(4) / 1e3, Traffic(texts=texts, promise_ms=60_000.0, alone=alone))
        server.close()
    return [point.kept_share, point.refused_share, round(point.worst_cosine or 0.0, 5)]


def _insist(client: Client, text: str) -> Any:
    while (answer := client.ask(text))[0] == 503:  # the queue has four places
        pass
    return answer[1]


if __name__ == "__main__":
    main(*sys.argv[1:])
