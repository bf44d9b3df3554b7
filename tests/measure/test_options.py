"""What was asked for is checked."""

import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import get_args

import pytest

from embedopt.errors import UsageError
from embedopt.inference.backends import BACKENDS
from embedopt.measure.latency import quantile_interval
from embedopt.measure.options import (
    BATCH_SIZES,
    PROFILES,
    Options,
    ProfileName,
    parse_backends,
    parse_batch_sizes,
    parse_gate_run,
)
from tests.repositories import git


def test_profiles() -> None:
    """Full has a p99 at batch 1, quick a p95; both see a text in the company of different others."""
    assert set(PROFILES) == set(get_args(ProfileName))
    assert quantile_interval(PROFILES["full"].single_calls, 0.99) is not None
    assert quantile_interval(PROFILES["quick"].single_calls, 0.95) is not None
    for profile in PROFILES.values():
        assert profile.single_calls >= 200
        assert quantile_interval(profile.batch_calls, 0.5) is not None
        assert profile.invariance_texts > 32


def test_the_reference_is_always_among_the_backends() -> None:
    assert [row.name for row in parse_backends("onnx-int8", "full")] == ["torch-fp32", "onnx-int8"]
    assert parse_backends(None, "full") == tuple(BACKENDS.values())
    assert [row.name for row in parse_backends(None, "quick")] == [
        "torch-fp32",
        "onnx-fp32",
        "onnx-int8",
        "onnx-int8-per-tensor",
        "onnx-int8-block",
    ]


def test_batch_sizes() -> None:
    assert parse_batch_sizes(None, "full") == BATCH_SIZES == (1, 2, 4, 8, 16, 32, 64)
    assert parse_batch_sizes("8, 1,8", "full") == (1, 8)


@pytest.mark.parametrize(
    ("sizes", "said"), [("1,3", "3"), ("0", "0"), ("", "''"), ("one", "one"), ("-1", "-1")]
)
def test_an_unknown_batch_size_lists_the_known_ones(sizes: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_batch_sizes(sizes, "full")
    assert str(caught.value) == f"unknown batch size {said}; known are: 1, 2, 4, 8, 16, 32, 64"


@pytest.mark.parametrize("value", [1.5, float("nan"), -2.0])
def test_a_floor_is_a_cosine(tmp_path: Path, value: float) -> None:
    with pytest.raises(UsageError, match=r"--min-cosine is .*; wanted a cosine, from -1 to 1"):
        Options(backends=(), batch_sizes=(1,), profile="full", corpus=tmp_path, min_cosine=value)


@pytest.mark.parametrize("value", [-0.01, float("inf"), float("nan")])
def test_a_price_is_dollars(tmp_path: Path, value: float) -> None:
    with pytest.raises(UsageError, match=r"--price-per-hour is .*; wanted dollars, 0 or more"):
        Options(backends=(), batch_sizes=(1,), profile="full", corpus=tmp_path, price_per_hour=value)


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_promise_is_milliseconds(tmp_path: Path, value: float) -> None:
    with pytest.raises(UsageError, match=r"--slo-p99-ms is .*; wanted milliseconds above 0"):
        Options(backends=(), batch_sizes=(1,), profile="full", corpus=tmp_path, slo_p99_ms=value)


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
def test_a_soak_is_seconds(tmp_path: Path, value: float) -> None:
    with pytest.raises(UsageError, match=r"--soak-s is .*; wanted seconds, 0 or more"):
        Options(backends=(), batch_sizes=(1,), profile="full", corpus=tmp_path, soak_s=value)


def test_an_interpreter_is_known_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker starts in another folder; a link stays one, or the environment would be left."""
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    asked = Namespace(
        against="HEAD",
        against_python=f".{os.sep}python",
        against_budget=1.0,
        gate_threshold=None,
        backends=None,
        batch_sizes=None,
        profile="full",
    )
    found = parse_gate_run(asked, tmp_path)
    assert found is not None
    assert found.python == str(tmp_path / "python")
