"""The options of the command line are read and checked."""

import argparse
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedopt.errors import UsageError
from embedopt.inference.backends import BACKENDS, declare
from embedopt.inference.targets import declare_targets
from embedopt.measure.command_line import parse_backends, parse_batch_sizes, parse_gate_run, parse_options
from embedopt.measure.corpus import SHIPPED
from embedopt.measure.declared_options import declare_options, own_options
from embedopt.measure.options import Options
from embedopt.measure.profiles import BATCH_SIZES
from tests.repositories import git

ALL = tuple(row for row in BACKENDS.values() if not row.only_named)


@pytest.fixture
def declared_in(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Return a function that declares the targets of some tables."""

    def declare_all(tables: str) -> None:
        text = tables.replace("[", "[tool.embedopt.targets.")
        (tmp_path / "pyproject.toml").write_text(text, encoding="utf8")
        declare_targets(tmp_path)

    yield declare_all
    declare([])


def _namespace(*arguments: str) -> Namespace:
    parser = argparse.ArgumentParser()
    declare_options(parser.add_argument)
    return parser.parse_args(arguments)


def test_without_arguments_the_options_have_their_defaults(tmp_path: Path) -> None:
    expected = Options(
        backends=tuple(row for row in ALL if not row.missing_packages),
        left_out=tuple(row for row in ALL if row.missing_packages),
        batch_sizes=BATCH_SIZES,
        corpus=SHIPPED / "corpus",
    )
    assert parse_options(_namespace(), tmp_path) == expected


def test_the_help_shows_the_defaults() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.RawTextHelpFormatter)
    declare_options(parser.add_argument)
    assert "seconds that the comparison may take (default: 480)" in parser.format_help()


def test_the_reference_is_always_among_the_backends() -> None:
    assert [row.name for row in parse_backends("onnx-int8", "full")] == ["torch-fp32", "onnx-int8"]
    assert parse_backends(None, "full") == ALL
    assert [row.name for row in parse_backends(None, "quick")] == [
        "torch-fp32",
        "onnx-fp32",
        "onnx-int8",
        "onnx-int8-per-tensor",
        "onnx-int8-block",
    ]


def test_batch_sizes_are_sorted_and_each_is_measured_once() -> None:
    assert parse_batch_sizes(None, "full") == (1, 2, 4, 8, 16, 32, 64)
    assert parse_batch_sizes("8, 1,8", "full") == (1, 8)


@pytest.mark.parametrize(
    ("sizes", "unknown"), [("1,3", "3"), ("0", "0"), ("", "''"), ("one", "one"), ("-1", "-1")]
)
def test_an_unknown_batch_size_lists_the_known_ones(sizes: str, unknown: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_batch_sizes(sizes, "full")
    assert str(caught.value) == f"unknown batch size {unknown}; known are: 1, 2, 4, 8, 16, 32, 64"


@pytest.mark.parametrize(
    ("option", "values", "wanted"),
    [
        ("--min-cosine", ["1.5", "nan", "-2.0", "inf"], "a cosine, from -1 to 1"),
        ("--price-per-hour", ["-0.01", "inf", "nan"], "dollars, 0 or more"),
        ("--slo-p99-ms", ["0.0", "-1.0", "inf", "nan"], "milliseconds above 0"),
        ("--soak-s", ["-1.0", "inf", "nan"], "seconds, 0 or more"),
        ("--gate-threshold", ["0.0", "1.0", "nan"], "a share, 0.03 for 3 %"),
    ],
)
def test_a_number_out_of_range_is_refused_with_what_is_wanted(
    tmp_path: Path, option: str, values: list[str], wanted: str
) -> None:
    for value in values:
        with pytest.raises(UsageError) as caught:
            parse_options(_namespace(f"{option}={value}"), tmp_path)
        assert str(caught.value) == f"{option} is {value}; wanted {wanted}"


def test_the_path_of_an_interpreter_is_absolute_and_keeps_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker starts in another folder, and a resolved link would leave its virtual environment."""
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    given = ("--against", "HEAD", "--backends", "onnx-int8", "--against-python", f".{os.sep}python")
    namespace = _namespace(*given)
    options = parse_gate_run(own_options(namespace), tmp_path)
    assert options is not None
    assert options.base_python == str(tmp_path / "python")


def test_what_a_project_declares_is_measured_in_the_place_of_the_profiles_backends(
    tmp_path: Path, declared_in: Callable[[str], None]
) -> None:
    declared_in("[a]\ncall = 'm:f'\nqueries = 'q: '\n[b]\ncall = 'm:f'\nmodel = 'all-MiniLM-L6-v2'")
    options = parse_options(_namespace(), tmp_path)
    assert [row.name for row in options.backends] == ["torch-fp32", "a", "b"]
    assert (options.model, options.query_prompt, options.document_prompt) == (None, "q: ", None)
    named = parse_options(_namespace("--backends", "onnx-int8,a", "--query-prompt", "x"), tmp_path)
    assert [row.name for row in named.backends] == ["torch-fp32", "onnx-int8", "a"]
    assert named.query_prompt == "x"


def test_the_model_of_a_target_is_that_of_the_run(tmp_path: Path, declared_in: Callable[[str], None]) -> None:
    declared_in("[a]\ncall = 'm:f'\nmodel = 'org/name'\nrevision = 'v2'\ntrust_remote_code = true")
    options = parse_options(_namespace(), tmp_path)
    assert (options.model, options.revision, options.trust_remote_code) == ("org/name", "v2", True)
    assert parse_options(_namespace("--model", "org/name"), tmp_path).model == "org/name"
    with pytest.raises(
        UsageError, match=r"^--model is other, and a is held against org/name; wanted one model"
    ):
        parse_options(_namespace("--model", "other"), tmp_path)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            "[a]\ncall = 'm:f'\nmodel = 'x/y'\n[b]\ncall = 'm:f'\nmodel = 'z'",
            "^a has model = 'x/y', b 'z'; wanted",
        ),
        (
            "[a]\ncall = 'm:f'\nqueries = 'x'\n[b]\ncall = 'm:f'\nqueries = ''",
            "^a has queries = 'x', b ''; wanted",
        ),
    ],
)
def test_a_run_has_one_model_and_one_prompt_of_each_kind(
    tmp_path: Path, declared_in: Callable[[str], None], tables: str, message: str
) -> None:
    declared_in(tables)
    with pytest.raises(UsageError, match=message):
        parse_options(_namespace(), tmp_path)
    assert [row.name for row in parse_options(_namespace("--backends", "b"), tmp_path).backends][1:] == ["b"]


