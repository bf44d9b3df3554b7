"""report, merge, append and comment: what they write, and their messages on wrong input."""

import html
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from embedopt.cli import report as cli_report
from embedopt.cli.app import main
from embedopt.errors import EmbedoptError, MeasureError, RecordError, UsageError
from embedopt.evidence import Cell, GateRun, PairedCell
from embedopt.schema import to_json
from tests.ci.github_api import REPOSITORY, FakeGitHub, serving, workflow_run
from tests.runs import HOSTILE, make_file, make_run

Comment = Callable[..., int]
_SHA = "5" * 40


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


_SLOWER = (0.096, 0.104, 0.098, 0.102, 0.101, 0.099)
_THE_SAME = (0.001, -0.001, 0.0, 0.001, -0.001, 0.0)


def _save(
    name: str = ".benchmarks/L/0001_run.json", ratios: tuple[float, ...] = _SLOWER, **changes: Any
) -> Path:
    cell = PairedCell(cell=Cell(backend="onnx-int8", batch_size=32), log_ratios=ratios, fresh=ratios)
    against = GateRun(
        base="main", base_commit="c" * 40, cells=(cell,), pairs=12, seconds=60.0, budget_s=480.0
    )
    content = make_file(make_run(against=against)) | {"datetime": "2026-03-01T12:00:00+00:00"} | changes
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf8")
    return file


