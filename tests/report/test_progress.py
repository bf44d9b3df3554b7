"""Where a run stands: a line in a terminal, a line now and then in a log."""

import io

import pytest

from embedopt.report.progress import RunProgress, in_words


def _show(progress: RunProgress, done: int, now_s: float) -> None:
    progress.show("onnx-int8: latency, batch 8", done=done, steps=40, left_s=170.0, now_s=now_s)


def test_a_log_gets_a_line_every_fifteen_seconds_at_the_most() -> None:
    lines: list[str] = []
    progress = RunProgress(None, lines.append)
    for done, now_s in enumerate((100.0, 101.0, 114.9, 115.0, 116.0, 140.0)):
        _show(progress, done, now_s)
    progress.clear()
    assert lines == [
        "0 of 40 done, about 3 min left: onnx-int8: latency, batch 8",
        "3 of 40 done, about 3 min left: onnx-int8: latency, batch 8",
        "5 of 40 done, about 3 min left: onnx-int8: latency, batch 8",
    ]


def test_a_terminal_gets_one_line_that_is_drawn_anew_and_taken_away() -> None:
    terminal = io.StringIO()
    progress = RunProgress(terminal, lambda _: pytest.fail("a terminal is no log"))
    _show(progress, 7, 0.0)
    _show(progress, 8, 0.1)
    assert "onnx-int8: latency, batch 8" in terminal.getvalue()
    assert "8/40" in terminal.getvalue()
    progress.clear()
    drawn = terminal.getvalue()
    assert drawn.endswith("\x1b[1A\x1b[2K")
    progress.clear()
    assert terminal.getvalue() == drawn


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "about 5 s"),
        (12.0, "about 15 s"),
        (59.9, "about 60 s"),
        (60.0, "about 1 min"),
        (170.0, "about 3 min"),
    ],
)
def test_a_duration_is_said_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
