"""The suite itself, run by pytest on fake encoders: options, fixtures, the saved record, the summary."""

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.logger import PytestBenchmarkWarning

from embedopt.errors import MeasureError
from embedopt.evidence import ExactPair, GateRun, NotComparable, PairedCell
from embedopt.measure import footprint as footprint_module
from embedopt.measure import session as session_module
from embedopt.measure.load_test import capacity as capacity_module
from embedopt.measure.pairs.gate_run import GatePlan
from embedopt.measure.session import Session
from embedopt.records import Footprint, LoadPoint, run_from_json
from embedopt.sampling import PlanPairs
from tests.fakes import FakeEncoder, MoodyEncoder

ROOT = Path(__file__).parents[1]
CORPUS = "\n".join(json.dumps({"id": number, "text": f"text {number}"}) for number in range(40))
QUERIES = json.dumps({"text": "a query", "relevant": [3, 4]})


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Put fake encoders in the place of every runtime, and count how often each is loaded."""
    counted: Counter[str] = Counter()

    def open_fake(row: Any, folder: Path, mode: str) -> FakeEncoder:
        counted[row.name if mode == "latency" else f"{row.name} replicated"] += 1
        return (MoodyEncoder if row.name == "onnx-int8-per-tensor" else FakeEncoder)(row.name)

    monkeypatch.setattr(session_module, "open_encoder", open_fake)
    monkeypatch.setattr(Session, "folder", lambda self, name: Path())
    found = Footprint(disk_bytes=1_000_000, load_s=0.5, peak_rss_bytes=10_000_000)
    monkeypatch.setattr(footprint_module, "measure_footprint", lambda *_: found)
    point = LoadPoint(rate_per_s=9.0, seconds=1.0, p99_ms=5.0, kept_share=1.0, lost=0)
    monkeypatch.setattr(capacity_module, "drive", lambda *_: point)
    monkeypatch.setattr(capacity_module, "single_rate", lambda *_: 27.0)
    return counted


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, loads: Counter[str]) -> pytest.Pytester:
    """A copy of conftest.py and benchmarks/ with a small corpus."""
    shutil.copy(ROOT / "conftest.py", pytester.path)
    shutil.copytree(
        ROOT / "benchmarks", pytester.path / "benchmarks", ignore=shutil.ignore_patterns("corpus")
    )
    (pytester.path / "benchmarks" / "corpus").mkdir()
    (pytester.path / "benchmarks" / "corpus" / "listings.jsonl").write_text(CORPUS, encoding="utf8")
    (pytester.path / "benchmarks" / "corpus" / "queries.jsonl").write_text(QUERIES, encoding="utf8")
    pytester.makepyprojecttoml(
        '[tool.pytest.ini_options]\naddopts = ["--benchmark-autosave", "--benchmark-save-data"]\n'
    )
    return pytester


def _run(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return suite.runpytest_inprocess("benchmarks", "--profile", "quick", "-p", "no:cacheprovider", *arguments)


def _saved(suite: pytest.Pytester) -> list[Path]:
    return sorted(suite.path.glob(".benchmarks/*/*.json"))


def test_each_backend_is_loaded_once_in_the_tables_order(suite: pytest.Pytester, loads: Counter[str]) -> None:
    result = _run(suite, "--backends", "onnx-int8,onnx-fp32", "--batch-sizes", "1,8,32", "-v")
    result.assert_outcomes(passed=3 * (3 + 1 + 3 + 1) + 2, skipped=3 + 1 + 3 + 2)
    assert loads.items() >= {"torch-fp32": 1, "onnx-fp32": 1, "onnx-int8": 1}.items()
    assert list(loads) == [
        "torch-fp32",
        "onnx-fp32",
        "onnx-fp32 replicated",
        "onnx-int8",
        "onnx-int8 replicated",
    ]
    result.stdout.fnmatch_lines(["*test_latency[[]onnx-int8-32[]] PASSED*"])


def test_each_backend_is_loaded_once_when_the_reference_comes_last(
    suite: pytest.Pytester, loads: Counter[str]
) -> None:
    """Only another backend's accuracy is asked for: the reference is loaded for it, once."""
    _run(suite, "--backends", "onnx-int8", "-k", "onnx-int8 and agreement").assert_outcomes(
        passed=1, deselected=21
    )
    assert loads == {"torch-fp32": 1, "onnx-int8": 1}


