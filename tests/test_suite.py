"""The suite itself, run by pytest with fake encoders: what is collected, saved, compared and refused."""

import importlib.util
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.logger import PytestBenchmarkWarning

from embedopt.errors import UnsupportedModelError
from embedopt.inference.backend import Backend
from embedopt.inference.backends import DEFAULT_TO_STORE
from embedopt.inference.encoder import FloatArray
from embedopt.judge.history.saved_runs import read_run, run_from_json
from embedopt.measure import bounds
from embedopt.measure import session as session_module
from tests.fakes import FakeEncoder
from tests.runs import make_run
from tests.suite import ROOT, run_suite, saved_files


def test_each_backend_is_opened_once_in_the_order_of_the_table(
    suite: pytest.Pytester, opened: Counter[str]
) -> None:
    result = run_suite(suite, "--backends", "onnx-int8,onnx-fp32", "--batch-sizes", "1,8,32", "-v")
    result.assert_outcomes(passed=3 * (3 + 1 + 3 + 2) + 3)
    # The load test opens replicas alone.
    assert opened == {"torch-fp32": 1, "onnx-fp32": 1, "onnx-int8": 1, "onnx-int8 replicated": 1}
    assert list(opened) == ["torch-fp32", "onnx-fp32", "onnx-int8", "onnx-int8 replicated"]
    result.stdout.fnmatch_lines(["*test_latency[[]onnx-int8-32[]] PASSED*"])


def test_the_reference_is_opened_once_when_only_another_backend_is_measured(
    suite: pytest.Pytester, opened: Counter[str]
) -> None:
    run_suite(suite, "--backends", "onnx-int8", "-k", "onnx-int8 and agreement").assert_outcomes(
        passed=1, deselected=18
    )
    assert opened == {"torch-fp32": 1, "onnx-int8": 1}


def test_a_first_run_is_saved_and_has_nothing_to_compare_with(suite: pytest.Pytester) -> None:
    result = run_suite(suite, "--backends", "onnx-int8", "--benchmark-compare")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "Key results*",
            "torch-fp32 * *",
            "onnx-int8 * *",
            "Where the speed comes from*",
            "more tables: pytest -v, or embedopt summary RUN.json --all",
            "nothing to compare with yet: no earlier run that can be read; this one is saved for the next",
        ]
    )
    [file] = saved_files(suite)
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


def test_what_does_not_apply_is_not_collected(suite: pytest.Pytester) -> None:
    """A load test for two backends only, and nothing that needs an input which this run lacks."""
    corpus = "benchmarks/corpus/listings.jsonl"
    result = run_suite(suite, "--backends", "onnx-int8,onnx-fp32", "--corpus", corpus, "--co", "-q")
    names = Counter(line.split("::")[1].split("[")[0] for line in result.outlines if "::" in line)
    assert names == {
        "test_agreement": 3,
        "test_clipping": 1,
        "test_batch_invariance": 3,
        "test_footprint": 3,
        "test_forced": 3,
        "test_latency": 6,
        "test_load": 2,
        "test_throughput": 3,
    }
    result.stdout.fnmatch_lines(["24 tests collected in *"])


def test_a_soak_is_collected_when_it_is_given_seconds(suite: pytest.Pytester) -> None:
    result = run_suite(suite, "--backends", "onnx-int8", "--soak-s", "1", "--co", "-q", "-k", "soak")
    result.stdout.fnmatch_lines(["benchmarks/test_load.py::test_soak[[]onnx-int8[]]"])


def test_the_bulk_benchmark_is_collected_when_it_is_given_texts(suite: pytest.Pytester) -> None:
    result = run_suite(suite, "--backends", DEFAULT_TO_STORE, "--bulk-texts", "9", "--co", "-q", "-k", "bulk")
    result.stdout.fnmatch_lines([f"benchmarks/test_bulk.py::test_bulk[[]{DEFAULT_TO_STORE}[]]"])


