"""`cellworker convert`."""

import argparse
import json
from pathlib import Path

from cellworker.cli.progress import Bar
from cellworker.cli.settings_of import settings_of
from cellworker.formats.convert.converting import convert
from cellworker.plain_text import say

__all__ = ["command"]

_MAX_LINES = 1000
"""Lines of each list that go to the terminal: an object may rename 30,000 genes."""


def command(options: argparse.Namespace) -> int:
    """Convert an experiment file and print what is kept, renamed and cannot be represented."""
    with Bar(quiet=options.quiet) as bar:
        found = convert(
            Path(options.source),
            Path(options.target),
            settings_of(options),
            force=options.force,
            rds_class=options.rds_class,
            on_progress=bar,
        )
    say(f"{options.target}: written")
    for title, lines in (
        ("kept", found.kept),
        ("renamed", found.renamed),
        ("could not be represented", found.lost),
    ):
        say("", title)
        for line in lines[:_MAX_LINES] or ["nothing"]:
            say(f"  {line}")
        if len(lines) > _MAX_LINES:
            say(f"  and {len(lines) - _MAX_LINES:,} more; --report FILE.json lists them all")
    if options.report:
        content = {"kept": found.kept, "renamed": found.renamed, "could_not_be_represented": found.lost}
        Path(options.report).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return 0
