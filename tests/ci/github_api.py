"""As much of GitHub's API as a comment takes, on loopback."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

REPOSITORY = "team/project"
BOT = "github-actions[bot]"


class FakeGitHub:
    """Pull requests, and the comments on them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pulls: list[dict[str, Any]] = []
        self.comments: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.refuses_with: int | None = None

    def open(self, number: int, sha: str, head: str = "team:topic") -> None:
        """Open a pull request."""
        self.pulls.append({"number": number, "state": "open", "head": {"sha": sha, "label": head}})

    def add_comment(self, body: str, login: str | None = BOT) -> None:
        """Put a comment of someone on every pull request."""
        user = {"login": login} if login else None
        self.comments.append({"id": len(self.comments) + 1, "user": user, "body": body})

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        """Return what GitHub answers; None for what it does not know."""
        self.asked.append(f"{method} {path}")
        if self.refuses_with:
            return None
        page = slice(100 * (int(query.get("page", ["1"])[0]) - 1), 100 * int(query.get("page", ["1"])[0]))
        match method, path.removeprefix(f"/repos/{REPOSITORY}"):
            case "GET", "/pulls":
                return [pull for pull in self.pulls if pull["head"]["label"] == query["head"][0]][page]
            case "GET", pulls if found := re.fullmatch(r"/pulls/(\d+)", pulls):
                return next(pull for pull in self.pulls if pull["number"] == int(found[1]))
            case "GET", comments if re.fullmatch(r"/issues/\d+/comments", comments):
                return self.comments[page]
            case "POST", comments if re.fullmatch(r"/issues/\d+/comments", comments):
                self.add_comment(body["body"])
                return {}
            case "PATCH", comment if found := re.fullmatch(r"/issues/comments/(\d+)", comment):
                self.comments[int(found[1]) - 1]["body"] = body["body"]
                return {}
        return None


@contextmanager
def serving() -> Iterator[FakeGitHub]:
    """Serve a fake GitHub on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            url = urlsplit(self.path)
            answer = fake.answer(self.command, url.path, parse_qs(url.query), body)
            self.send_response((fake.refuses_with or 404) if answer is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_POST = do_PATCH = do_GET  # noqa: N815  # named after the methods

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name in the library
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake = FakeGitHub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def workflow_run(sha: str, *numbers: int, **changes: Any) -> dict[str, Any]:
    """The event of a benchmark workflow that has ended; without numbers, a fork's."""
    run = {
        "pull_requests": [{"number": number} for number in numbers],
        "head_sha": sha,
        "head_branch": "topic",
        "head_repository": {"owner": {"login": "team" if numbers else "fork"}},
        "conclusion": "failure",
        "html_url": f"https://github.com/{REPOSITORY}/actions/runs/1",
    }
    return {"workflow_run": run | changes}
