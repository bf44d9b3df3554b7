"""Options and sessions on a corpus of three texts."""

from pathlib import Path

from embedopt.inference.backends import BACKENDS
from embedopt.measure.options import Options
from embedopt.measure.session import Session


def make_options(folder: Path, *, model: str | None = None, min_cosine: float = 0.95) -> Options:
    """Write the corpus into ``folder``; return options for all backends and the profile ``quick``."""
    (folder / "texts.txt").write_text("one\ntwo words\nthree", encoding="utf8")
    return Options(
        backends=tuple(BACKENDS.values()),
        batch_sizes=(1,),
        profile="quick",
        corpus=folder / "texts.txt",
        model=model,
        min_cosine=min_cosine,
    )


def make_session(folder: Path) -> Session:
    """Return a session with the options of :func:`make_options`."""
    return Session(make_options(folder))
