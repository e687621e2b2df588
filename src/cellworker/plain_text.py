"""Makes text from files safe for terminals and logs: escapes control characters.

Names in a file are untrusted: escape sequences, carriage returns, line breaks and marks of writing direction in them
can hide, forge or overwrite what a person reads. The command line and the logs pass every line through this module;
elsewhere text stays unchanged.
"""

import os
import re
import sys
import unicodedata
from html import escape
from typing import IO, Final

__all__ = ["as_html", "is_terminal", "one_line", "say", "shown"]

_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Cn", "Co"})
"""Unicode categories: control, format (writing direction, invisible marks), surrogates, line and paragraph separators,
and characters without glyphs."""
_JOINERS: Final = frozenset({"\u200c", "\u200d"})
"""Harmless, and several languages need them."""
_SUSPECT: Final = re.compile(r"[^\x20-\x7e]")


def shown(text: str) -> str:
    r"""Return text of several lines whose only control characters are line breaks; others become ``\u001b``.

    The form is JSON's, so a JSON document keeps its meaning.
    """
    return text if text.isascii() and text.isprintable() else _SUSPECT.sub(_written_but_breaks, text)


def one_line(text: object) -> str:
    """Return text as one line: line breaks are escaped too."""
    text = str(text)
    return text if text.isascii() and text.isprintable() else _SUSPECT.sub(_written, text)


def as_html(text: object) -> str:
    """Return text for a page: without markup, and with control characters escaped as by `shown`."""
    return escape(shown(str(text)))


def say(*lines: object, file: IO[str] | None = None, flush: bool = False) -> None:
    """Print each line as one line. All output of commands for people goes through this function."""
    print(*(one_line(line) for line in lines), sep="\n", file=file or sys.stdout, flush=flush)


def is_terminal(file: IO[str]) -> bool:
    """Return whether a stream is a terminal."""
    try:
        return os.isatty(file.fileno())
    except (OSError, ValueError):
        return False


def _written(match: re.Match[str]) -> str:
    letter = match[0]
    if letter in _JOINERS or unicodedata.category(letter) not in _STEERING:
        return letter
    code = ord(letter)
    if code > 0xFFFF:  # as two UTF-16 units, as in JSON
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"


def _written_but_breaks(match: re.Match[str]) -> str:
    return match[0] if match[0] == "\n" else _written(match)
