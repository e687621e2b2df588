"""Text from files as a terminal or a log may show it: control characters are escaped.

Names in a file are untrusted. Escape sequences, carriage returns, line breaks and marks of writing direction in them
could hide, forge or overwrite what a person reads. At the doors (the command line, logs) every line goes through here;
between them text stays as it is.
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
and what no font shows."""
_JOINERS: Final = frozenset({"\u200c", "\u200d"})
"""Needed to write several languages, and harmless."""
_SUSPECT: Final = re.compile(r"[^\x20-\x7e]")


def shown(text: str) -> str:
    r"""Return text of several lines in which only line breaks steer; the rest is written as ``\u001b``.

    The form is that of JSON, so that a JSON document stays one, and stays the same.
    """
    return text if text.isascii() and text.isprintable() else _SUSPECT.sub(_written_but_breaks, text)


def one_line(text: object) -> str:
    """Return text as one line: line breaks are escaped too."""
    text = str(text)
    return text if text.isascii() and text.isprintable() else _SUSPECT.sub(_written, text)


def as_html(text: object) -> str:
    """Return text for a page: nothing in it is markup, and nothing steers, as `shown` has it."""
    return escape(shown(str(text)))


def say(*lines: object, file: IO[str] | None = None, flush: bool = False) -> None:
    """Print lines, each as one line: the only way in which commands speak to a person."""
    print(*(one_line(line) for line in lines), sep="\n", file=file or sys.stdout, flush=flush)


def is_terminal(file: IO[str]) -> bool:
    """Whether a person looks at what is written there."""
    try:
        return os.isatty(file.fileno())
    except (OSError, ValueError):
        return False


def _written(match: re.Match[str]) -> str:
    letter = match[0]
    if letter in _JOINERS or unicodedata.category(letter) not in _STEERING:
        return letter
    code = ord(letter)
    if code > 0xFFFF:  # as two units of UTF-16, the way of JSON
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"


def _written_but_breaks(match: re.Match[str]) -> str:
    return match[0] if match[0] == "\n" else _written(match)
