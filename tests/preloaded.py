"""A Python that starts in no time: each process is forked from one that has imported the large libraries.

None of ours is imported before, so that each process runs the code of the folder that it starts in. Run as a
script, it is that one process.
"""

import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

_LIBRARIES = (
    *("torch", "transformers", "sentence_transformers", "onnx", "onnxruntime", "tokenizers"),
    *("scipy.stats", "pydantic", "ruptures", "rich.console", "rich.table", "typer", "pytest"),
)
# The interpreter that is made: it sends its arguments, environment and open files, and waits for the end.
_CLIENT = """#!{python} -IS
import json, os, socket, sys
if sys.argv[1] != "-m":
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
request = {{"argv": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ), "python": __file__}}
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"1"], [0, 1, 2])
    server.sendall(json.dumps(request).encode() + b"\\n")
    sys.exit(int(server.recv(16) or b"1"))
"""


@contextlib.contextmanager
def preloaded_python() -> Iterator[str]:
    """Yield the path of an interpreter that runs ``-m MODULE`` in a fork; anything else as Python does."""
    with tempfile.TemporaryDirectory() as folder:  # a short path: that of a socket has at most 107 characters
        python, address = Path(folder, "python"), f"{folder}/socket"
        python.write_text(_CLIENT.format(python=sys.executable, address=address), encoding="utf8")
        python.chmod(0o755)
        command = [sys.executable, __file__, address]
        alone = os.environ | {"OMP_NUM_THREADS": "1"}  # threads that spin cost most
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=alone) as server:
            try:
                assert server.stdout is not None
                assert server.stdout.readline() == "ready\n"
                yield str(python)
            finally:
                server.terminate()


def _serve(address: str) -> None:
    for name in _LIBRARIES:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended children need no wait
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            if not os.fork():
                server.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                connection.sendall(str(_run(connection)).encode())
                os._exit(0)
            connection.close()


def _run(connection: socket.socket) -> int:
    """Run the module of a request as Python would, and return its exit code."""
    _, files, *_ = socket.recv_fds(connection, 1, 3)
    request = json.loads(connection.makefile(encoding="utf8").readline())
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.executable, sys.argv, sys.path[0] = request["python"], request["argv"], request["folder"]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # as Python does, whatever it is
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    _serve(sys.argv[1])
