"""The commands, and one line with exit code 2 for wrong input."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embedopt import load_encoder
from embedopt.cli import app as cli
from embedopt.cli.app import main
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backends import get_backend
from embedopt.inference.saved_settings import save
from embedopt.records import Part
from embedopt.trial import Trial
from tests.runs import make_file, make_run


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text("welder, night shift\n\nnurse in zurich\nbaker\n", encoding="utf8")
    return file


def test_build_names_size_and_place(
    tiny_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tiny_model())
    assert (
        main(["build", "--backends", "onnx-int8,onnx-fp32", "--model", model, "--cache-dir", str(tmp_path)])
        == 0
    )
    printed = capsys.readouterr()
    assert "building onnx-fp32" in printed.err  # without a terminal for a spinner, each step is a line
    lines = printed.out.splitlines()
    assert [line.split()[0] for line in lines] == ["onnx-fp32", "onnx-int8"]
    assert [Path(line.split()[-1]).parent for line in lines] == [tmp_path / "artifacts"] * 2


def test_summary_prints_the_tables_that_decide_or_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(make_file(make_run())), encoding="utf8")
    assert main(["summary", str(file), "--price-per-hour", "0.10"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Key results")
    assert out.splitlines()[3].split()[6] == "0.111"  # 250 texts/s at 10 cents an hour
    assert "Calls with a whole batch" not in out
    assert main(["summary", str(file), "--all"]) == 0
    assert "\nCalls with a whole batch\n" in capsys.readouterr().out


def test_recommend_reads_the_newest_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it left out, the run before answers; a named run is taken as it is. Exit code 1: none will do."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".benchmarks" / "Linux"
    folder.mkdir(parents=True)
    (folder / "0001_a.json").write_text("half-writ", encoding="utf8")
    part = make_run(throughput={}, accuracy={}, part=Part())
    for day, name, run in ((1, "0003_c.json", make_run()), (2, "0002_b.json", part)):
        content = make_file(run) | {"datetime": f"2026-03-0{day}T12:00:00"}
        (folder / name).write_text(json.dumps(content), encoding="utf8")
    (folder / "notes.json").write_text("{}", encoding="utf8")
    assert main(["recommend", "--min-cosine", "0.99"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("onnx-int8: 1,250 texts/s (measured in 0002_b.json, full profile on Test")
    assert lines[-2].startswith("passed over: .benchmarks/Linux/0001_a.json is damaged")
    assert lines[-1] == (
        "older, from 0003_c.json: accuracy of onnx-int8, torch-fp32; "
        "throughput of onnx-fp32, onnx-int8, torch-fp32"
    )
    assert main(["summary"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == lines[-1]
    assert main(["recommend", str(folder / "0003_c.json"), "--p99-ms", "1"]) == 1
    assert capsys.readouterr().out.startswith("no backend measured in 0003_c.json, full profile on Test")
    assert main(["recommend", str(folder / "0002_b.json")]) == 2
    assert "0002_b.json has no throughput in it" in capsys.readouterr().err


def test_recommend_without_a_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recommend"]) == 2
    assert capsys.readouterr().err == (
        "embedopt: .benchmarks has no saved run that can be read: run pytest benchmarks/ first, "
        "or name a file\n"
    )


def test_tune_and_reset(
    tiny_model: Callable[..., Path], texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A budget of nothing: one table for each mode, and the settings saved before stay."""
    weights = resolve_weights(str(tiny_model()))
    argv = ["tune", "--backend", "onnx-fp32", "--model", str(weights.path), "--cache-dir", str(tmp_path)]
    before = save(get_backend("onnx-fp32"), "throughput", weights, {"batch_tokens": 1024}, tmp_path)
    assert before is not None
    assert main([*argv, "--budget", "0", "--corpus", str(texts)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("onnx-fp32")] == [
        "onnx-fp32, latency",
        "onnx-fp32, throughput",
    ]
    assert "batch_tokens: the budget was too small to decide, so the default stays" in lines
    assert list((tmp_path / "tuned").iterdir()) == [before]
    assert main([*argv, "--reset", "--mode", "latency"]) == 0
    assert main([*argv, "--reset"]) == 0
    assert capsys.readouterr().out == f"nothing was saved\ndeleted {before}\n"
    assert list((tmp_path / "tuned").iterdir()) == []


def test_tune_saves_the_winner(
    tiny_model: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The setting that won is saved, and load_encoder uses it from then on."""
    trials = [
        Trial(setting="batch_tokens", value=512, default=True, kept=False, rounds=5, speed_up=1.0),
        Trial(setting="batch_tokens", value=256, default=False, kept=True, rounds=5, speed_up=1.1),
    ]
    monkeypatch.setattr(cli, "search", lambda _: trials)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    model, cache = str(tiny_model()), ["--cache-dir", str(tmp_path)]
    assert main(["tune", "--backend", "onnx-fp32", "--mode", "throughput", "--model", model, *cache]) == 0
    [file] = (tmp_path / "tuned").iterdir()
    assert capsys.readouterr().out.endswith(f"\nsaved in {file}\n")
    with load_encoder("onnx-fp32", mode="throughput", model=model, cache_dir=tmp_path) as encoder:
        assert [len(batch) for batch in encoder.plan(["welder"] * 128).batches] == [85, 43]  # 3 tokens each
    monkeypatch.setattr(cli, "search", lambda _: trials[:1])
    assert main(["tune", "--backend", "onnx-fp32", "--mode", "throughput", "--model", model, *cache]) == 0
    assert capsys.readouterr().out.endswith("\nnothing to save: no other value is faster\n")
    assert list((tmp_path / "tuned").iterdir()) == []


def test_tune_tries_each_value_of_each_setting(
    tiny_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With hardly any time, and nothing faked: the table names what was tried, whatever won."""
    argv = ["tune", "--backend", "onnx-int8", "--model", str(tiny_model()), "--cache-dir", str(tmp_path)]
    assert main([*argv, "--budget", "2", "--mode", "throughput"]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()[2:8]]
    assert [words[0] if len(words[0]) < 12 else words[1] for words in table] == [
        "512", "256", "1024", "2048", "SkipLayerNormFusion", "none"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["tune", "--backend", "x"], "embedopt: unknown backend 'x'"),
        (
            ["tune", "--backend", "ct2-int8", "--mode", "latency"],
            "embedopt: ct2-int8 has no settings to try with --mode latency; choose one of onnx-fp32, ",
        ),
        (["tune", "--corpus", "nowhere.txt"], "embedopt: corpus nowhere.txt: no such file or directory"),
        (
            ["build", "--backends", "onnx-int4"],
            "embedopt: unknown backend 'onnx-int4'; known are: torch-fp32",
        ),
        (["build", "--model", "./nowhere"], "embedopt: model './nowhere' is no folder"),
        (["encode", "nowhere.txt", "-o", "x.npy"], "embedopt: corpus nowhere.txt: no such file or directory"),
        (
            ["encode", "{texts}", "-o", "{tmp}/no/x.npy"],
            "x.npy can't be written (no such file or directory): choose another",
        ),
        (["encode", "{texts}", "-o", "{tmp}/x.npy", "--backend", "x"], "embedopt: unknown backend 'x'"),
        (
            ["summary", "nowhere.json"],
            "embedopt: nowhere.json: no such file or directory; wanted a saved run",
        ),
        (["summary", "{texts}"], "texts.txt is damaged: it is not JSON; delete it, or run the suite again"),
    ],
)
def test_wrong_input_is_one_line(
    argv: list[str], message: str, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [word.replace("{texts}", str(texts)).replace("{tmp}", str(tmp_path)) for word in argv]
    assert main(filled) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len([line for line in error.splitlines() if "embedopt:" in line]) == 1
    assert "Traceback" not in error


@pytest.mark.parametrize("argv", [["sumary"], ["compare"], ["encode", "x", "--batch-size", "0", "-o", "y"]])
def test_wrong_usage_is_exit_code_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert "Usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "choices"),
    [
        (["tune", "--mode", "fast"], "'fast' is not one of 'latency', 'throughput', 'both'"),
        (["report", "--format", "pdf"], "'pdf' is not one of 'html', 'markdown', 'annotations', 'junit', "),
    ],
)
def test_an_unknown_choice_is_refused_with_the_known_ones(
    argv: list[str], choices: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert choices in " ".join(capsys.readouterr().err.replace("│", "").split())


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "embedopt", "summary", "nowhere.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "embedopt: nowhere.json: no such file or directory; wanted a saved run\n"


def test_a_package_of_an_extra_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(cli, "read_history", fail)
    assert main(["summary", "run.json"]) == 2
    assert capsys.readouterr().err == (
        "embedopt: this command needs torch, which is not installed: pip install 'embedopt[build]'\n"
    )


def test_a_bug_of_ours_does_not_say_that_a_run_is_slower(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(cli, "read_history", fail)
    assert main(["summary", "run.json"]) == 70
    assert capsys.readouterr().err.endswith("ZeroDivisionError: a bug\n")