def test_an_unknown_need_is_a_usage_error(suite: pytest.Pytester) -> None:
    source = "import pytest\n\n@pytest.mark.needs('luck')\ndef test_it():\n    pass\n"
    (suite.path / "benchmarks" / "test_mine.py").write_text(source, encoding="utf8")
    result = run_suite(suite)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: a benchmark needs 'luck'; known needs are: *judged_queries, *"])


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the package openvino look as if it was not installed, and the other peers as if they were."""
    find_spec = importlib.util.find_spec
    peers = {"openvino": None, "nncf": object(), "ctranslate2": object()}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: peers[name] if name in peers else find_spec(name)
    )


@pytest.mark.usefixtures("without_openvino")
def test_backends_without_their_packages_are_left_out_and_named(suite: pytest.Pytester) -> None:
    result = run_suite(suite, "--backends", "all", "--co", "-q", "-k", "agreement")
    result.stdout.fnmatch_lines(["not installed, left out: openvino-bf16, openvino-int8: pip install *"])
    assert [line for line in result.outlines if "::" in line and "openvino" in line] == []


@pytest.mark.usefixtures("without_openvino")
def test_a_named_backend_without_its_package_is_skipped_with_the_command_that_installs_it(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_named(row: Backend, folder: Path, mode: str | None, **_: object) -> FakeEncoder:
        row.require_packages()
        return FakeEncoder(row.name)

    monkeypatch.setattr(session_module, "open_encoder", open_named)
    result = run_suite(suite, "--backends", "openvino-bf16", "-k", "agreement", "-rs")
    result.assert_outcomes(passed=1, skipped=1, deselected=15)
    result.stdout.fnmatch_lines(["SKIPPED * openvino-bf16 needs openvino, which is not installed: pip *"])


def test_a_second_run_compares_with_the_first(suite: pytest.Pytester) -> None:
    run_suite(suite, "--backends", "onnx-int8")
    result = run_suite(suite, "--backends", "onnx-int8", "--benchmark-compare")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*test_latency[[]onnx-int8-1[]] (NOW)*",
            "compared with the run of *: same hardware class, model, corpus and profile; 8 of 8 *",
        ]
    )
    assert len(saved_files(suite)) == 2


@pytest.mark.parametrize("option", ["--benchmark-compare", "--benchmark-histogram"])
@pytest.mark.parametrize("path", ["benchmarks/", "benchmarks/test_latency.py::test_latency"])
def test_a_path_in_the_place_of_a_value_is_refused(suite: pytest.Pytester, option: str, path: str) -> None:
    result = suite.runpytest_inprocess(option, path)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == (
        f"ERROR: {option} {path} takes the path for the option's value; wanted the path first: "
        f"pytest {path} {option}"
    )


def test_a_saved_run_that_is_not_there_is_said_to_be_missing(suite: pytest.Pytester) -> None:
    run_suite(suite, "--backends", "onnx-int8", "-k", "latency")
    with pytest.warns(PytestBenchmarkWarning, match="match '9999'"):
        result = run_suite(suite, "--backends", "onnx-int8", "-k", "latency", "--benchmark-compare=9999")
    result.stdout.fnmatch_lines(
        ["no run that can be read is --benchmark-compare=9999; wanted one of these: 0001_*.json"]
    )


def test_each_cell_is_compared_with_the_interval_of_its_own_history(suite: pytest.Pytester) -> None:
    """The saved file of this run does not count as a run before it."""
    for run in range(6):
        result = run_suite(suite, "--backends", "onnx-int8", "-k", "latency", "--benchmark-compare")
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
    run_suite(suite, "--backends", "onnx-int8")
    result = run_suite(suite, "--backends", "onnx-int8", "--benchmark-compare", "--corpus", "mine.txt")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "the run of * can't be compared with this one*",
            "  its corpus is corpus (*), this one's is mine.txt (*)",
        ]
    )


@pytest.mark.parametrize("record", ['{"schema": 99}', '{"schema": 1}', "[]"])
def test_a_run_with_a_record_that_cant_be_read_cant_be_compared(suite: pytest.Pytester, record: str) -> None:
    run_suite(suite, "--backends", "onnx-int8")
    [file] = saved_files(suite)
    saved = json.loads(file.read_text(encoding="utf8"))
    file.write_text(json.dumps(saved | {"embedopt": json.loads(record)}), encoding="utf8")
    result = run_suite(suite, "--backends", "onnx-int8", "--benchmark-compare")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["the run of * can't be compared: *"])


def test_a_damaged_history_file_is_named_and_left_out(suite: pytest.Pytester) -> None:
    """A killed run left half a file: this run is measured and saved all the same."""
    run_suite(suite, "--backends", "onnx-int8")
    [file] = saved_files(suite)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.warns(PytestBenchmarkWarning) as warned:
        result = run_suite(suite, "--backends", "onnx-int8", "--benchmark-compare")
    assert str(warned[0].message).startswith(f"Failed to load {file}")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["nothing to compare with yet*"])
    assert len(saved_files(suite)) == 2


def test_compare_fail_works_as_documented_and_the_summary_still_shows(suite: pytest.Pytester) -> None:
    run_suite(suite, "--backends", "onnx-int8", "-k", "latency")
    [file] = saved_files(suite)
    saved = json.loads(file.read_text(encoding="utf8"))
    for bench in saved["benchmarks"]:
        bench["stats"]["min"] = 1e-9  # whatever comes now is slower
    file.write_text(json.dumps(saved), encoding="utf8")
    result = run_suite(
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


def test_an_encoder_below_its_floor_fails_with_its_figure(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here, per-tensor is a fake encoder whose embeddings depend on the batch; its bounds need VNNI."""
    monkeypatch.setattr(bounds, "this_machine", lambda: make_run().machine)
    result = run_suite(suite, "--backends", "onnx-int8-per-tensor", "-k", "accuracy")
    result.assert_outcomes(passed=4, failed=2, deselected=11)
    result.stdout.fnmatch_lines(
        [
            "*onnx-int8-per-tensor: cosine_mean is 0.*, wanted 0.95 or higher (*",
            "*batch_invariance_min is 0.*",
        ]
    )


