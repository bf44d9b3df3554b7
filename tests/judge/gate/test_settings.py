"""[tool.embedopt.gate] of pyproject.toml: defaults, thresholds, and one line for what is wrong."""

from pathlib import Path

import pytest

from embedopt.errors import UsageError
from embedopt.judge.gate.settings import GateSettings, read_settings

BACKENDS = ("torch-fp32", "onnx-int8")


def _read(folder: Path, text: str) -> GateSettings:
    (folder / "pyproject.toml").write_text(text, encoding="utf8")
    return read_settings(folder / "pyproject.toml", BACKENDS)


def test_without_a_table_the_defaults_hold(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "nowhere.toml", BACKENDS) == GateSettings()
    assert _read(tmp_path, "[tool.ruff]\n") == GateSettings()
    assert GateSettings().threshold_of("onnx-int8", "latency") == 0.02
    assert GateSettings().threshold_of("onnx-int8", "load_s") == 0.10


def test_thresholds_by_metric_and_backend(tmp_path: Path) -> None:
    settings = _read(
        tmp_path,
        "[tool.embedopt.gate]\nthreshold = 0.04\nlevel = 0.01\nmax_pairs = 20\n"
        "backends = { torch-fp32 = 0.06 }\nmetrics = { cosine_mean = 0.001 }\n",
    )
    assert settings.threshold_of("torch-fp32", "latency") == 0.06
    assert settings.threshold_of("onnx-int8", "latency") == 0.04
    assert settings.threshold_of("torch-fp32", "cosine_mean") == 0.001
    assert settings.threshold_of("torch-fp32", "disk_bytes") == 0.01
    assert (settings.level, settings.max_pairs) == (0.01, 20)


def test_a_metric_has_a_threshold_for_all_backends_or_for_one_or_never_fails(tmp_path: Path) -> None:
    settings = _read(
        tmp_path,
        "[tool.embedopt.gate]\nthreshold = 0.04\n"
        'metrics = { load_s = 0.2, "load_s torch-fp32" = false, "latency onnx-int8" = 0.01 }\n',
    )
    assert settings.threshold_of("onnx-int8", "load_s") == 0.2
    assert settings.threshold_of("onnx-int8", "latency") == 0.01
    assert settings.threshold_of("torch-fp32", "latency") == 0.04
    assert settings.threshold_of("torch-fp32", "texts_per_s") == 0.04
    assert settings.threshold_of("torch-fp32", "load_s") == 0.10
    asked = [("torch-fp32", "load_s"), ("onnx-int8", "load_s"), ("torch-fp32", "latency")]
    assert [settings.fails(*names) for names in asked] == [False, True, True]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "treshold = 0.03",
            "unknown setting 'treshold'; known are: threshold, backends, metrics, level, max_pairs",
        ),
        ("threshold = 'small'", "threshold is 'small'; wanted a share between 0 and 1: 0.02 is 2 %"),
        (
            "threshold = 3",
            "[tool.embedopt.gate]: threshold is 3; wanted a share between 0 and 1: 0.02 is 2 %",
        ),
        ("threshold = nan", "threshold is nan; wanted a share between 0 and 1"),
        ("level = 0.5", "level is 0.5; wanted a chance above 0, up to 0.2"),
        ("max_pairs = 1.5", "max_pairs is 1.5; wanted a number of process pairs"),
        (
            "metrics = { cosine = 0.1 }",
            "unknown metric 'cosine'; known are: latency, texts_per_s, served_p50_ms",
        ),
        ('metrics = { "load_s fpga" = 0.1 }', "unknown backend 'fpga'"),
        ("metrics = { load_s = 0 }", "metrics.load_s is 0; wanted a share"),
        ("backends = { onnx-int4 = 0.1 }", "unknown backend 'onnx-int4'; known are: torch-fp32, onnx-int8"),
        ("threshold = ", "pyproject.toml can't be read"),
    ],
)
def test_a_wrong_setting_is_an_error_in_one_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        _read(tmp_path, f"[tool.embedopt.gate]\n{line}\n")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
