"""Does memory grow under a load that lasts?"""

from collections.abc import Callable, Sequence
from contextlib import closing

from embedopt.inference.encoder import Encoder
from embedopt.measure.footprint import resident_bytes
from embedopt.measure.load_test.capacity import single_rate
from embedopt.measure.load_test.open_loop import Traffic, drive, poisson
from embedopt.measure.load_test.servers import Server, open_server
from embedopt.records import LoadTest

_SHARE = 0.8
_PARTS = 4
_RATE_S = 2.0


def soak(encoder: Encoder, texts: Sequence[str], promise_ms: float, seconds: float) -> LoadTest:
    """Put 80 % of what the replicas encode one by one on an adaptive batcher for ``seconds``."""
    rate_per_s = _SHARE * single_rate(encoder, texts, _RATE_S)
    traffic = Traffic(texts=texts, promise_ms=promise_ms)
    with closing(open_server("adaptive", encoder, promise_ms)) as server:
        growth_bytes = memory_growth(server, traffic, rate_per_s, seconds)
    return LoadTest(replicas=encoder.replicas, promise_ms=promise_ms, soak_growth_bytes=growth_bytes)


def memory_growth(
    server: Server,
    traffic: Traffic,
    rate_per_s: float,
    seconds: float,
    *,
    run: Callable[..., object] = drive,
    resident: Callable[[], int] = resident_bytes,
) -> int:
    """Return resident bytes after the last quarter of a load less those after its first."""
    sizes = []
    for part in range(_PARTS):
        run(server, poisson(rate_per_s, seconds / _PARTS, seed=part), traffic)
        sizes.append(resident())
    return sizes[-1] - sizes[0]
