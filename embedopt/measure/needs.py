"""What a benchmark may need of a run: the arguments of the marker ``needs``."""

import sys
from collections.abc import Callable, Mapping

from embedopt.errors import UsageError
from embedopt.measure.session import Session

_NEEDS: Mapping[str, Callable[[Session], bool]] = {
    "bulk": lambda session: session.options.bulk_texts > 0,
    "judged_queries": lambda session: bool(session.corpus.judged_queries),
    "linux": lambda _: sys.platform.startswith("linux"),
    "sentence_pairs": lambda session: session.sentence_pairs is not None,
    "soak": lambda session: session.options.soak_s > 0,
    "turns": lambda session: session.profile.turns > 0,
}


def meets(session: Session, need: str) -> bool:
    """Return whether a run has what a benchmark needs.

    Raises:
        UsageError: there is no such need; the message lists the known ones.
    """
    if need not in _NEEDS:
        raise UsageError(f"a benchmark needs {need!r}; known needs are: {', '.join(_NEEDS)}")
    return _NEEDS[need](session)
