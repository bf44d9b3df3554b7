"""Workers that misbehave end in one line, with no process left; each is a real process."""

from pathlib import Path

import pytest

from embedopt.errors import MeasureError
from embedopt.measure.pairs.worker_client import ForeignWorkerError, RefusedError, WorkerClient
from tests.measure.pairs.stand_ins import has_group_ended, make_checkout

ECHO = '    print(json.dumps({"ok": {"echo": request["do"]}}), flush=True)'


def _has_ended(client: WorkerClient) -> bool:
    return has_group_ended(client._process.pid)


def test_a_worker_answers_until_its_client_is_closed(tmp_path: Path) -> None:
    with WorkerClient(make_checkout(tmp_path, ECHO), module="script") as client:
        assert client.backends == ("torch-fp32", "fake")
        assert client.ask("load") == {"echo": "load"}
        assert client.ask("time", texts=["x" * 300_000]) == {"echo": "time"}  # more than a pipe holds
        assert not _has_ended(client)
    assert _has_ended(client)
    client.close()  # closing twice does nothing


def test_a_worker_keeps_its_memory_unless_the_user_has_set_it_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_TOP_PAD_", "4096")
    body = (
        '    settings = {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")}\n'
    )
    body += '    print(json.dumps({"ok": settings}), flush=True)'
    with WorkerClient(make_checkout(tmp_path, body), module="script") as client:
        assert client.ask("load") == {
            "MALLOC_MMAP_THRESHOLD_": "33554432",
            "MALLOC_TRIM_THRESHOLD_": "4294967296",
            "MALLOC_TOP_PAD_": "4096",
        }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('    sys.exit("out of luck")', r"the worker of head ended with 1: out of luck"),
        ("    os.kill(os.getpid(), 9)", r"the worker of head ended with -9: it wrote no error"),
        (
            '    print("hello, world", flush=True)',
            r"the worker of head wrote 'hello, world'; wanted a line of",
        ),
        ("    print(7, flush=True)", r"the worker of head wrote '7'; wanted a line of JSON"),
    ],
)
def test_a_worker_that_dies_or_prints_rubbish_is_an_error_of_one_line(
    tmp_path: Path, body: str, message: str
) -> None:
    with (
        WorkerClient(make_checkout(tmp_path, body), module="script") as client,
        pytest.raises(MeasureError, match=message),
    ):
        client.ask("time")
    assert _has_ended(client)


def test_a_worker_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    body = "    os.system(f\"{sys.executable} -c 'import time; time.sleep(600)'\")"
    with WorkerClient(make_checkout(tmp_path, body), module="script") as client:
        client._short_s = 0.2  # only from here on: it had enough time to start
        with pytest.raises(MeasureError, match=r"gave no answer for 0\.2 s; it was killed"):
            client.ask("time")
    assert _has_ended(client)


def test_a_load_test_may_last_longer_than_a_timed_call(tmp_path: Path) -> None:
    with WorkerClient(make_checkout(tmp_path, ECHO), module="script") as client:
        client._short_s = 0.0
        assert client.ask("load_test") == {"echo": "load_test"}


def test_a_worker_that_hangs_before_its_first_line_is_killed(tmp_path: Path) -> None:
    silent = make_checkout(tmp_path)
    script = "import os, pathlib, sys; pathlib.Path('pid').write_text(str(os.getpid())); sys.stdin.read()"
    (tmp_path / "script.py").write_text(script, encoding="utf8")
    with pytest.raises(MeasureError, match="gave no answer for 2 s"):
        WorkerClient(silent, short_s=2.0, module="script")
    assert has_group_ended(int((tmp_path / "pid").read_text(encoding="utf8")))


def test_an_answer_that_is_an_error_is_raised_and_the_worker_lives_on(tmp_path: Path) -> None:
    body = '    print(json.dumps({"error": "no such backend"}), flush=True)'
    with WorkerClient(make_checkout(tmp_path, body), module="script") as client:
        for _ in range(2):
            with pytest.raises(RefusedError, match=r"^head: no such backend$"):
                client.ask("load")


@pytest.mark.parametrize(
    ("hello", "message"),
    [
        ('{"protocol": 99}', r"head speaks protocol 99, wanted 1: compare with a newer commit"),
        (
            '{"protocol": 1, "root": "/elsewhere", "backends": []}',
            r"head ran the code in /elsewhere, wanted /",
        ),
    ],
)
def test_a_worker_of_another_protocol_or_checkout_cant_be_compared(
    tmp_path: Path, hello: str, message: str
) -> None:
    with pytest.raises(ForeignWorkerError, match=message):
        WorkerClient(make_checkout(tmp_path, hello=hello), module="script")


def test_a_base_without_a_worker_cant_be_compared(tmp_path: Path) -> None:
    (tmp_path / "embedopt").mkdir()
    (tmp_path / "embedopt" / "__init__.py").touch()
    with pytest.raises(ForeignWorkerError, match=r"head has no embedopt\.measure\.worker"):
        WorkerClient(make_checkout(tmp_path))


_BURN = "import time\nwhile time.process_time() < 0.4: pass"


@pytest.mark.parametrize("is_waited_for", [True, False])
def test_the_cpu_time_of_a_worker_has_that_of_processes_that_it_starts_later(
    tmp_path: Path, is_waited_for: bool
) -> None:
    burn = _BURN if is_waited_for else _BURN + "\nprint(flush=True)\ntime.sleep(600)"
    body = f"""
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", {burn!r}], stdout=subprocess.PIPE)
    child.stdout.readline()
    {is_waited_for} and child.wait()
    print(json.dumps({{"ok": {{}}}}), flush=True)"""
    with WorkerClient(make_checkout(tmp_path, body), module="script") as client:
        _, before_s = client.cpu_s()
        client.ask("time")
        _, after_s = client.cpu_s()
    assert after_s - before_s > 0.3  # the system counts in steps of 10 ms
