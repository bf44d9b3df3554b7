"""Endpoints that tests control: in this process, or an ASGI app that uvicorn runs in a project."""

import base64
import contextlib
import json
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.inference.projects import make_project

Answer = Callable[[str, Any], tuple[int, Any]]

# An ASGI application in OpenAI's format, without any framework.
API = """
import base64, json, struct

def embed(texts):
    return [[float(len(text)), 1.0 + sum(map(ord, text)) % 97, 3.0] for text in texts]

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    request = json.loads(body)
    rows = embed(request["input"])
    data = [
        {"index": index, "embedding": base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode()}
        for index, row in enumerate(rows)
    ]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/json")]})
    await send({"type": "http.response.body", "body": json.dumps({"data": data}).encode()})
"""
START = "python -m uvicorn shop.api:app --port {port} --log-level error"


def make_service(folder: Path, api: str = API, start: str = START, **settings: Any) -> Path:
    """Make a project whose target ``shop`` is a service that its command starts; return its folder."""
    url = "http://127.0.0.1:{port}/v1/embeddings"
    project = make_project(folder, **{"call": None, "url": url, "start": start, **settings})
    (project / "src" / "shop" / "api.py").write_text(api, encoding="utf8")
    return project


def rows_of(texts: list[str]) -> list[list[float]]:
    """Return what the endpoints here answer to texts."""
    return [[float(len(text)), 1.0 + sum(map(ord, text)) % 97, 3.0] for text in texts]


def in_base64(row: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode("ascii")


@contextlib.contextmanager
def endpoint(answer: Answer) -> Iterator[str]:
    """Run a server on a port of this machine, and yield its address; ``answer`` gets path and body."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the name that the library calls
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, values = answer(self.path, {"headers": dict(self.headers), **body})
            data = values if isinstance(values, bytes) else json.dumps(values).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
