"""A clock, encoders and build functions that tests control."""

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from embedopt.inference.backend import Backend
from embedopt.inference.encoder import CallPlan, Encoder, FloatArray, IntArray
from embedopt.inference.plan import plan_for_replicas

DIM = 16


class FakeClock:
    """Time that only :meth:`advance` moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


def fake_embedding(text: str) -> FloatArray:
    """Return a unit vector that depends on the text alone."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(DIM)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


class FakeEncoder(Encoder):
    """Embeds by hash, and calls ``on_encode`` with the number of texts of each call."""

    def __init__(self, name: str = "fake", on_encode: Callable[[int], object] = lambda _: None) -> None:
        self.name = name
        self.dim = DIM
        self.calls: list[list[str]] = []
        self.released = 0
        self._on_encode = on_encode

    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        self.calls.append(texts)
        self._on_encode(len(texts))
        return np.stack([fake_embedding(text) for text in texts])

    def _encode_prompted(self, texts: list[str], batch_size: int | None, prompt: str) -> FloatArray:
        return self._encode([prompt + text for text in texts], batch_size)

    def _plan(self, texts: list[str], batch_size: int | None) -> CallPlan:
        return CallPlan(plan_for_replicas(self._token_counts(texts), 1, batch_size))

    def _token_counts(self, texts: list[str]) -> IntArray:
        return np.asarray([len(text.split()) + 2 for text in texts], dtype=np.int64)

    def _release(self) -> None:
        self.released += 1


class MoodyEncoder(FakeEncoder):
    """Not batch invariant: each embedding also depends on the first text of the call."""

    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        embeddings = super()._encode(texts, batch_size) + np.float32(0.5) * fake_embedding(texts[0])
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
        return np.asarray(embeddings / lengths, dtype=np.float32)


def fake_backend(
    build: str = "build_ok", name: str = "fake", derived_from: str | None = None, **options: str
) -> Backend:
    """Return a row whose artifact is built by one of the functions below."""
    return Backend(
        name=name,
        summary="for tests",
        precision="fp32",
        opener="tests.fakes:FakeEncoder",
        build=f"tests.fakes:{build}",
        derived_from=derived_from,
        build_options=options,
    )


def build_ok(source: Path, target: Path, **options: str) -> None:
    """Write two files, and append a line to the file that the option ``log`` names."""
    if "log" in options:
        with Path(options["log"]).open("a", encoding="utf8") as log:
            log.write(f"{os.getpid()}\n")
    (target / "model.onnx").write_bytes(b"model")
    (target / "part").mkdir()
    (target / "part" / "words.txt").write_text("words", encoding="utf8")


def build_half_then_wait(source: Path, target: Path, **options: str) -> None:
    """Write half of a file, print a line, and wait for input that never comes."""
    (target / "model.onnx").write_bytes(b"mod")
    print("half-written", flush=True)
    sys.stdin.readline()


def build_slowly(source: Path, target: Path, **options: str) -> None:
    """Build, print a line, and wait for a line of input."""
    build_ok(source, target, **options)
    print("building", flush=True)
    sys.stdin.readline()


def build_on_full_disk(source: Path, target: Path, **options: str) -> None:
    """Fail as on a full disk."""
    raise OSError(28, "No space left on device")


def build_on_full_disk_in_cpp(source: Path, target: Path, **options: str) -> None:
    """Fail as a library written in C++ does on a full disk."""
    raise RuntimeError("write failed: No space left on device")


def build_fails(source: Path, target: Path, **options: str) -> None:
    """Fail as an exporter does on an unknown architecture, with a message of several lines."""
    raise KeyError("unknown architecture\nand a long story")
