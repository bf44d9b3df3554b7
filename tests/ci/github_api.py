"""The part of GitHub's API that comments use, served on loopback."""

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
    """Pull requests and their comments.

    Attributes:
        url: address of the API.
        pulls: pull requests as GitHub describes them.
        comments: comments, all on every pull request.
        requests: method and path of each request so far.
        refuses_with: HTTP status of every answer; None to answer as GitHub does.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.pulls: list[dict[str, Any]] = []
        self.comments: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.refuses_with: int | None = None

    def open(self, number: int, sha: str, head: str = "team:topic") -> None:
        """Open a pull request."""
        self.pulls.append({"number": number, "state": "open", "head": {"sha": sha, "label": head}})

    def add_comment(self, body: str, login: str | None = BOT) -> None:
        """Add a comment by ``login`` to every pull request; None for a deleted account."""
        user = {"login": login} if login else None
        self.comments.append({"id": len(self.comments) + 1, "user": user, "body": body})

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        """Return GitHub's answer as JSON values; None for an unknown path."""
        self.requests.append(f"{method} {path}")
        if self.refuses_with:
            return None
        page = slice(100 * (int(query.get("page", ["1"])[0]) - 1), 100 * int(query.get("page", ["1"])[0]))
        match method, path.removeprefix(f"/repos/{REPOSITORY}"):
            case "GET", "/pulls":
                return [pull for pull in self.pulls if pull["head"]["label"] == query["head"][0]][page]
            case "GET", pulls if match := re.fullmatch(r"/pulls/(\d+)", pulls):
                return next(pull for pull in self.pulls if pull["number"] == int(match[1]))
            case "GET", comments if re.fullmatch(r"/issues/\d+/comments", comments):
                return self.comments[page]
            case "POST", comments if re.fullmatch(r"/issues/\d+/comments", comments):
                self.add_comment(body["body"])
                return {}
            case "PATCH", comment if match := re.fullmatch(r"/issues/comments/(\d+)", comment):
                self.comments[int(match[1]) - 1]["body"] = body["body"]
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

        do_POST = do_PATCH = do_GET  # noqa: N815  # named after the HTTP methods

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name for it
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
    """Return the event ``workflow_run`` of a benchmark that has ended; without numbers, of a fork's."""
    run = {
        "pull_requests": [{"number": number} for number in numbers],
        "head_sha": sha,
        "head_branch": "topic",
        "head_repository": {"owner": {"login": "team" if numbers else "fork"}},
        "conclusion": "failure",
        "html_url": f"https://github.com/{REPOSITORY}/actions/runs/1",
    }
    return {"workflow_run": run | changes}