def test_a_first_run_is_saved_and_has_nothing_to_compare_with(suite: pytest.Pytester) -> None:
    result = _run(suite, "--backends", "onnx-int8", "--benchmark-compare")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "Key results*",
            "torch-fp32 * 1 *",
            "onnx-int8 * 1 *",
            "Where the speed comes from*",
            "What a search finds*",
            "Under load: the highest rate with 99 % answered within 50 ms",
            "nothing to compare with yet: no earlier run that can be read; this one is saved for the next",
        ]
    )
    [file] = _saved(suite)
    saved = json.loads(file.read_text(encoding="utf8"))
    run = run_from_json(saved["embedopt"])
    assert run.corpus.texts == 41
    assert run.profile == "quick"
    assert set(run.accuracy) == set(run.throughput) == set(run.footprint) == {"torch-fp32", "onnx-int8"}
    assert run.accuracy["onnx-int8"].cosine_mean == pytest.approx(1.0)
    assert run.accuracy["onnx-int8"].batch_invariance_min == pytest.approx(1.0)
    assert run.accuracy["onnx-int8"].overlap_at_10 == 1.0
    assert run.footprint["onnx-int8"].disk_bytes == 1_000_000
    assert set(run.load) == {"torch-fp32", "onnx-int8"}
    assert list(run.load["onnx-int8"]) == ["none", "window", "adaptive"]
    assert run.load["onnx-int8"]["adaptive"].promise_ms == 50.0
    assert run.load["onnx-int8"]["adaptive"].single_per_s == 27.0
    [latency] = [bench for bench in saved["benchmarks"] if bench["name"] == "test_latency[onnx-int8-1]"]
    assert latency["extra_info"]["backend"] == "onnx-int8"
    assert latency["extra_info"]["batch_size"] == 1
    assert latency["extra_info"]["calls"] == len(latency["stats"]["data"]) == 200
    assert latency["extra_info"]["p95_ms"] > 0
    assert latency["extra_info"]["p99_ms"] is None
    assert latency["params"] == {"encoder": "onnx-int8", "batch_size": 1}


def test_a_second_run_compares_with_the_first(suite: pytest.Pytester) -> None:
    _run(suite, "--backends", "onnx-int8")
    result = _run(suite, "--backends", "onnx-int8", "--benchmark-compare")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*test_latency[[]onnx-int8-1[]] (NOW)*",
            "compared with the run of *: same hardware class, model, corpus and profile; 6 of 6 *",
        ]
    )
    assert len(_saved(suite)) == 2


def test_each_cell_has_its_place_in_its_own_history(suite: pytest.Pytester) -> None:
    """The saved file of this very run is not among those before it."""
    for run in range(6):
        result = _run(suite, "--backends", "onnx-int8", "-k", "latency", "--benchmark-compare")
        if run < 5:
            result.stdout.fnmatch_lines([f"history: 2 of 2 cells need up to {5 - run} more runs of this *"])
    result.stdout.re_match_lines(
        [
            r"this run in the 95 % prediction interval of its own history \(times over torch-fp32's\)",
            r"  onnx-int8 batch 1: [+-].*%, (inside|above|below) .* from 5 runs",
            r"  onnx-int8 batch 32: [+-].*%, (inside|above|below) .* from 5 runs",
        ]
    )


def test_a_run_on_another_corpus_cant_be_compared(suite: pytest.Pytester) -> None:
    (suite.path / "mine.txt").write_text("one\ntwo\n", encoding="utf8")
    _run(suite, "--backends", "onnx-int8")
    result = _run(suite, "--backends", "onnx-int8", "--benchmark-compare", "--corpus", "mine.txt")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "the run of * can't be compared with this one*",
            "  its corpus is corpus (*), this one's is mine.txt (*)",
        ]
    )


