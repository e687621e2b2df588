"""`cellworker completion`."""

import argparse

from cellworker.cli.completion import script
from cellworker.cli.methods import METHODS
from cellworker.plain_text import say

__all__ = ["command"]


def command(options: argparse.Namespace) -> int:
    """Print the script of a shell."""
    from cellworker.cli.main import parser_for  # noqa: PLC0415 it imports commands by name

    say(*script(parser_for(list(METHODS)), options.shell).rstrip("\n").split("\n"))
    return 0
