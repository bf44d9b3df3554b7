"""Text from a stranger's file is shown as it was written, and nothing acts on it."""

import html

import pytest

from embedopt.report.escape import annotation, entities, markdown, plain, without_commands


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("onnx-int8 batch 32", "onnx-int8 batch 32"),
        ("a\nb\r\n\tc", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"),
        ("\x1b[31mred", "\N{REPLACEMENT CHARACTER}[31mred"),
        ("abc\u202ecba", "abc\N{REPLACEMENT CHARACTER}cba"),
        *[
            (f"a{hidden}b", "a\N{REPLACEMENT CHARACTER}b")
            for hidden in "\u061c\u200b\u200e\u200f\ud800\ufeff"
        ],
        ("Zürich 东京", "Zürich 东京"),
    ],
)
def test_plain_text_is_one_line_without_control_characters(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("::error::x", ": :error::x"),
        ("  ::add-mask::x", "  : :add-mask::x"),
        ("\x1b[31m::error::x", "\x1b[31m: :error::x"),
        ("fine\n::error::x", "fine\n: :error::x"),
        ("a ##[error]x ###[b]", "a # #[error]x ## #[b]"),
        ("test_latency.py::test_latency[a-1]", "test_latency.py::test_latency[a-1]"),
    ],
)
def test_a_line_holds_no_command_for_the_runner(line: str, shown: str) -> None:
    assert without_commands(line) == shown


def test_markdown_is_code_of_entities() -> None:
    assert markdown("a_b <i>") == "<code>a&#95;b &#60;i&#62;</code>"


def test_entities_read_back_as_the_text() -> None:
    hostile = "</script>|`**@me** #1 http://x www.x $ \\ &amp; ~~x~~ [a](b) ![c](d)"
    assert html.unescape(entities(hostile)) == hostile


def test_entities_are_cut_after_200_characters() -> None:
    assert html.unescape(entities("x" * 1000)) == "x" * 200 + "…"


def test_an_annotation_is_one_command() -> None:
    assert annotation("error", "a:b,c\n::error::", "100 % worse\n::error::x") == (
        "::error title=a%3Ab%2Cc\N{REPLACEMENT CHARACTER}%3A%3Aerror%3A%3A::"
        "100 %25 worse\N{REPLACEMENT CHARACTER}::error::x"
    )
