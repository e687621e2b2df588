"""Standard streams that are closed, or that nobody reads any more."""

import contextlib
import os
import sys
from typing import IO, Final

__all__ = ["drop", "open_streams"]

_CLOSED: Final = (("stdin", os.O_WRONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w"))
"""Streams, and how they are opened where the caller has closed them."""


def open_streams() -> None:
    """Give standard streams that the caller has closed a place of their own.

    Messages go nowhere. Reading and writing is refused, as with a closed descriptor: a result is not lost in silence,
    and not written into whatever file gets the descriptor's number.
    """
    for name, access, mode in _CLOSED:
        if getattr(sys, name) is None:
            stream = open(os.open(os.devnull, access), mode, encoding="utf-8")  # noqa: SIM115, PTH123 as long as we live
            setattr(sys, name, stream)


def drop(stream: IO[str]) -> None:
    """Discard the rest of a stream's output."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
