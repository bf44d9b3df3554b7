"""A worker that misbehaves ends in one line, with no process left; each is a real process."""

from pathlib import Path

import pytest

from embedopt.errors import MeasureError
from embedopt.measure.pairs.worker_client import ForeignWorkerError, RefusedError, WorkerClient
from tests.measure.pairs.stand_ins import group_is_gone, place

ECHO = '    print(json.dumps({"ok": {"echo": request["do"]}}), flush=True)'


def _is_gone(side: WorkerClient) -> bool:
    return group_is_gone(side._process.pid)


def test_it_answers_until_it_is_closed(tmp_path: Path) -> None:
    with WorkerClient(place(tmp_path, ECHO), module="script") as side:
        assert side.backends == ("torch-fp32", "fake")
        assert side.ask("load") == {"echo": "load"}
        assert side.ask("time", texts=["x" * 300_000]) == {"echo": "time"}  # more than a pipe holds
        assert not _is_gone(side)
    assert _is_gone(side)
    side.close()  # twice is harmless


def test_it_keeps_its_memory_unless_the_user_wants_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_TOP_PAD_", "4096")
    body = '    kept = {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")}\n'
    body += '    print(json.dumps({"ok": kept}), flush=True)'
    with WorkerClient(place(tmp_path, body), module="script") as side:
        assert side.ask("load") == {
            "MALLOC_MMAP_THRESHOLD_": "33554432",
            "MALLOC_TRIM_THRESHOLD_": "4294967296",
            "MALLOC_TOP_PAD_": "4096",
        }


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('    sys.exit("out of luck")', r"the worker of head ended with 1: out of luck"),
        ("    os.kill(os.getpid(), 9)", r"the worker of head ended with -9: it said nothing"),
        (
            '    print("hello, world", flush=True)',
            r"the worker of head wrote 'hello, world'; wanted a line of",
        ),
        ("    print(7, flush=True)", r"the worker of head wrote '7'; wanted a line of JSON"),
    ],
)
def test_one_that_dies_or_prints_rubbish_is_a_clear_end(tmp_path: Path, body: str, said: str) -> None:
    with (
        WorkerClient(place(tmp_path, body), module="script") as side,
        pytest.raises(MeasureError, match=said),
    ):
        side.ask("time")
    assert _is_gone(side)


def test_one_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    body = "    os.system(f\"{sys.executable} -c 'import time; time.sleep(600)'\")"
    with WorkerClient(place(tmp_path, body), module="script") as side:
        side._short_s = 0.2  # time enough to be greeted was given before
        with pytest.raises(MeasureError, match=r"gave no answer for 0\.2 s; it was killed"):
            side.ask("time")
    assert _is_gone(side)


def test_one_that_hangs_before_its_first_line_is_killed(tmp_path: Path) -> None:
    silent = place(tmp_path)
    script = "import os, pathlib, sys; pathlib.Path('pid').write_text(str(os.getpid())); sys.stdin.read()"
    (tmp_path / "script.py").write_text(script, encoding="utf8")
    with pytest.raises(MeasureError, match="gave no answer for 2 s"):
        WorkerClient(silent, short_s=2.0, module="script")
    assert group_is_gone(int((tmp_path / "pid").read_text(encoding="utf8")))


def test_an_error_in_words_is_handed_on_and_the_worker_lives(tmp_path: Path) -> None:
    body = '    print(json.dumps({"error": "no such backend"}), flush=True)'
    with WorkerClient(place(tmp_path, body), module="script") as side:
        for _ in range(2):
            with pytest.raises(RefusedError, match=r"^head: no such backend$"):
                side.ask("load")


@pytest.mark.parametrize(
    ("hello", "said"),
    [
        ('{"protocol": 99}', r"head speaks protocol 99, wanted 1: compare with a newer commit"),
        (
            '{"protocol": 1, "root": "/elsewhere", "backends": []}',
            r"head ran the code in /elsewhere, wanted /",
        ),
    ],
)
def test_code_that_is_not_this_sides_cant_be_compared(tmp_path: Path, hello: str, said: str) -> None:
    with pytest.raises(ForeignWorkerError, match=said):
        WorkerClient(place(tmp_path, hello=hello), module="script")


def test_a_base_without_a_worker_cant_be_compared(tmp_path: Path) -> None:
    (tmp_path / "embedopt").mkdir()
    (tmp_path / "embedopt" / "__init__.py").touch()
    with pytest.raises(ForeignWorkerError, match=r"head has no embedopt\.measure\.worker"):
        WorkerClient(place(tmp_path))
