"""Is this change slower, bigger or less accurate than its base? Did its vectors move? Only with --against."""

import pytest

from embedopt.evidence import FigureKind
from embedopt.judge.gate.verdict import Verdict, decides_nothing
from embedopt.measure.session import Session
from embedopt.report.words import sentence, subject


def test_against(
    against_backend: str, against_batch_size: int, against_kind: FigureKind, verdicts: tuple[Verdict, ...]
) -> None:
    """Fails where this code is worse than its base or can't be compared; what is inconclusive is skipped.

    Where no time at all could be decided, what is inconclusive fails, too: a gate without a decision has not
    passed. A cell that looked slower when the budget ended fails as well.
    """
    own = [verdict for verdict in verdicts if verdict.backend == against_backend]
    own = [verdict for verdict in own if verdict.answers(against_batch_size, against_kind)]
    worse = [verdict for verdict in own if verdict.fails_check]
    unclear = [verdict for verdict in own if verdict.is_unclear]
    lines = [f"{subject(verdict)}: {sentence(verdict)}" for verdict in worse or unclear]
    if worse or (unclear and decides_nothing(verdicts)):
        pytest.fail("\n".join(lines), pytrace=False)
    if unclear or not own:
        pytest.skip("; ".join(lines) or f"{against_backend} {against_kind}: not measured")


def test_against_besides(session: Session, verdicts: tuple[Verdict, ...]) -> None:
    """Fails where the reference's vectors changed or a backend is gone, though the run did not name it."""
    assert session.options.against is not None
    named = session.options.against.backends
    failed = [
        f"{subject(verdict)}: {sentence(verdict)}"
        for verdict in verdicts
        if verdict.backend not in named and verdict.fails_check
    ]
    if failed:
        pytest.fail("\n".join(failed), pytrace=False)
