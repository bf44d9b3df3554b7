"""``python -m embedopt.measure.cold_start``: a process that loads one backend, as a service does.

It knows nothing of records, so that what it weighs is the backend.
"""

import json
import sys
import time
from pathlib import Path

from embedopt.inference.backends import get_backend
from embedopt.inference.loading import open_encoder


def main(argv: list[str]) -> None:
    """Load, encode the JSON list of texts on standard input, and print what that took as JSON.

    Args:
        argv: the backend, its settings as JSON, its folder, and ``time.monotonic()`` of the moment the
            process was started.
    """
    name, settings, folder, started_s = argv
    backend = get_backend(name).with_settings(json.loads(settings))
    texts = json.load(sys.stdin)
    with open_encoder(backend, Path(folder)) as encoder:
        encoder.encode(texts[:1])
        load_s = time.monotonic() - float(started_s)
        encoder.encode(texts)
        print(json.dumps({"load_s": load_s, "peak_rss_bytes": _peak_rss_bytes()}))


def _peak_rss_bytes() -> int:
    # Not getrusage: its maximum starts with that of the process which forked this one.
    status = Path("/proc/self/status").read_text(encoding="utf8")
    [kilobytes] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(kilobytes)


if __name__ == "__main__":
    main(sys.argv[1:])
