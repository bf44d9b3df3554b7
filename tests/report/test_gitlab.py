"""Reports for GitLab: JUnit with a case for each verdict, and code quality with what fails."""

import dataclasses
import json
from xml.etree import ElementTree

from embedopt.judge.gate.verdict import Verdict
from embedopt.judge.history.saved_runs import parse_run
from embedopt.report.gitlab import render_code_quality, render_junit
from embedopt.report.judged_run import JudgedRun
from tests.report.verdicts import GONE, LESS_ACCURATE, OPEN, SAME, SLOWER
from tests.runs import HOSTILE, make_file, make_run

SLOWER_WORDS = "regressed, +5.1% (+4.3% to +5.9%) in 12 process pairs"


def _judged(*verdicts: Verdict) -> JudgedRun:
    head = parse_run("0001_run.json", make_file(make_run()))
    return JudgedRun(head=head, title="0001_run.json against main", verdicts=verdicts)


def _cases(*verdicts: Verdict) -> list[tuple[str, str, str | None]]:
    """Return name, kind and words of each case."""
    suite = ElementTree.fromstring(render_junit(_judged(*verdicts)))
    return [
        (case.attrib["name"], *((case[0].tag, case[0].attrib.get("message")) if len(case) else ("", None)))
        for case in suite
    ]


def test_junit_has_a_case_for_the_gate_and_for_each_verdict() -> None:
    assert _cases(SLOWER, OPEN, SAME) == [
        ("the gate", "failure", "slower or bigger: 1 regressed, 1 inconclusive, 1 equivalent"),
        ("onnx-int8 batch 8", "failure", SLOWER_WORDS),
        ("b batch 1", "skipped", "inconclusive, few pairs"),
        ("a disk_bytes", "system-out", None),
    ]
    suite = ElementTree.fromstring(render_junit(_judged(SLOWER, OPEN, SAME)))
    assert {name: suite.attrib[name] for name in ("tests", "failures", "skipped")} == {
        "tests": "4",
        "failures": "2",
        "skipped": "1",
    }


def test_junit_of_a_run_that_decides_nothing_fails() -> None:
    assert _cases(OPEN)[0] == (
        "the gate",
        "failure",
        "inconclusive: no time could be decided: 1 inconclusive",
    )
    assert _cases(dataclasses.replace(SAME, metric="latency"))[0] == ("the gate", "", None)


def test_a_metric_that_is_switched_off_is_no_failure() -> None:
    off = dataclasses.replace(SLOWER, fails=False)
    assert [kind for _, kind, _ in _cases(off, SAME)] == ["", "system-out", "system-out"]
    assert json.loads(render_code_quality(_judged(off, SAME))) == []


def test_code_quality_names_what_fails_the_gravest_first() -> None:
    findings = json.loads(render_code_quality(_judged(GONE, SAME, OPEN, SLOWER, LESS_ACCURATE)))
    assert [(finding["severity"], finding["description"]) for finding in findings] == [
        ("critical", f"onnx-int8 batch 8: {SLOWER_WORDS}"),
        ("critical", "onnx-int8 cosine_mean: regressed, -0.03180, 0.9923 -> 0.9605"),
        ("major", "[b]: not comparable, the base has no [b]"),
    ]
    assert findings[0]["location"] == {"path": "pyproject.toml", "lines": {"begin": 1}}
    assert len({finding["fingerprint"] for finding in findings}) == 3


def test_a_finding_is_known_again_when_its_figures_change() -> None:
    more = dataclasses.replace(SLOWER, effect=0.2)
    first, second = (json.loads(render_code_quality(_judged(verdict)))[0] for verdict in (SLOWER, more))
    assert first["description"] != second["description"]
    assert first["fingerprint"] == second["fingerprint"]


def test_a_finding_of_another_metric_or_outcome_is_another() -> None:
    others = (
        SLOWER,
        dataclasses.replace(SLOWER, outcome="not comparable"),
        dataclasses.replace(SLOWER, metric="texts_per_s", batch_size=0, backend="onnx-int8 batch 8"),
    )
    findings = [json.loads(render_code_quality(_judged(verdict)))[0] for verdict in others]
    assert len({finding["fingerprint"] for finding in findings}) == 3


def test_code_quality_of_a_run_that_decides_nothing_is_the_headline() -> None:
    suspected = dataclasses.replace(OPEN, unanswered=True)
    for verdict, words in (
        (OPEN, "the gate: inconclusive: no time could be decided: 1 inconclusive"),
        (suspected, "b batch 1: inconclusive, few pairs"),
    ):
        [finding] = json.loads(render_code_quality(_judged(verdict)))
        assert finding["description"] == words


def test_a_hostile_name_stays_text() -> None:
    gone = Verdict(backend=f"{HOSTILE}\0\ud800", metric="", outcome="not comparable", why=HOSTILE)
    assert len(ElementTree.fromstring(render_junit(_judged(gone)))) == 2
    assert len(json.loads(render_code_quality(_judged(gone)))) == 1
