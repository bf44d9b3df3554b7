"""The last timed call of each cell: its vectors in base and head, and the time of the same call once more.

These vectors show code that gives other answers while it is timed. Code that keeps results is quick on the
repeated call alone.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from embedopt.evidence import Cell, Drift
from embedopt.measure.latency import as_new
from embedopt.measure.pairs.drift import measure_drift
from embedopt.measure.pairs.process_pair import LivePair
from embedopt.measure.worker import unpack
from embedopt.records import KEPT_SHARE

_REQUEST = "timed"


class LastCalls:
    """Collects the last calls of all process pairs of a gate run."""

    def __init__(self) -> None:
        self._drift: dict[str, Drift] = {}
        self._shares: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def add(self, pair: LivePair, cell: Cell, texts: Sequence[str]) -> None:
        """Compare the vectors of the call that base and head made last; then repeat it."""
        base, head = clients = (pair.base, pair.head)
        if _REQUEST not in base.requests:
            return
        if _REQUEST not in head.requests:
            drift = Drift(backend=cell.backend, why="vectors of timed calls that the head does not give")
        else:
            vectors = [unpack(client.ask(_REQUEST)) for client in clients]
            drift = measure_drift(cell.backend, texts, *vectors)
            request = {"backend": cell.backend, "batch_size": cell.batch_size, "extra": 0.0}
            new_s, again_s = [
                [client.ask("time", texts=asked, **request)["seconds"] for client in clients]
                for asked in (as_new(texts), texts)
            ]
            self._shares[cell.backend].append((again_s[0] / new_s[0], again_s[1] / new_s[1]))
        self._drift[cell.backend] = _worse(self._drift.get(cell.backend), drift)

    def with_drift(self, known: Sequence[Drift]) -> list[Drift]:
        """Return the larger drift of each backend: the known one, or that of its timed calls."""
        backends = {drift.backend: drift for drift in known}
        for name, drift in self._drift.items():
            backends[name] = _worse(backends.get(name), drift)
        return list(backends.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each backend that keeps results."""
        medians = {name: np.median(shares, axis=0).tolist() for name, shares in self._shares.items()}
        return tuple(
            f"{name} keeps results: a repeated text takes {base:.0%} of a new one's time in base and "
            f"{head:.0%} in head; the times here are of new texts"
            for name, (base, head) in medians.items()
            if min(base, head) < KEPT_SHARE
        )


def _worse(known: Drift | None, other: Drift) -> Drift:
    if known is None or known.similarity_min is None:
        return known or other
    return other if other.similarity_min is None or other.similarity_min < known.similarity_min else known
