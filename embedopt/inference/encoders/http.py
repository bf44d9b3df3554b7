"""An HTTP endpoint that embeds, which runs already or is started here; connections are kept open."""

import base64
import json
import os
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from typing_extensions import override

from embedopt.errors import MeasureError, Refused, first_line
from embedopt.inference.backend import NO_MODEL, Backend
from embedopt.inference.encoder import CallPlan, FloatArray, IntArray, closed_error
from embedopt.inference.foreign import START_S, ForeignEncoder, interpreter, source_folders, start_worker
from embedopt.line_process import LineProcess

TEXTS, TEXT = "{texts}", "{text}"
# By the end of an endpoint's URL: the body of a request, and where its answer has the embeddings.
_FORMATS = {
    "/embed": ({"inputs": TEXTS}, "*"),  # text-embeddings-inference
    "": ({"input": TEXTS, "model": "{model}", "encoding_format": "base64"}, "data.*.embedding"),  # OpenAI
}
# Statuses of a server that is overloaded.
_REFUSALS = (429, 503)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.2
_SHOWN_CHARACTERS = 80


class HttpEncoder(ForeignEncoder):
    """Sends requests of at most ``max_texts`` texts and ``max_tokens`` tokens, ``concurrency`` at a time.

    Times include the way to the endpoint and back.

    Raises:
        MeasureError: the endpoint can't be started or reached, or gives no embeddings.
    """

    is_endpoint = True

    def __init__(self, backend: Backend, folder: Path) -> None:
        options = backend.open_options
        self.name, self.replicas = backend.name, int(options["concurrency"])
        self._max_texts, self._max_tokens = int(options["max_texts"]), int(options.get("max_tokens", 0))
        self._timeout_s = float(options["timeout_s"])
        port = _free_port()
        self._url = str(options["url"]).replace("{port}", str(port))
        self._body, self._path = _format(backend, self._url)
        self._pool = ThreadPoolExecutor(self.replicas, f"embedopt-{self.name}") if self.replicas > 1 else None
        self._client = httpx.Client(
            timeout=self._timeout_s,
            limits=_UNLIMITED,
            headers=_headers(backend),
            trust_env="start" not in options,  # no proxy stands between this process and its own
        )
        self._server = _Server(backend, port) if "start" in options else None
        try:
            if self._server:
                self.pid = self._server.start()
                self._server.wait_for(partial(self._request, ["nurse"]))
            super().__init__(backend, folder)
        except BaseException:
            self._release()
            raise

    @override
    def files(self) -> dict[str, Any]:
        """Return the ``files`` of a server that was started, and what ``start`` it.

        For an endpoint that was running before, whose files are unknown, it is the URL.
        """
        return self._server.files() if self._server else {"files": [self._url]}

    @override
    def _ask(self, texts: list[str]) -> FloatArray:
        parts = [[texts[index] for index in batch] for batch in self._plan(texts, None).batches]
        if len(parts) == 1:
            return self._request(parts[0])
        answers = (map if self._pool is None else self._pool.map)(self._request, parts)
        return np.concatenate([self._checked_answer(*pair) for pair in zip(parts, answers, strict=True)])

    @override
    def _plan(self, texts: list[str], batch_size: int | None) -> CallPlan:
        counts = self._token_counts(texts) if self._max_tokens else np.zeros(len(texts), dtype=np.int64)
        batches = list(_cut(counts, self._max_texts, self._max_tokens))
        return CallPlan(batches, min(self.replicas, len(batches)))

    def _request(self, texts: list[str]) -> FloatArray:
        """Send one request.

        Raises:
            Refused: the endpoint refuses it for now.
            MeasureError: there is no answer, or it is no embeddings.
        """
        if self._closed:
            raise closed_error(self.name)
        try:
            answer = self._client.post(self._url, json=_filled(self._body, texts))
        except httpx.TimeoutException:
            raise MeasureError(
                f"{self.name} gave no answer for {self._timeout_s:g} s; wanted one from {self._url}: raise "
                f"timeout_s of [tool.embedopt.targets.{self.name}], or leave it out"
            ) from None
        except httpx.HTTPError as error:
            raise MeasureError(
                f"{self.name} can't be reached at {self._url}: {type(error).__name__}: {first_line(error)}; "
                "wanted an answer: is it running?"
            ) from None
        return self._read(answer, len(texts))

    def _read(self, answer: httpx.Response, texts: int) -> FloatArray:
        shown = answer.text[:_SHOWN_CHARACTERS].replace("\n", " ")
        if answer.status_code in _REFUSALS:
            raise Refused(
                f"{self.name} refused a request with {answer.status_code}: {shown}; wanted an answer with up "
                f"to {self.replicas} requests at a time: lower concurrency of "
                f"[tool.embedopt.targets.{self.name}], or let it take more"
            )
        if not answer.is_success:
            raise MeasureError(
                f"{self.name} answered a request of {texts} texts with {answer.status_code}: {shown}; wanted "
                "200: correct url, body, max_texts or max_tokens, or mend it"
            )
        try:
            rows = _follow(answer.json(), self._path)
            return np.stack([_vector(row) for row in (rows if "*" in self._path else [rows])])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise MeasureError(
                f"{self.name} answered {shown!r} ({type(error).__name__}: {first_line(error)}); wanted an "
                f"embedding for each text at {'.'.join(self._path)}: correct body and answer"
            ) from None

    @override
    def _release(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._client.close()
        if self._server:
            self._server.close()


_UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=None)


