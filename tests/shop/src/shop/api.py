"""The same embeddings behind HTTP, as OpenAI's API has them: python -m shop.api PORT."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from shop.embedding import embed


class Handler(BaseHTTPRequestHandler):
    """Answers POST /v1/embeddings."""

    protocol_version = "HTTP/1.1"  # keeps connections open
    wbufsize = -1  # head and body leave together: the second of two waits 40 ms for an acknowledgement

    def do_POST(self) -> None:
        """Answer with an embedding for each text."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
        data = [{"index": number, "embedding": row} for number, row in enumerate(embed(texts))]
        body = json.dumps({"object": "list", "model": "shop", "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing for each request."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print("listening", flush=True)
    server.serve_forever()
