"""What a run is judged by, and the notes that go with it."""

from datetime import UTC, datetime

from embedopt.errors import RecordError
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.verdict import exit_code
from embedopt.judge.history.saved_runs import History, SavedRun, parse_run
from embedopt.judge.newest import Newest
from embedopt.report.judged_run import describe_changed_benchmarks, judge_run
from tests.judge.gate.gate_runs import gate_run, paired_cell
from tests.runs import make_file, make_run

SETTINGS = GateSettings()
_DAMAGED = (RecordError("x.json is damaged"),)


def _saved(day: int, **changes: object) -> SavedRun:
    return parse_run(f"{day}.json", make_file(make_run(**changes)) | {"datetime": f"2026-03-0{day}T12:00:00"})


def _newest(run: SavedRun) -> Newest:
    return Newest(head=run, run=run)


def _history(*runs: SavedRun) -> History:
    return History(runs=tuple((run.time or datetime.now(UTC), run) for run in runs), damaged=_DAMAGED)


def test_a_run_with_a_gate_run_is_judged_by_it() -> None:
    judged = judge_run(_history(_saved(1)), _newest(_saved(2, against=gate_run(paired_cell(0.0)))), SETTINGS)
    assert judged.title == "2.json against main"
    assert [verdict.metric for verdict in judged.verdicts] == ["latency"]
    assert judged.notes == ("passed over: x.json is damaged",)


def test_a_gate_run_without_any_verdict_does_not_pass_by_its_history() -> None:
    judged = judge_run(_history(*map(_saved, range(1, 7))), _newest(_saved(7, against=gate_run())), SETTINGS)
    assert (judged.title, judged.verdicts, exit_code(judged.verdicts)) == ("7.json against main", (), 5)


def test_a_run_without_a_gate_run_is_judged_by_its_history() -> None:
    judged = judge_run(_history(_saved(1), _saved(2)), _newest(_saved(3)), SETTINGS)
    assert judged.title == "3.json in its own history (2 earlier runs)"
    assert {"p50_ms", "cosine_mean", "disk_bytes"} <= {verdict.metric for verdict in judged.verdicts}


def test_benchmarks_that_changed_since_the_run_before_are_noted() -> None:
    content = make_file(make_run())
    content["benchmarks"].append({"fullname": "test_new", "extra_info": {}})
    head = parse_run("head", content)
    assert describe_changed_benchmarks(_history(_saved(1)), head) == ("1 new: test_new",)
    assert describe_changed_benchmarks(_history(), head) == ()