def _headers(backend: Backend) -> dict[str, str]:
    """Return the header with the key, which is in the environment variable that the row names."""
    variable = str(backend.open_options.get("key_variable", ""))
    if variable and variable not in os.environ:
        raise MeasureError(f"{backend.name} takes its key from {variable}, which is not set: set it")
    return {"Authorization": f"Bearer {os.environ[variable]}"} if variable else {}


def _format(backend: Backend, url: str) -> tuple[Any, tuple[str, ...]]:
    """Return the body of a request, and the path of the embeddings in its answer."""
    body, answer = next(known for end, known in _FORMATS.items() if url.rstrip("/").endswith(end))
    model = "default" if backend.model in (None, NO_MODEL) else backend.model
    body = json.loads(str(backend.open_options.get("body", json.dumps(body).replace("{model}", str(model)))))
    path = str(backend.open_options.get("answer", answer))
    return body, tuple(part for part in path.split(".") if part)


def _filled(body: Any, texts: list[str]) -> Any:
    """Return a body with texts in the place of ``{texts}``, or of ``{text}`` for one."""
    if isinstance(body, dict):
        return {key: _filled(value, texts) for key, value in body.items()}
    if isinstance(body, list):
        return [_filled(value, texts) for value in body]
    return texts if body == TEXTS else texts[0] if body == TEXT else body


def _follow(value: Any, path: Sequence[str]) -> Any:
    """Return what is at ``path`` in JSON values; ``*`` stands for each item of a list, by its ``index``."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    if first != "*":
        return _follow(value[int(first) if isinstance(value, list) else first], rest)
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} in the place of a list")
    has_index = value and all(isinstance(item, dict) and "index" in item for item in value)
    ordered = sorted(value, key=lambda item: int(item["index"])) if has_index else value
    return [_follow(item, rest) for item in ordered]


def _vector(row: Any) -> FloatArray:
    if isinstance(row, str):
        return np.frombuffer(base64.b64decode(row, validate=True), dtype="<f4")
    vector = np.asarray(row, dtype=np.float32)
    if vector.ndim != 1:
        raise TypeError(f"an array of {vector.ndim} dimensions in the place of a row of numbers")
    return vector


def _cut(token_counts: IntArray, max_texts: int, max_tokens: int) -> Iterator[IntArray]:
    """Cut texts, in their order, into requests; a text beyond the limit on tokens is a request by itself."""
    start, tokens = 0, 0
    for index, count in enumerate(token_counts.tolist()):
        if index > start and (index - start == max_texts or (max_tokens and tokens + count > max_tokens)):
            yield np.arange(start, index)
            start, tokens = index, 0
        tokens += count
    yield np.arange(start, len(token_counts))


class _Server:
    """A server that a command starts, in a process group that ends with this process."""

    def __init__(self, backend: Backend, port: int) -> None:
        assert backend.project is not None
        self._name, self._port = backend.name, port
        self._start = str(backend.open_options["start"])
        self._command = self._start.replace("{port}", str(port))
        python = interpreter(backend.project, str(backend.open_options.get("python", "")))
        paths = {"PATH": [str(Path(python).parent)], "PYTHONPATH": source_folders(backend)}
        self._environment = {
            name: os.pathsep.join([*first, *filter(None, [os.environ.get(name)])])
            for name, first in paths.items()
        }
        self._process: LineProcess = start_worker(backend)

    def start(self) -> int:
        """Start the command and return the number of its process.

        Raises:
            MeasureError: it can't be run.
        """
        command = shlex.split(self._command)
        return int(self._ask(do="start", command=command, environment=self._environment)["pid"])

    def files(self) -> dict[str, Any]:
        """Return the ``files`` that the server has loaded, and its ``start``."""
        return {**self._ask(do="files"), "start": self._start}

    def _ask(self, **request: object) -> dict[str, Any]:
        self._process.write(request, START_S)
        answer = self._process.read(START_S)
        if "error" in answer:
            asked = "show the files of" if request["do"] == "files" else "start"
            raise MeasureError(
                f"{self._name} can't {asked} {self._command!r}: {answer['error']}; wanted a server: check "
                f"start and python of [tool.embedopt.targets.{self._name}]"
            )
        result: dict[str, Any] = answer["ok"]
        return result

    def wait_for(self, request: Callable[[], object]) -> None:
        """Wait until a request is answered.

        Raises:
            MeasureError: the server has ended, or gives no answer within ten minutes.
        """
        deadline_s, pause_s = time.monotonic() + START_S, _FIRST_PAUSE_S
        while (fault := self._fault(request)) is not None:
            if time.monotonic() > deadline_s:
                raise MeasureError(f"{self._name} gave no answer in {START_S:g} s: {fault}")
            threading.Event().wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _fault(self, request: Callable[[], object]) -> str | None:
        try:
            request()
        except (MeasureError, Refused) as error:
            code = self._ask(do="ended")["code"]
            if code is None:
                return str(error)
            raise MeasureError(
                f"{self._name}: {self._command!r} ended with {code}: {self._process.last_error()}; wanted a "
                f"server on port {self._port}: mend it, or correct start"
            ) from None
        return None

    def close(self) -> None:
        """End the server and all that it has started."""
        self._process.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
