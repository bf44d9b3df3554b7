"""A judged run as a test report, for GitLab and other readers of JUnit XML, and as a code quality report."""

import hashlib
import json
from xml.etree import ElementTree

from embedopt.judge.gate.verdict import Outcome, exit_code, headline
from embedopt.report.escape import plain
from embedopt.report.judged_run import JudgedRun
from embedopt.report.words import failing, sentence, subject

# GitLab's words. An inconclusive verdict is reported where it fails the gate.
_SEVERITIES: dict[Outcome, str] = {
    "regressed": "critical",
    "vectors changed": "critical",
    "not comparable": "major",
    "inconclusive": "major",
}
# GitLab shows a finding beside a line of a file; this one holds the targets and the gate's settings.
_FILE = "pyproject.toml"


def render_junit(judged: JudgedRun) -> str:
    """Return JUnit XML: a test case for the run as a whole, and one for each verdict.

    A verdict that fails the gate is a failure, another unclear one is skipped; each has the verdict's words.
    The first case fails whenever the gate does, even where no single verdict fails.
    """
    verdicts = judged.verdicts
    suite = ElementTree.Element("testsuite", name="embedopt", tests=str(len(verdicts) + 1))
    whole = ElementTree.SubElement(suite, "testcase", classname="embedopt", name="the gate")
    if exit_code(verdicts):
        ElementTree.SubElement(whole, "failure", message=plain(headline(verdicts))).text = plain(judged.title)
    for verdict in verdicts:
        name = {"classname": f"embedopt.{plain(verdict.backend)}", "name": plain(subject(verdict))}
        case = ElementTree.SubElement(suite, "testcase", name)
        kind = "failure" if verdict.fails_check else "skipped" if verdict.is_unclear else "system-out"
        words = plain(sentence(verdict))
        ElementTree.SubElement(case, kind, {} if kind == "system-out" else {"message": words}).text = words
    failures = str(len(suite.findall("testcase/failure")))
    suite.attrib |= {"failures": failures, "skipped": str(len(suite.findall("testcase/skipped")))}
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def render_code_quality(judged: JudgedRun) -> str:
    """Return GitLab's code quality report, a list in JSON: what fails the gate, the gravest first.

    Where the gate fails but no single verdict does, the headline is the only finding.
    """
    findings = [
        _finding(subject(verdict), sentence(verdict), verdict.metric, verdict.outcome)
        for verdict in failing(judged.verdicts)
    ]
    if not findings and exit_code(judged.verdicts):
        findings = [_finding("the gate", headline(judged.verdicts))]
    return json.dumps(findings, indent=2) + "\n"


def _finding(name: str, words: str, metric: str = "", outcome: Outcome = "inconclusive") -> dict[str, object]:
    """Return a finding; its fingerprint does not depend on figures, so that GitLab recognises it later."""
    identity = "\n".join((name, metric, outcome))
    return {
        "description": plain(f"{name}: {words}"),
        "check_name": "embedopt",
        "fingerprint": hashlib.sha256(identity.encode("utf8", "surrogatepass")).hexdigest(),
        "severity": _SEVERITIES[outcome],
        "location": {"path": _FILE, "lines": {"begin": 1}},
    }
