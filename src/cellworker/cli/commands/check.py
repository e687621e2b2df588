"""`cellworker check`."""

import argparse
import contextlib
from pathlib import Path

from cellworker.cli.progress import Bar
from cellworker.cli.settings_of import settings_of
from cellworker.formats.check.checking import check_experiment, render
from cellworker.plain_text import say

__all__ = ["command"]


def command(options: argparse.Namespace) -> int:
    """Print the contents and all problems of experiments; the exit status is that of the worst."""
    settings, several = settings_of(options), len(options.paths) > 1
    reports = []
    for path in options.paths:
        with Bar(quiet=options.json) as bar:
            report = check_experiment(Path(path), settings, bar)
        reports.append(report)
        if not options.json:
            _tell(*([f"== {path}"] if several else []), *render(report).rstrip("\n").split("\n"))
    if options.json:
        texts = [report.to_json() for report in reports]
        _tell(*(f"[{', '.join(texts)}]" if several else texts[0]).split("\n"))
    return max(report.status for report in reports)


def _tell(*lines: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # who has read enough still gets the status of all
        say(*lines)