@pytest.mark.parametrize("record", ['{"schema": 99}', '{"schema": 1}', "[]"])
def test_a_run_with_a_record_that_cant_be_read_cant_be_compared(suite: pytest.Pytester, record: str) -> None:
    _run(suite, "--backends", "onnx-int8")
    [file] = _saved(suite)
    saved = json.loads(file.read_text(encoding="utf8"))
    file.write_text(json.dumps(saved | {"embedopt": json.loads(record)}), encoding="utf8")
    result = _run(suite, "--backends", "onnx-int8", "--benchmark-compare")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["the run of * can't be compared: *"])


def test_a_damaged_history_file_is_named_and_passed_over(suite: pytest.Pytester) -> None:
    """Half-written by a run that was killed: this run is measured and saved all the same."""
    _run(suite, "--backends", "onnx-int8")
    [file] = _saved(suite)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.warns(PytestBenchmarkWarning) as warned:
        result = _run(suite, "--backends", "onnx-int8", "--benchmark-compare")
    assert str(warned[0].message).startswith(f"Failed to load {file}")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["nothing to compare with yet*"])
    assert len(_saved(suite)) == 2


def test_compare_fail_works_as_documented_and_the_summary_still_shows(suite: pytest.Pytester) -> None:
    _run(suite, "--backends", "onnx-int8", "-k", "latency")
    [file] = _saved(suite)
    saved = json.loads(file.read_text(encoding="utf8"))
    for bench in saved["benchmarks"]:
        bench["stats"]["min"] = 1e-9  # whatever comes now is slower
    file.write_text(json.dumps(saved), encoding="utf8")
    result = _run(
        suite,
        "--backends",
        "onnx-int8",
        "-k",
        "latency",
        "--benchmark-compare",
        "--benchmark-compare-fail=min:5%",
    )
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.stdout.fnmatch_lines(["Key results*"])


def test_an_encoder_below_its_floor_fails_with_its_figure(suite: pytest.Pytester) -> None:
    """Per-tensor is a moody encoder here: among others it says something else."""
    result = _run(suite, "--backends", "onnx-int8-per-tensor", "-k", "accuracy")
    result.assert_outcomes(passed=4, failed=2, skipped=2)
    result.stdout.fnmatch_lines(
        [
            "*onnx-int8-per-tensor: cosine_mean is 0.*, wanted 0.95 or higher (*",
            "*batch_invariance_min is 0.*",
        ]
    )


def test_pairs_are_scored(suite: pytest.Pytester) -> None:
    (suite.path / "pairs.tsv").write_text("1\ta\tb\n2\tc\td\n3\te\te\n", encoding="utf8")
    result = _run(suite, "--backends", "onnx-int8", "--pairs", "pairs.tsv")
    result.assert_outcomes(passed=2 * (4 + 1 + 2 + 1 + 1), skipped=2 + 2)
    result.stdout.re_match_lines([r".*Spearman x 100 to reference", r"onnx-int8 .* -?\d+\.\d\d +0\.00$"])
    [file] = _saved(suite)
    accuracy = json.loads(file.read_text(encoding="utf8"))["embedopt"]["accuracy"]
    assert accuracy["onnx-int8"]["spearman"] == accuracy["torch-fp32"]["spearman"]
    assert accuracy["onnx-int8"]["spearman_distance"] == 0.0


def test_pairs_are_shown_when_nothing_is_timed(suite: pytest.Pytester) -> None:
    (suite.path / "pairs.tsv").write_text("1\ta\tb\n2\tc\td\n3\te\te\n", encoding="utf8")
    result = _run(suite, "--backends", "onnx-int8", "--pairs", "pairs.tsv", "-k", "test_pairs")
    result.assert_outcomes(passed=2, deselected=20)
    result.stdout.re_match_lines([r".*Spearman x 100 to reference", r"onnx-int8 .* -?\d+\.\d\d +0\.00$"])


