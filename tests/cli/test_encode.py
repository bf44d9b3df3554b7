"""The command encode: one file into NumPy's format, or any files into a folder."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedopt.cli.app import main


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text("welder, night shift\n\nnurse in zurich\nbaker\n", encoding="utf8")
    return file


def test_encode_writes_the_embeddings_of_each_line(
    tiny_model: Callable[..., Path], texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.npy"
    model = str(tiny_model())
    assert main(["encode", str(texts), "-o", str(output), "--backend", "onnx-fp32", "--model", model]) == 0
    assert capsys.readouterr().out == f"{output}: 4 x 32 float32 by onnx-fp32\n"
    assert (
        main(
            ["encode", str(texts), "-o", str(tmp_path / "b.npy"), "--backend", "torch-fp32", "--model", model]
        )
        == 0
    )
    embeddings = np.load(output)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, np.load(tmp_path / "b.npy"), atol=1e-5)
    assert embeddings.shape == (4, 32)  # the blank line is a text: row i is line i
    assert sorted(path.name for path in tmp_path.glob("*")) == ["b.npy", "cache", "out.npy", "texts.txt"]


def test_an_output_that_cant_be_written_leaves_nothing(
    tiny_model: Callable[..., Path], texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output names a folder: the finished file can't be moved there."""
    (tmp_path / "out.npy").mkdir()
    argv = ["encode", str(texts), "-o", str(tmp_path / "out.npy"), "--backend", "torch-fp32"]
    assert main([*argv, "--model", str(tiny_model())]) == 2
    assert (
        "out.npy can't be written (is a directory): choose another place with -o" in capsys.readouterr().err
    )
    assert sorted(path.name for path in tmp_path.glob("*")) == ["out.npy", "texts.txt"]


def test_the_texts_are_not_overwritten(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused before a model is opened."""
    (tmp_path / "out.npy").symlink_to(texts)
    before = texts.read_bytes()
    assert main(["encode", str(texts), "-o", str(tmp_path / "out.npy"), "--model", "none"]) == 2
    assert (
        f"out.npy is the input {texts}; wanted another file: choose another place with -o"
        in capsys.readouterr().err
    )
    assert texts.read_bytes() == before


def test_files_of_all_formats_become_a_folder(
    tiny_model: Callable[..., Path], texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same texts have the same embeddings as in NumPy's format."""
    lines = texts.read_text("utf8").splitlines()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text(
        "text,key\n" + "".join(f'"{line}",{row}\n' for row, line in enumerate(lines)), "utf8"
    )
    (tmp_path / "in" / "b.jsonl").write_text(
        "".join(json.dumps({"text": line, "key": row}) + "\n" for row, line in enumerate(lines)), "utf8"
    )
    options = ["--backend", "onnx-fp32", "--model", str(tiny_model())]
    assert main(["encode", str(texts), "-o", str(tmp_path / "out.npy"), *options]) == 0
    out = tmp_path / "out"
    argv = ["encode", str(tmp_path / "in"), "-o", str(out), "--id", "key", "--keep", "text", *options]
    assert main(argv) == 0
    assert f"{out}: 8 embeddings in 2 files\n8 texts in " in capsys.readouterr().out
    for name in ("a.csv-00000.parquet", "b.jsonl-00000.parquet"):
        table = pq.read_table(out / name)
        assert table["id"].to_pylist() == ["0", "1", "2", "3"]
        assert table["text"].to_pylist() == lines
        embeddings = np.asarray(table["embedding"].to_pylist(), dtype=np.float32)
        np.testing.assert_array_equal(embeddings, np.load(tmp_path / "out.npy"))
    assert main(argv) == 0
    assert capsys.readouterr().out == f"{out}: 8 embeddings in 2 files\nnothing was left to encode\n"
    assert main([*argv, "--dtype", "float16"]) == 2
    assert "in another way: dtype was float32, is now float16; choose another" in capsys.readouterr().err


def test_a_prompt_is_put_before_each_text_and_belongs_to_what_a_folder_was_made_of(
    tiny_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its name, or as a string in place of the model's default prompt."""
    options = ["--backend", "onnx-fp32", "--model", str(tiny_model(prompt="baker for "))]
    texts, prompted = tmp_path / "texts.txt", tmp_path / "prompted.txt"
    texts.write_text("welder\nnurse\n", encoding="utf8")
    prompted.write_text("baker for welder\nbaker for nurse\n", encoding="utf8")
    made = {}
    for name, file, prompt in (
        ("named", texts, "search"),
        ("string", texts, "baker for "),
        ("own", prompted, ""),
    ):
        argv = ["encode", str(file), *options, "--prompt", prompt, "-o"]
        assert main([*argv, str(tmp_path / f"{name}.npy")]) == 0
        assert main([*argv, str(tmp_path / name)]) == 0
        table = pq.read_table(tmp_path / name / f"{file.name}-00000.parquet")
        made[name] = np.load(tmp_path / f"{name}.npy").tolist()
        assert table["embedding"].to_pylist() == made[name]
    assert made["named"] == made["string"] == made["own"]
    capsys.readouterr()
    assert main(["encode", str(texts), *options, "-o", str(tmp_path / "named")]) == 2
    assert 'in another way: prompt was "search", is now none; choose another' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("package", "options", "message"),
    [
        (
            "pyarrow",
            [],
            "encoding to a folder needs pyarrow, which is not installed: pip install 'embedopt[bulk]'",
        ),
        ("ray", ["--ray", "local"], "--ray needs ray, which is not installed: pip install 'embedopt[ray]'"),
    ],
)
def test_a_missing_package_is_one_line_with_the_command(
    package: str,
    options: list[str],
    message: str,
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("embedopt.cli.encode.find_spec", lambda name: None if name == package else name)
    assert main(["encode", str(texts), "-o", str(tmp_path / "out"), *options]) == 2
    assert capsys.readouterr().err == f"embedopt: {message}\n"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["{tmp}/a.parquet"], "x.npy takes one file of text or JSON lines, not "),
        (["{tmp}/a.CSV"], "x.npy takes one file of text or JSON lines, not "),
        (
            ["{texts}", "--column", "text", "--force", "--dtype", "float16", "--price-per-hour", "1"],
            "embedopt: --column, --dtype, --force, --price-per-hour can't be used with {tmp}/x.npy: name a ",
        ),
        (["{texts}", "{texts}"], "x.npy takes one file of text or JSON lines, not "),
    ],
)
def test_a_numpy_file_takes_one_file(
    inputs: list[str], message: str, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [word.replace("{texts}", str(texts)).replace("{tmp}", str(tmp_path)) for word in inputs]
    assert main(["encode", *filled, "-o", str(tmp_path / "x.npy")]) == 2
    assert message.replace("{tmp}", str(tmp_path)) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{tmp}/empty", "empty is a folder without files that end with .parquet, .csv, .jsonl, .ndjson, "),
        ("{tmp}/no*.csv", "no*.csv stands for no file: name files, folders or patterns that have texts"),
        (
            "{tmp}/nowhere",
            "nowhere is no file and no folder: name files, folders or patterns that have texts",
        ),
        ("{tmp}", "out lies in the input folder "),
    ],
)
def test_inputs_without_files_are_one_line(
    given: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["encode", given.replace("{tmp}", str(tmp_path)), "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert [line.startswith("embedopt: ") for line in error.splitlines() if "embedopt: " in line] == [True]
    assert not (tmp_path / "out").exists()
