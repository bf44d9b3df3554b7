"""How processes end: by signals, and when nobody reads what they print."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embedopt.signals import ended_by_signals

_HANGING_BUILD = """
import signal, sys
from pathlib import Path
from embedopt.__main__ import run
from embedopt.inference.artifacts import store

def hang(backend, source, target):
    (target / "half of a file").touch()
    Path({fifo!r}).write_text("building")
    signal.pause()

store._run_build = hang
run()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_the_block_clean_up_and_the_next_one_does_not_disturb_it(
    number: signal.Signals,
) -> None:
    before = signal.getsignal(number)
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.raises(KeyboardInterrupt))
        received = stack.enter_context(ended_by_signals())
        stack.callback(received.append, 0)
        stack.callback(os.kill, os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), number)
    assert received == [number, signal.SIGHUP, 0]
    assert signal.getsignal(number) is before


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As SIGHUP is under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ended_by_signals() as received:
        os.kill(os.getpid(), signal.SIGHUP)
    signal.signal(signal.SIGHUP, before)
    assert received == []


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP), (signal.SIGINT, 130)],
)
def test_a_command_that_a_signal_ends_leaves_nothing_half_done(
    tiny_model: Callable[..., Path], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """In the middle of a build; a shell sees which signal it was."""
    for folder in ("in", "out", "temporary"):
        (tmp_path / folder).mkdir()
    (tmp_path / "in" / "texts.txt").write_text("welder\n", encoding="utf8")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    argv = [
        "encode",
        "in/texts.txt",
        "-o",
        "out/x.npy",
        "--backend",
        "onnx-fp32",
        "--model",
        str(tiny_model()),
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", _HANGING_BUILD.format(fifo=str(fifo)), *argv],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path / "temporary")},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert fifo.read_text(encoding="utf8") == "building"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert list((tmp_path / "out").iterdir()) == []
    assert list((tmp_path / "temporary").iterdir()) == []
    assert [path.suffix for path in (tmp_path / "cache" / "artifacts").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("argv", "closed", "code"),
    [(["history"], "stdout", 141), (["--help"], "stdout", 141), (["summary", "none"], "stderr", 2)],
)
def test_a_command_whose_reader_has_gone_ends_as_sigpipe_would_end_it(
    tmp_path: Path, argv: list[str], closed: str, code: int
) -> None:
    """As in `embedopt history | true`; an error that nobody reads keeps its code."""
    reader, writer = os.pipe()
    os.close(reader)
    stdout, stderr = (writer if closed == name else subprocess.PIPE for name in ("stdout", "stderr"))
    command = [sys.executable, "-m", "embedopt", *argv]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=stdout, stderr=stderr)
    os.close(writer)
    assert [output or b"" for output in process.communicate(timeout=60)] == [b"", b""]
    assert process.returncode == code