def test_a_repository_is_not_compared_where_nothing_of_it_would_be_measured(
    tmp_path: Path, declared_in: Callable[[str], None]
) -> None:
    """The installed embedopt would meet itself: always equivalent."""
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    declared_in("")
    with pytest.raises(UsageError) as caught:
        parse_options(_namespace("--against", "HEAD"), tmp_path, ("--against", "HEAD"))
    assert str(caught.value) == (
        "--against: pyproject.toml declares no target, so nothing of this repository would be measured; "
        "wanted [tool.embedopt.targets.NAME], --model or --backends"
    )
    for given in (("--model", "m"), ("--backends", "onnx-int8")):
        assert parse_options(_namespace("--against", "HEAD", *given), tmp_path).against
    declared_in("[shop]\ncall = 'm:f'")
    plan = parse_options(_namespace("--against", "HEAD"), tmp_path).against
    assert plan is not None
    assert plan.backends == ("shop",)


def test_what_others_call_by_our_short_names_is_theirs_beside_a_base_too(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "benchmarks").mkdir()
    ini = "[pytest]\naddopts = -p embedopt.plugin --model small --embedopt-batch-sizes 2\n"
    (tmp_path / "benchmarks" / "pytest.ini").write_text(ini, encoding="utf8")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    ours = ("--embedopt-against", "HEAD", "--embedopt-backends", "onnx-int8")
    given = ("--profile", "benchmarks", "--batch-sizes", "3", *ours)
    namespace = _namespace(*ours, "--embedopt-batch-sizes", "2")
    namespace.embedopt_taken = ["--profile", "--model", "--batch-sizes"]
    plan = parse_options(namespace, tmp_path, given).against
    assert plan is not None
    assert (plan.batch_sizes, plan.base_inputs.model, plan.moved) == ((2,), None, ())
