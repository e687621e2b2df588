"""`cellworker convert`."""

import argparse
import json
from pathlib import Path

from cellworker.cli.output import check_place, replacing
from cellworker.cli.progress import Bar
from cellworker.cli.settings_of import settings_of
from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.convert.converting import convert
from cellworker.plain_text import say

__all__ = ["command"]

_MAX_LINES = 1000
"""Lines of each list that go to the terminal: an object may rename 30,000 genes."""


def command(options: argparse.Namespace) -> int:
    """Convert an experiment file and print what is kept, renamed and cannot be represented."""
    report = _checked_report(options)
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
    if report is not None:
        content = {"kept": found.kept, "renamed": found.renamed, "could_not_be_represented": found.lost}
        with replacing(report) as file:
            # A name that is no UTF-8 is written as JSON has it, in escapes.
            file.write(json.dumps(content, indent=1, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")
    return 0


def _checked_report(options: argparse.Namespace) -> Path | None:
    """Return where the report goes, after checking that it can, and that no experiment is there."""
    if options.report is None:
        return None
    report = Path(options.report)
    check_place("--report", report)
    if report.resolve() in (Path(options.source).resolve(), Path(options.target).resolve()):
        message = f"--report {options.report}: that is the experiment's file: name another"
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    return report
