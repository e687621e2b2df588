"""Numbers of the command line, in words that need no Python."""

import argparse
import math

__all__ = ["number", "positive_number", "whole_number"]


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