def test_retrieval_takes_prompts_and_a_backend_that_cant_leave_one_out_is_skipped(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = FakeEncoder._encode_prompted

    def refuse(self: FakeEncoder, texts: list[str], batch_size: int | None, prompt: str) -> FloatArray:
        if self.name == "onnx-int8":
            raise UnsupportedModelError("the model's pooling leaves out the prompt")
        return encode(self, texts, batch_size, prompt)

    monkeypatch.setattr(FakeEncoder, "_encode_prompted", refuse)
    prompts = ("--query-prompt", "find ", "--document-prompt", "query: ")
    result = run_suite(suite, "--backends", "onnx-fp32,onnx-int8", *prompts, "-k", "retrieval", "-v", "-rs")
    result.assert_outcomes(passed=2, skipped=1, deselected=24)
    result.stdout.fnmatch_lines(
        [
            "Retrieval, start and memory, queries after 'find ', texts after 'query: '",
            "SKIPPED * the model's pooling leaves out the prompt",
        ]
    )


def test_sentence_pairs_are_scored(suite: pytest.Pytester) -> None:
    (suite.path / "pairs.tsv").write_text("1\ta\tb\n2\tc\td\n3\te\te\n", encoding="utf8")
    result = run_suite(suite, "--backends", "onnx-int8", "--pairs", "pairs.tsv", "-v")
    result.assert_outcomes(passed=2 * (4 + 1 + 2 + 1 + 2) + 1)
    result.stdout.re_match_lines([r" .* Spearman +over$", r"onnx-int8 .* -?\d+\.\d\d +0\.00$"])
    [file] = saved_files(suite)
    accuracy = json.loads(file.read_text(encoding="utf8"))["embedopt"]["accuracy"]
    assert accuracy["onnx-int8"]["spearman"] == accuracy["torch-fp32"]["spearman"]
    assert accuracy["onnx-int8"]["spearman_distance"] == 0.0


def test_scores_of_sentence_pairs_are_shown_when_nothing_is_timed(suite: pytest.Pytester) -> None:
    (suite.path / "pairs.tsv").write_text("1\ta\tb\n2\tc\td\n3\te\te\n", encoding="utf8")
    result = run_suite(suite, "--backends", "onnx-int8", "--pairs", "pairs.tsv", "-k", "test_sentence_pairs")
    result.assert_outcomes(passed=2, deselected=19)
    result.stdout.re_match_lines([r" .* Spearman +over$", r"onnx-int8 .* -?\d+\.\d\d +0\.00$"])


def test_scores_that_are_no_numbers_fail_and_the_tables_stand(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All embeddings are alike, and one of them is not finite."""

    def encode(self: FakeEncoder, texts: list[str], batch_size: int | None) -> FloatArray:
        return np.stack([np.full(2, np.nan if text == "text 7" else 1.0, dtype=np.float32) for text in texts])

    monkeypatch.setattr(FakeEncoder, "_encode", encode)
    (suite.path / "pairs.tsv").write_text("1\ta\tb\n2\tc\td\n3\te\te\n", encoding="utf8")
    result = run_suite(suite, "--backends", "onnx-int8", "--pairs", "pairs.tsv")
    result.assert_outcomes(passed=2 * (2 + 1 + 1 + 1 + 2) + 1, failed=2 * 3)
    advice = "came out as nan: look for embeddings that are not finite, or are all the same"
    result.stdout.fnmatch_lines(
        [
            "onnx-int8: spearman is nan, spearman_distance is nan; wanted finite num*",
            "Key results*",
            "onnx-int8 * - * - * -",
            "not measured: *",
        ]
    )
    [file] = saved_files(suite)
    run = read_run(file).run
    assert run is not None
    assert run.accuracy["onnx-int8"].spearman is None
    assert run.not_measured["accuracy onnx-int8 spearman"] == advice


def test_a_foreign_benchmark_that_uses_the_names_of_our_fields_does_no_harm(suite: pytest.Pytester) -> None:
    source = "def test_it(benchmark):\n    benchmark.extra_info.update(p50_ms='x')\n    benchmark(int)\n"
    (suite.path / "benchmarks" / "test_mine.py").write_text(source, encoding="utf8")
    result = run_suite(suite, "--backends", "onnx-int8", "-k", "test_it")
    result.assert_outcomes(passed=1, deselected=19)


def test_a_run_of_other_benchmarks_cant_be_compared(suite: pytest.Pytester) -> None:
    run_suite(suite, "--backends", "onnx-int8", "-k", "latency")
    result = run_suite(suite, "--backends", "onnx-int8", "-k", "throughput", "--benchmark-compare")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["the run of * can't be compared with this one: no benchmark is in both"])


def test_on_a_real_model_each_artifact_is_built_once(
    pytester: pytest.Pytester, tiny_model: Callable[..., Path]
) -> None:
    """Two runs in processes of their own, with the real store, export and encoders on a tiny model."""
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
    first.assert_outcomes(passed=13, deselected=11)
    steps = [line.split(":")[0] for line in first.outlines if line.startswith(("building", "built"))]
    assert [step.split(" in ")[0] for step in steps] == [
        "building onnx-fp32",
        "built onnx-fp32",
        "building onnx-int8",
        "built onnx-int8",
    ]
    second = pytester.runpytest_subprocess(*arguments, "-k", "retrieval")
    second.assert_outcomes(passed=3, deselected=21)
    assert [line for line in second.outlines if line.startswith("buil")] == []


def test_without_timing_nothing_is_saved_but_scores_are_shown(suite: pytest.Pytester) -> None:
    result = run_suite(suite, "--backends", "onnx-int8", "--benchmark-disable")
    result.assert_outcomes(passed=2 * (3 + 1 + 2 + 1 + 2) + 1)
    assert saved_files(suite) == []
    result.stdout.no_fnmatch_line("*Key results*")
    result.stdout.fnmatch_lines(["Retrieval, start and memory"])


@pytest.mark.parametrize(
    ("arguments", "message"),
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
        (["--pairs", "nowhere.tsv"], "ERROR: pairs nowhere.tsv*no such file*"),
    ],
)
def test_wrong_options_are_a_usage_error_in_one_line(
    suite: pytest.Pytester, arguments: list[str], message: str
) -> None:
    result = run_suite(suite, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert "Traceback" not in str(result.stderr)


def test_an_unknown_profile_is_a_usage_error(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("benchmarks", "--profile", "slow")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--profile: invalid choice: 'slow' (choose from *full*quick*)"])


def test_collecting_builds_nothing(suite: pytest.Pytester, opened: Counter[str]) -> None:
    result = run_suite(suite, "--collect-only", "-q")
    assert result.ret == 0
    assert opened == {}


def test_a_run_without_benchmarks_only_has_the_options(suite: pytest.Pytester) -> None:
    """Unit tests in the same repository run without the suite's fixtures, hooks and checks."""
    suite.makepyfile(
        "def test_it(pytestconfig):\n    assert not pytestconfig.pluginmanager.hasplugin('embedopt-suite')\n"
    )
    result = suite.runpytest_inprocess(
        "test_a_run_without_benchmarks_only_has_the_options.py", "--min-cosine", "7"
    )
    result.assert_outcomes(passed=1)
    assert "embedopt" not in [line.strip(" =") for line in result.outlines]