def test_another_benchmark_with_our_words_in_it_does_no_harm(suite: pytest.Pytester) -> None:
    source = "def test_it(benchmark):\n    benchmark.extra_info.update(p50_ms='x')\n    benchmark(int)\n"
    (suite.path / "benchmarks" / "test_mine.py").write_text(source, encoding="utf8")
    result = _run(suite, "--backends", "onnx-int8", "-k", "test_it")
    result.assert_outcomes(passed=1, deselected=22)


def test_a_run_of_other_benchmarks_cant_be_compared(suite: pytest.Pytester) -> None:
    _run(suite, "--backends", "onnx-int8", "-k", "latency")
    result = _run(suite, "--backends", "onnx-int8", "-k", "throughput", "--benchmark-compare")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["the run of * can't be compared with this one: no benchmark is in both"])


def test_on_a_real_model_each_artifact_is_built_once(
    pytester: pytest.Pytester, tiny_model: Callable[..., Path]
) -> None:
    """Nothing faked: store, export and encoders, on a tiny model, in a process of its own; twice."""
    shutil.copy(ROOT / "conftest.py", pytester.path)
    shutil.copytree(ROOT / "benchmarks", pytester.path / "benchmarks")
    arguments = [
        "benchmarks",
        "--profile",
        "quick",
        "--backends",
        "onnx-fp32,onnx-int8",
        "--batch-sizes",
        "1",
    ]
    arguments += ["--model", str(tiny_model()), "--min-cosine", "-1", "--cache-dir", "cache"]
    first = pytester.runpytest_subprocess(*arguments, "-k", "accuracy or footprint")
    first.assert_outcomes(passed=12, skipped=3, deselected=14)
    steps = [line.split(":")[0] for line in first.outlines if line.startswith(("building", "built"))]
    assert [step.split(" in ")[0] for step in steps] == [
        "building onnx-fp32",
        "built onnx-fp32",
        "building onnx-int8",
        "built onnx-int8",
    ]
    second = pytester.runpytest_subprocess(*arguments, "-k", "retrieval")
    second.assert_outcomes(passed=3, deselected=26)
    assert [line for line in second.outlines if line.startswith("buil")] == []


def test_without_timing_nothing_is_saved_but_scores_are_shown(suite: pytest.Pytester) -> None:
    result = _run(suite, "--backends", "onnx-int8", "--benchmark-disable")
    result.assert_outcomes(passed=2 * (3 + 1 + 2 + 1 + 1), skipped=2 + 2 + 2)
    assert _saved(suite) == []
    result.stdout.no_fnmatch_line("*Key results*")
    result.stdout.fnmatch_lines(["What a search finds*"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--backends", "onnx-int4"],
            "ERROR: unknown backend 'onnx-int4'; known are: torch-fp32, torch-bf16, *",
        ),
        (["--batch-sizes", "3"], "ERROR: unknown batch size 3; known are: 1, 2, 4, 8, 16, 32, 64"),
        (["--slo-p99-ms", "0"], "ERROR: --slo-p99-ms is 0.0; wanted milliseconds above 0"),
        (["--gate-threshold", "nan"], "ERROR: --gate-threshold is nan; wanted a share, 0.03 for 3 %"),
        (["--min-cosine", "2"], "ERROR: --min-cosine is 2.0; wanted a cosine, from -1 to 1"),
        (["--corpus", "nowhere.txt"], "ERROR: corpus nowhere.txt: no such file or directory; *"),
        (["--pairs", "nowhere.tsv"], "ERROR: pairs nowhere.tsv can't be read*"),
    ],
)
def test_wrong_options_are_a_usage_error_in_one_line(
    suite: pytest.Pytester, arguments: list[str], said: str
) -> None:
    result = _run(suite, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])
    assert "Traceback" not in str(result.stderr)


