"""Markdown and annotations for GitHub: the headline first, valid at any length, and names shown as text."""

import dataclasses
import html
import re

import pytest
from markdown_it import MarkdownIt

from embedopt.conditions import BackendInfo, Machine
from embedopt.judge.gate.verdict import Verdict
from embedopt.judge.history.saved_runs import SavedRun, parse_run
from embedopt.report.judged_run import JudgedRun
from embedopt.report.markdown import LIMIT, render_annotations, render_markdown
from tests.report.verdicts import OPEN, SAME, SLOWER
from tests.runs import HOSTILE, make_file, make_load, make_run


def _run(**changes: object) -> SavedRun:
    return parse_run("0001_run.json", make_file(make_run(**changes)))


def _judged(*verdicts: Verdict, head: SavedRun | None = None, notes: tuple[str, ...] = ()) -> JudgedRun:
    return JudgedRun(
        head=head or _run(), title="0001_run.json against its base", verdicts=verdicts, notes=notes
    )


def _seen(text: str) -> str:
    """What a reader sees: markup gone, entities read."""
    return html.unescape(re.sub(r"<[^>]*>", "", text))


def test_the_headline_comes_first_and_then_a_table_of_what_changed() -> None:
    lines = render_markdown(_judged(SLOWER, OPEN, SAME), 0.05).splitlines()
    assert lines[0] == "### embedopt: slower or bigger: 1 regressed, 1 inconclusive, 1 equivalent"
    assert _seen(lines[2]) == "0001_run.json against its base"
    assert lines[4] == "| what | verdict | change | 95 % interval | detectable | pairs or runs | why |"
    assert _seen(lines[6]) == "| onnx-int8 batch 8 | regressed | +5.1% | +4.3% to +5.9% | 3.0% | 12 |  |"


def test_the_command_that_measures_again_what_failed_follows_the_title() -> None:
    judged = dataclasses.replace(_judged(SLOWER), command="pytest benchmarks/ -k test_against --against abc")
    assert _seen(render_markdown(judged, 0.05)).splitlines()[4] == f"To measure it again: {judged.command}"


def test_the_rest_is_folded() -> None:
    shown = render_markdown(_judged(SLOWER, OPEN, SAME), 0.05)
    assert re.findall("<summary>(.*)</summary>", shown) == [
        "1 without a clear change and 1 equivalent scores and sizes",
        "Key results&#58; latency of a call at batch size 1&#44; texts&#47;s at 1 or 32",
        "Where the speed comes from&#58; speed&#45;up &#61; runtime x precision x batching x padding",
        "Where it ran, and what the tables show",
    ]
    assert shown.count("<details>") == shown.count("</details>") == 4


def test_the_tables_of_the_terminal_are_shown() -> None:
    shown = _seen(render_markdown(_judged(SLOWER, head=_run(load=make_load())), 0.05))
    for line in (
        "| backend | p50 ms | p95 ms | p99 ms | texts/s | speed-up | $/M texts | MB | mean cosine "
        "| lowest cosine | in any batch |",
        "| onnx-int8 | 2.0 | 3.0 | - | 1,250 | 12.5 | 0.011 | 23.4 | 0.9934 | 0.9811 | 0.98432 |",
        "| onnx-int8 | 12.50 | 2.00 | 2.50 | 2.00 | 1.25 | 50.0% | 20.0% |",
        "| onnx-int8 | 400 | - | 500 |",
        "- in any batch: lowest cosine between a text encoded alone and the same text among 31 others",
    ):
        assert line in shown.splitlines()


def test_a_run_without_a_verdict_is_inconclusive() -> None:
    assert render_markdown(_judged(), 0.05).startswith(
        "### embedopt: inconclusive: no time could be decided: no verdict\n"
    )


@pytest.mark.parametrize("limit", [300, 1000, 3000, LIMIT])
def test_what_does_not_fit_is_left_out_with_a_note_and_nothing_is_broken(limit: int) -> None:
    many = [
        Verdict(backend=f"backend-{i}", batch_size=1, metric="latency", outcome="regressed", effect=0.1)
        for i in range(2000)
    ]
    shown = render_markdown(_judged(*many, OPEN), 0.05, limit)
    assert len(shown) <= limit
    assert re.search(r"\n\d+ more lines are left out: GitHub takes no longer text\.\n\Z", shown)
    assert shown.count("<details>") == shown.count("</details>")
    assert {line.count(" | ") for line in shown.splitlines() if line.startswith("| <code>backend-")} <= {6}


def test_what_fits_is_whole() -> None:
    assert "left out" not in render_markdown(_judged(SLOWER, OPEN, SAME), 0.05)


def _hostile_run() -> SavedRun:
    machine = Machine(
        cpu=HOSTILE,
        instruction_sets=(),
        cores=2,
        threads=2,
        system="Linux",
        python=HOSTILE,
        libraries={HOSTILE: HOSTILE},
    )
    run = make_run(
        machine=machine,
        hardware_class=HOSTILE,
        profile=HOSTILE,
        backends={"torch-fp32": BackendInfo(precision="fp32", base=None, settings={})},
    )
    content = make_file(run)
    for bench in content["benchmarks"][:2]:
        bench["extra_info"]["backend"] = HOSTILE
    return parse_run(HOSTILE, content)


def test_hostile_names_are_shown_as_text() -> None:
    verdict = Verdict(backend=HOSTILE, metric=HOSTILE, outcome="regressed", effect=0.1, why=HOSTILE)
    judged = JudgedRun(head=_hostile_run(), title=HOSTILE, verdicts=(verdict,), notes=(HOSTILE,))
    page = MarkdownIt("gfm-like", {"linkify": False}).render(render_markdown(judged, 0.05))
    outside = re.sub("<code>.*?</code>", "", page, flags=re.DOTALL)
    assert set(re.findall(r"<(\w+)", page)) == {
        "h3", "p", "code", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "ul", "li",
    }  # fmt: skip
    assert re.findall("alert|pwned|@|example|bold", outside) == []
    assert "::error" not in re.sub("&#\\d+;", "", render_markdown(judged, 0.05))


def test_annotations_name_what_failed_and_end_with_the_headline() -> None:
    assert render_annotations(_judged(SLOWER, OPEN, SAME)) == (
        "::error title=onnx-int8 batch 8::regressed, +5.1% (+4.3% to +5.9%) in 12 process pairs\n".replace(
            "%", "%25"
        )
        + "::notice title=embedopt::slower or bigger: 1 regressed, 1 inconclusive, 1 equivalent\n"
    )


def test_annotations_are_ten_errors_and_ten_warnings_and_say_how_many_more_there_are() -> None:
    many = [
        dataclasses.replace(SLOWER, outcome=outcome)
        for outcome in ("regressed", "not comparable")
        for _ in range(12)
    ]
    *shown, left_out, _ = render_annotations(_judged(*many)).splitlines()
    assert [line.partition(" ")[0] for line in shown] == ["::error"] * 10 + ["::warning"] * 10
    assert left_out == "::notice title=embedopt::4 more are left out: the summary of the job has them"


def test_an_annotation_of_a_hostile_name_is_one_line() -> None:
    gone = Verdict(backend=HOSTILE, metric="", outcome="not comparable", why=HOSTILE)
    lines = render_annotations(_judged(gone)).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["::warning", "::notice"]
