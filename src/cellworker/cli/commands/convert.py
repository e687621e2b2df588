"""`cellworker convert`."""

import argparse
from pathlib import Path

from cellworker.cli.progress import Bar
from cellworker.formats.convert.converting import convert
from cellworker.plain_text import say
from cellworker.settings import Settings

__all__ = ["command"]


def command(options: argparse.Namespace) -> int:
    """Convert an experiment file and print what was kept, renamed and could not be represented."""
    with Bar(quiet=options.quiet) as bar:
        found = convert(
            Path(options.source),
            Path(options.target),
            Settings.from_environment(),
            force=options.force,
            on_progress=bar,
        )
    say(f"{options.target}: written")
    for title, lines in (
        ("kept", found.kept),
        ("renamed", found.renamed),
        ("could not be represented", found.lost),
    ):
        say("", title)
        for line in lines or ["nothing"]:
            say(f"  {line}")
    return 0