def test_an_unknown_profile_is_a_usage_error(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("benchmarks", "--profile", "slow")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--profile: invalid choice: 'slow' (choose from *full*quick*)"])


def test_collecting_builds_nothing(suite: pytest.Pytester, loads: Counter[str]) -> None:
    result = _run(suite, "--collect-only", "-q")
    assert result.ret == 0
    assert loads == {}


@pytest.fixture
def against(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Put a made-up record in the place of a measurement: what each cell's log ratio is, and more."""
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *command], cwd=suite.path, check=True)
    found: dict[str, Any] = {"onnx-int8 batch 1": 0.0, "onnx-int8 batch 8": 0.0, "onnx-int8 load": 0.0}

    def measure(asking: GatePlan, plan_pairs: PlanPairs, on_step: Callable[[str], None]) -> GateRun:
        assert plan_pairs([PairedCell(cell=asking.cells[0])]) != ()
        on_step("pair 1: onnx-int8 in 7 s")
        found["asking"] = asking
        if "error" in found:
            raise MeasureError(found["error"])
        noise = found.get("noise", (-0.002, -0.001, 0.0, 0.0, 0.001, 0.002))
        pairs = [(cell, tuple(found[str(cell)] + value for value in noise)) for cell in asking.cells]
        fresh = found.get("fresh", 6) * (len(noise) > 1)
        refused = found.get("not_comparable", ())
        size = ExactPair(backend="onnx-int8", metric="disk_bytes", base=100, head=found.get("bytes", 100))
        cosine = ExactPair(backend="onnx-int8", metric="cosine_mean", base=0.99, head=0.99)
        return GateRun(
            base=asking.ref,
            base_commit="0" * 40,
            cells=()
            if refused
            else tuple(PairedCell(cell=cell, log_ratios=of, fresh=of[:fresh]) for cell, of in pairs),
            exact=() if refused else (size, *found.get("scores", (cosine,))),
            not_comparable=refused,
            pairs=12,
            seconds=100.0,
            budget_s=asking.budget_s,
            threshold=asking.threshold,
        )

    monkeypatch.setattr(session_module, "measure_gate_run", measure)
    return found


def _run_against(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    cells = ["--against", "HEAD", "--backends", "onnx-int8", "--batch-sizes", "1,8"]
    return suite.runpytest_inprocess(
        "benchmarks/test_against.py", "-p", "no:cacheprovider", "-v", "-rs", *cells, *arguments
    )


def test_against_a_base_each_cell_has_a_verdict_and_the_run_is_saved(
    suite: pytest.Pytester, against: dict[str, Any]
) -> None:
    against["onnx-int8 batch 8"] = 0.1
    result = _run_against(suite, "--against-budget", "60")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        [
            "pair 1: onnx-int8 in 7 s",
            "*test_against[[]onnx-int8-batch 1[]] PASSED*",
            "*test_against[[]onnx-int8-batch 8[]] FAILED*",
            "*test_against[[]onnx-int8-load[]] PASSED*",
            "*test_against[[]onnx-int8-size[]] PASSED*",
            "*test_against[[]onnx-int8-accuracy[]] PASSED*",
            "onnx-int8 batch 8: regressed, +10.5% (* to *) in 12 process pairs",
            "slower or bigger: 1 regressed, 4 equivalent",
        ]
    )
    asking = against["asking"]
    assert (asking.ref, asking.head, asking.budget_s, asking.threshold) == ("HEAD", suite.path, 60.0, None)
    [file] = _saved(suite)
    record = run_from_json(json.loads(file.read_text(encoding="utf8"))["embedopt"]).against
    assert record is not None
    assert record.base == "HEAD"


def test_a_run_against_a_base_alone_is_written_where_it_was_asked_for(
    suite: pytest.Pytester, against: dict[str, Any]
) -> None:
    _run_against(suite, "--benchmark-json", "run.json").assert_outcomes(passed=5)
    assert "against" in json.loads((suite.path / "run.json").read_text(encoding="utf8"))["embedopt"]


def test_the_threshold_says_what_counts(suite: pytest.Pytester, against: dict[str, Any]) -> None:
    against["onnx-int8 batch 8"] = 0.1
    _run_against(suite, "--gate-threshold", "0.2").assert_outcomes(passed=5)


