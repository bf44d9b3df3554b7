"""What a benchmark may need of a run: the arguments of the marker ``needs``."""

from collections.abc import Callable, Collection, Mapping

from embedopt.errors import UsageError
from embedopt.inference.backend import NO_MODEL
from embedopt.inference.backends import get_backend
from embedopt.measure.session import Session

_NEEDS: Mapping[str, Callable[[Session, str], bool]] = {
    "bulk": lambda session, _: session.options.bulk_texts > 0,
    "judged_queries": lambda session, _: bool(session.corpus.judged_queries),
    "model": lambda _, backend: get_backend(backend).model != NO_MODEL,
    "sentence_pairs": lambda session, _: session.sentence_pairs is not None,
    "soak": lambda session, _: session.options.soak_s > 0,
    "turns": lambda session, _: session.profile.turns > 0,
}


def is_for(backend: str, names: Collection[str]) -> bool:
    """Return whether a benchmark for ``names`` is for a backend; ``declared`` stands for a project's own."""
    return not names or backend in names or ("declared" in names and get_backend(backend).project is not None)


def meets(session: Session, need: str, backend: str) -> bool:
    """Return whether a run, or a backend, has what a benchmark needs.

    Raises:
        UsageError: there is no such need; the message lists the known ones.
    """
    if need not in _NEEDS:
        raise UsageError(f"a benchmark needs {need!r}; known needs are: {', '.join(_NEEDS)}")
    return _NEEDS[need](session, backend)
