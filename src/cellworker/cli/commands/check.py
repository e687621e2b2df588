"""`cellworker check`."""

import argparse
from pathlib import Path

from cellworker.cli.progress import Bar
from cellworker.cli.settings_of import settings_of
from cellworker.formats.check.checking import check_experiment, render
from cellworker.plain_text import say

__all__ = ["command"]


def command(options: argparse.Namespace) -> int:
    """Print everything that is wrong with an experiment and what is in it; the report's status is the exit status."""
    with Bar(quiet=options.json) as bar:
        report = check_experiment(Path(options.path), settings_of(options), bar)
    say(*(report.to_json() if options.json else render(report).rstrip("\n")).split("\n"))
    return report.status
