"""Is this change slower, bigger or less faithful than its base? Only with --against REF."""

import pytest

from embedopt.judge.gate.verdict import Verdict, decides_nothing


def test_against(against_backend: str, against_what: str, verdicts: tuple[Verdict, ...]) -> None:
    """Fails where this code is worse than its base; what can't be told or compared is skipped, in words.

    Where nothing at all could be told, what is unclear fails: a gate that saw nothing has not passed. So does
    a cell that looked slower when the budget ended.
    """
    found = [of for of in verdicts if of.backend == against_backend and _kind(of) in (against_what, "all")]
    worse = [_words(of) for of in found if of.outcome == "regressed" or of.suspected]
    unsure = [_words(of) for of in found if of.outcome in ("inconclusive", "not comparable")]
    if worse or (unsure and decides_nothing(verdicts)):
        pytest.fail("\n".join(worse or unsure), pytrace=False)
    if not found:
        pytest.skip(f"{against_backend} {against_what}: not measured")
    if unsure:
        pytest.skip("; ".join(unsure))


def _kind(verdict: Verdict) -> str:
    if verdict.is_accuracy:
        return "accuracy"
    return "size" if verdict.metric == "disk_bytes" else verdict.what or "all"


def _words(verdict: Verdict) -> str:
    told = [f"{verdict.backend} {verdict.what}".strip(), verdict.outcome]
    if verdict.effect is not None and verdict.interval is not None:
        low, high = verdict.interval
        told.append(f"{verdict.effect:+.1%} ({low:+.1%} to {high:+.1%}) in {verdict.pairs} process pairs")
    if verdict.smallest_effect is not None and verdict.outcome == "inconclusive":
        told.append(f"{verdict.smallest_effect:.1%} would have been seen")
    return ": ".join([told[0], ", ".join([*told[1:], verdict.why] if verdict.why else told[1:])])
