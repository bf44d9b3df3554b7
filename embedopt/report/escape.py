"""Escapes text from files, so that it stays text wherever it is shown.

Names of backends and benchmarks, commits, CPUs and versions come from files that anyone can write, such as
the artifact of a pull request from a fork. The HTML page needs no escaping: it holds all of this as data, and
its script shows data as text.
"""

import re

# Characters in a cell of a table; longer than any name of ours.
_LONGEST = 200
# Control characters, characters that change the direction of text, characters without width, and lone
# surrogates, which no output can encode.
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]+"
)
# GitHub's runner takes "::" at the beginning of a line as a command, and the older form "##[" anywhere.
_COMMAND = re.compile(r"^((?:\s|\x1b\[[\d;]*m)*):(?=:)", re.MULTILINE)
_OLD_COMMAND = re.compile(r"#(?=#\[)")


def plain(text: object) -> str:
    """Return text on one line, without control characters."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def short(text: object, longest: int = _LONGEST) -> str:
    """Return plain text, cut after ``longest`` characters."""
    line = plain(text)
    return line if len(line) <= longest else f"{line[:longest]}…"


def without_commands(output: str) -> str:
    """Return lines for a terminal in which GitHub's runner sees no command."""
    return _OLD_COMMAND.sub("# ", _COMMAND.sub(r"\1: ", output))


def markdown(text: object) -> str:
    """Return text as code for Markdown and HTML: it can't become markup, a link, a mention or a reference."""
    return f"<code>{entities(text)}</code>"


def entities(text: object) -> str:
    """Return text cut after 200 characters, with all but letters, digits and blanks as numeric entities."""
    return "".join(char if char.isalnum() or char == " " else f"&#{ord(char)};" for char in short(text))


def annotation(level: str, title: str, message: str) -> str:
    """Return the command that makes GitHub's runner show an ``error``, ``warning`` or ``notice``."""
    head = plain(title).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={head}::{plain(message).replace('%', '%25')}"