def test_markdown_of_the_newest_run_goes_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _save()
    assert main(["report", "--format", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("### embedopt: slower or bigger: 1 regressed\n")


def test_markdown_of_a_named_run_goes_into_a_file(tmp_path: Path) -> None:
    file = _save("one.json")
    assert main(["report", str(file), "--format", "markdown", "-o", "deep/summary.md"]) == 0
    assert (tmp_path / "deep" / "summary.md").read_text(encoding="utf8").startswith("### embedopt: slower")


def test_annotations_are_commands_of_the_runner(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(_save("one.json")), "--format", "annotations"]) == 0
    assert (
        capsys.readouterr()
        .out.splitlines()[0]
        .startswith("::error title=onnx-int8 batch 32::regressed, +10.5%25")
    )


@pytest.mark.parametrize(("shape", "begins"), [("junit", "<?xml version="), ("codequality", "[\n")])
def test_reports_for_gitlab_go_into_a_file(tmp_path: Path, shape: str, begins: str) -> None:
    assert main(["report", str(_save("one.json")), "--format", shape, "-o", "report"]) == 0
    written = (tmp_path / "report").read_text(encoding="utf8")
    assert written.startswith(begins)
    assert "onnx-int8 batch 32" in written


def test_the_page_holds_the_history_and_a_named_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _save()
    named = _save("one.json", datetime="2026-03-02T12:00:00+00:00")
    assert main(["report", str(named)]) == 0
    assert capsys.readouterr().out == "report.html: 2 runs\n"
    assert (tmp_path / "report.html").read_text(encoding="utf8").startswith("<!doctype html>")


def test_a_damaged_file_is_named_on_the_page_and_beside_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    damaged = _save().with_name("0000_<b>.json")
    damaged.write_text("half-writ", encoding="utf8")
    assert main(["report"]) == 0
    assert "0000_<b>.json is damaged: it is not JSON" in capsys.readouterr().out
    assert "0000_\\u003cb>.json is damaged" in (tmp_path / "report.html").read_text(encoding="utf8")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["report"],
            ".benchmarks has no saved run that can be read: run pytest benchmarks/ first, or name a file",
        ),
        (["report", "none.json"], "none.json: no such file or directory; wanted a saved run"),
        (["merge", "none", "-o", "x.json"], "none: no such file or directory; wanted a saved run"),
        (["append", "none.json", "--into", "x"], "none.json: no such file or directory; wanted a saved run"),
        (["comment", "none"], "GITHUB_EVENT_PATH is not set: this command is a step of a workflow on GitHub"),
    ],
)
def test_wrong_input_is_one_line(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert capsys.readouterr().err == f"embedopt: {message}\n"


def test_a_folder_without_shards_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    assert main(["merge", "shards", "-o", "x.json"]) == 2
    assert capsys.readouterr().err == "embedopt: no saved run in shards: see the logs of the jobs\n"


def test_a_report_that_cant_be_written_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    file = _save("one.json")
    assert main(["report", str(file), "-o", "one.json/report.html"]) == 2
    assert "one.json/report.html can't be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ["report", "one.json", "-o", "link"],
        ["report", "one.json", "--format", "markdown", "-o", "link"],
        ["report", "--history", "runs", "-o", "link"],
        ["merge", "runs", "-o", "link"],
        ["merge", "one.json", "-o", "link"],
    ],
)
def test_no_command_overwrites_a_run_that_it_reads(
    argv: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The output is a link to it."""
    file = _save("runs/0001_run.json" if "runs" in argv else "one.json")
    (tmp_path / "link").symlink_to(file)
    before = file.read_bytes()
    assert main(argv) == 2
    assert (
        capsys.readouterr().err
        == f"embedopt: link is the input {file}; wanted another file: choose another place with -o\n"
    )
    assert file.read_bytes() == before


def test_shards_of_a_folder_are_merged(capsys: pytest.CaptureFixture[str]) -> None:
    _save("shards/a/0001_run.json")
    assert main(["merge", "shards", "-o", "merged/run.json"]) == 0
    assert capsys.readouterr().out == "merged/run.json: torch-fp32, onnx-fp32, onnx-int8\n"
    assert main(["gate", "merged/run.json"]) == 1


def test_a_name_that_looks_like_a_command_of_the_runner_is_text_on_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = make_file(make_run())
    content["benchmarks"][0]["fullname"] = f"::error::{HOSTILE}"
    before, after = _save("one.json"), _save("two.json", benchmarks=content["benchmarks"])
    main(["compare", str(before), str(after)])
    out = capsys.readouterr().out
    assert "pwned" in out
    assert not any(
        line.lstrip().startswith("::") or "##[" in line or "\x1b" in line for line in out.splitlines()
    )


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    with serving() as fake:
        yield fake


@pytest.fixture
def comment(github: FakeGitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Comment:
    """Comment as the step of the workflow does."""

    def run(*numbers: int, sha: str = _SHA, **changes: Any) -> int:
        event = tmp_path / "event.json"
        event.write_text(json.dumps(workflow_run(sha, *numbers, **changes)), encoding="utf8")
        for name, value in {
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_API_URL": github.url,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_TOKEN": "secret",
        }.items():
            monkeypatch.setenv(name, value)
        (tmp_path / "artifact").mkdir(exist_ok=True)
        return main(["comment", "artifact"])

    return run


def test_a_comment_is_made_once_and_then_updated(github: FakeGitHub, comment: Comment) -> None:
    github.open(7, _SHA)
    for _ in range(130):
        github.add_comment("nice work", "someone")
    _save("artifact/run.json")
    assert comment(7) == 0
    assert comment(7) == 0
    assert len(github.comments) == 131
    assert github.comments[-1]["body"].startswith(
        "<!-- embedopt -->\n### embedopt: slower or bigger: 1 regressed\n"
    )


def test_the_pull_request_of_a_fork_is_identified_by_branch_and_commit(
    github: FakeGitHub, comment: Comment
) -> None:
    github.open(8, _SHA, "fork:other")
    github.open(9, _SHA, "fork:topic")
    _save("artifact/run.json")
    assert comment() == 0
    assert github.requests[-1] == f"POST /repos/{REPOSITORY}/issues/9/comments"


def test_a_run_of_an_older_commit_makes_no_comment(github: FakeGitHub, comment: Comment) -> None:
    github.open(7, "6" * 40)
    _save("artifact/run.json")
    assert comment(7) == 0
    assert github.comments == []


def test_the_comment_goes_to_the_pull_request_whose_commit_was_measured(
    github: FakeGitHub, comment: Comment
) -> None:
    github.open(7, "6" * 40)
    github.open(8, _SHA)
    _save("artifact/run.json")
    assert comment(7, 8) == 0
    assert github.requests[-1] == f"POST /repos/{REPOSITORY}/issues/8/comments"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_repository": None}, "the fork that was measured is deleted: no comment\n"),
        ({"conclusion": "action_required"}, "the run measured nothing (action_required): no comment\n"),
        ({"conclusion": "skipped"}, "the run measured nothing (skipped): no comment\n"),
        ({"conclusion": "cancelled"}, "the run measured nothing (cancelled): no comment\n"),
    ],
)
def test_some_runs_get_no_comment(
    github: FakeGitHub,
    comment: Comment,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    assert comment(**changes) == 0
    assert capsys.readouterr().out == message
    assert github.requests == []


def test_a_pull_request_with_a_number_gets_a_comment_though_its_fork_is_gone(
    github: FakeGitHub, comment: Comment
) -> None:
    github.open(7, _SHA)
    _save("artifact/run.json")
    assert comment(7, head_repository=None) == 0
    assert len(github.comments) == 1


def test_a_comment_of_someone_else_is_left_alone(github: FakeGitHub, comment: Comment) -> None:
    github.open(7, _SHA)
    github.add_comment("<!-- embedopt -->\nmine", "someone")
    github.add_comment("<!-- embedopt -->\nnobody's", None)
    _save("artifact/run.json")
    assert comment(7) == 0
    assert [other["body"].splitlines()[1] for other in github.comments[:2]] == ["mine", "nobody's"]
    assert len(github.comments) == 3


def test_a_job_that_saved_no_run_gets_a_comment_that_says_so(github: FakeGitHub, comment: Comment) -> None:
    github.open(7, _SHA)
    assert comment(7) == 0
    [posted] = github.comments
    assert (
        posted["body"].splitlines()[1]
        == "### embedopt: no verdict: the job ended (<code>failure</code>) before it saved a run"
    )


@pytest.mark.parametrize(
    ("conclusion", "message"),
    [
        ("success", ""),
        (
            "failure",
            ", but the job failed (<code>failure</code>): "
            f"[the log](https://github.com/{REPOSITORY}/actions/runs/1)",
        ),
    ],
)
def test_a_passing_verdict_of_a_failed_job_says_so_in_its_first_line(
    github: FakeGitHub, comment: Comment, conclusion: str, message: str
) -> None:
    """A shard is missing, or the suite missed a floor: the gate alone passes."""
    github.open(7, _SHA)
    _save("artifact/run.json", _THE_SAME)
    assert comment(7, conclusion=conclusion) == 0
    assert github.comments[0]["body"].splitlines()[1] == f"### embedopt: pass: 1 equivalent{message}"


def test_the_comment_on_a_failed_verdict_does_not_mention_the_failed_job(
    github: FakeGitHub, comment: Comment
) -> None:
    github.open(7, _SHA)
    _save("artifact/run.json")
    assert comment(7, conclusion="failure") == 0
    assert github.comments[0]["body"].splitlines()[1] == "### embedopt: slower or bigger: 1 regressed"


def test_a_change_that_is_not_measured_updates_a_comment_but_makes_none(
    github: FakeGitHub, comment: Comment
) -> None:
    github.open(7, _SHA)
    assert comment(7, conclusion="success") == 0
    assert github.comments == []
    github.add_comment("<!-- embedopt -->\nslower")
    assert comment(7, conclusion="success") == 0
    assert github.comments[0]["body"].splitlines()[1].startswith("### embedopt: nothing to measure")


def test_a_record_with_ratios_beyond_reason_is_refused(github: FakeGitHub, comment: Comment) -> None:
    """exp(1e6) would overflow."""
    github.open(7, _SHA)
    cell = PairedCell(cell=Cell(backend="onnx-int8", batch_size=1), log_ratios=(1e6,) * 6)
    against = GateRun(base="main", base_commit="c" * 40, cells=(cell,), pairs=6, seconds=1.0, budget_s=1.0)
    _save("artifact/run.json", embedopt=to_json(make_run(against=against)))
    assert comment(7) == 0
    assert "no verdict: what the job saved can't be read" in github.comments[0]["body"]


@pytest.mark.parametrize("error", [RecordError, UsageError, MeasureError])
def test_an_artifact_that_cant_be_judged_gets_one_comment(
    github: FakeGitHub, comment: Comment, monkeypatch: pytest.MonkeyPatch, error: type[EmbedoptError]
) -> None:
    def refuse(*_: object) -> None:
        raise error("a share of 5")

    monkeypatch.setattr(cli_report, "judge_run", refuse)
    github.open(7, _SHA)
    _save("artifact/run.json")
    assert comment(7) == 0
    assert github.comments[0]["body"].splitlines()[1:4] == [
        "### embedopt: no verdict: what the job saved can't be read",
        "",
        "<code>a share of 5</code>",
    ]


def test_an_artifact_with_two_runs_gets_a_comment_that_asks_for_one(
    github: FakeGitHub, comment: Comment
) -> None:
    github.open(7, _SHA)
    _save("artifact/one.json")
    _save("artifact/two.json")
    assert comment(7) == 0
    body = html.unescape(github.comments[0]["body"])
    assert "artifact has 2 saved runs; wanted one: name the file, or merge them" in body


@pytest.mark.parametrize("content", ["half-writ", "[" * 100_000, "[]", '{"benchmarks": [1]}'])
def test_a_hostile_artifact_gets_a_comment_of_plain_text(
    github: FakeGitHub, comment: Comment, tmp_path: Path, content: str
) -> None:
    github.open(7, _SHA)
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "run.json").write_text(content, encoding="utf8")
    assert comment(7) == 0
    [posted] = github.comments
    assert posted["body"].splitlines()[1] == "### embedopt: no verdict: what the job saved can't be read"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "401 Unauthorized; the token is not valid, or has expired: run the job again"),
        (403, "403 Forbidden; the token may not comment: give the job the permission pull-requests: write"),
        (404, "404 Not Found; it does not exist, or the token may not see it: check GITHUB_REPOSITORY"),
        (422, "422 Unprocessable Entity; GitHub does not accept this request: check GITHUB_API_URL"),
        (429, "429 Too Many Requests; there were too many requests: run the job again in an hour"),
        (502, "502 Bad Gateway; GitHub has a problem of its own: run the job again later"),
    ],
)
def test_a_refusal_by_github_is_one_line_that_says_what_to_do(
    github: FakeGitHub, comment: Comment, capsys: pytest.CaptureFixture[str], status: int, message: str
) -> None:
    github.refuses_with = status
    assert comment(7) == 2
    url = f"{github.url}/repos/{REPOSITORY}/pulls/7"
    assert capsys.readouterr().err == f"embedopt: GET {url}: {message}\n"


def test_another_event_is_refused(comment: Comment, capsys: pytest.CaptureFixture[str]) -> None:
    assert comment(7, head_repository={}) == 2
    assert "wanted the event workflow_run" in capsys.readouterr().err