def test_a_bigger_file_fails(suite: pytest.Pytester, against: dict[str, Any]) -> None:
    against["bytes"] = 110
    result = _run_against(suite)
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["onnx-int8 disk_bytes: regressed, +10.0%, 100 -> 110"])


def test_what_cant_be_told_is_skipped_in_words(suite: pytest.Pytester, against: dict[str, Any]) -> None:
    against["onnx-int8 batch 8"] = 0.029
    result = _run_against(suite)
    result.assert_outcomes(passed=4, skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED * onnx-int8 batch 8: inconclusive, +2.9% (*% to *%) in 12 process*"]
    )


def test_what_was_not_measured_does_not_pass(suite: pytest.Pytester, against: dict[str, Any]) -> None:
    against["scores"] = ()
    result = _run_against(suite)
    result.assert_outcomes(passed=4, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * onnx-int8 accuracy: not measured"])


def test_a_budget_too_small_for_any_verdict_never_passes(
    suite: pytest.Pytester, against: dict[str, Any]
) -> None:
    """Sizes and scores are told all the same, and pass."""
    against["noise"] = (0.0,)
    result = _run_against(suite)
    result.assert_outcomes(passed=2, failed=3)
    result.stdout.fnmatch_lines(
        ["onnx-int8 batch 1: inconclusive, *1 process pairs; a verdict takes 6: raise*"]
    )


def test_a_cell_that_looked_slower_when_the_budget_ended_fails(
    suite: pytest.Pytester, against: dict[str, Any]
) -> None:
    against |= {"onnx-int8 batch 8": 0.1, "fresh": 3}
    result = _run_against(suite)
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["onnx-int8 batch 8: inconclusive, *the budget ended before fresh pairs*"])


def test_a_base_that_cant_be_compared_at_all_never_passes(
    suite: pytest.Pytester, against: dict[str, Any]
) -> None:
    against["not_comparable"] = (NotComparable(backend="onnx-int8", why="the base has no worker"),)
    result = _run_against(suite)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["onnx-int8: not comparable, the base has no worker"])


def test_a_side_that_fails_is_an_error_in_one_line(suite: pytest.Pytester, against: dict[str, Any]) -> None:
    against["error"] = "the worker of base ended with 1: out of luck"
    result = _run_against(suite)
    result.assert_outcomes(errors=5)
    result.stdout.fnmatch_lines(["the worker of base ended with 1: out of luck"])
    assert _saved(suite) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--against", "nowhere"], "ERROR: --against nowhere: * has no such commit, branch or tag; *"),
        (["--against-budget", "0"], "ERROR: --against-budget is 0; wanted seconds, above 0"),
        (["--gate-threshold", "3"], "ERROR: --gate-threshold is 3; wanted a share, 0.03 for 3 %"),
        (["--against-python", "./no"], "ERROR: --against-python ./no can't be run; wanted a Python *"),
    ],
)
def test_a_wrong_base_is_a_usage_error(
    suite: pytest.Pytester, against: dict[str, Any], arguments: list[str], said: str
) -> None:
    result = _run_against(suite, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


def test_conftest_is_one_line() -> None:
    assert (ROOT / "conftest.py").read_text(encoding="utf8") == 'pytest_plugins = ["embedopt.plugin"]\n'


def test_a_run_without_benchmarks_has_the_options_and_no_more(suite: pytest.Pytester) -> None:
    """Unit tests beside the suite meet none of its fixtures, hooks or checks."""
    suite.makepyfile(
        "def test_it(pytestconfig):\n    assert not pytestconfig.pluginmanager.hasplugin('embedopt-suite')\n"
    )
    result = suite.runpytest_inprocess(
        "test_a_run_without_benchmarks_has_the_options_and_no_more.py", "--min-cosine", "7"
    )
    result.assert_outcomes(passed=1)
    assert "embedopt" not in [line.strip(" =") for line in result.outlines]
