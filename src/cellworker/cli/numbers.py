"""Numbers, paths and text of the command line; what is wrong is said in words that need no Python."""

import argparse
import math

__all__ = ["number", "path_of", "port", "positive_number", "text_of", "whole_number"]


def whole_number(text: str) -> int:
    """Return the number that a text is, for argparse."""
    try:
        return int(text)
    except ValueError:
        message = f"expected a whole number, found {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def number(text: str) -> float:
    """Return the finite number that a text is, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        message = f"expected a number, found {text!r}"
        raise argparse.ArgumentTypeError(message)
    return value


def positive_number(text: str) -> float:
    """Return the finite number above 0 that a text is, for argparse."""
    value = number(text)
    if value <= 0:
        message = f"expected a number above 0, found {text!r}"
        raise argparse.ArgumentTypeError(message)
    return value


def text_of(said: str) -> str:
    """Return a text for argparse; bytes that are no UTF-8 are refused, of which no name in a file can consist."""
    if not said.isascii() and any("\ud800" <= letter <= "\udfff" for letter in said):
        message = f"expected text in UTF-8, found {said!r}"
        raise argparse.ArgumentTypeError(message)
    return said


def path_of(said: str) -> str:
    """Return a path for argparse; an empty one, of a variable that is not set, would be the folder one is in."""
    if not said:
        message = "expected a path, found ''"
        raise argparse.ArgumentTypeError(message)
    return said


def port(text: str) -> int:
    """Return the port that a text names, for argparse."""
    try:
        found = int(text)
    except ValueError:
        found = -1
    if not 0 <= found <= 65535:
        message = f"expected a port from 0 to 65535, found {text!r}"
        raise argparse.ArgumentTypeError(message)
    return found
