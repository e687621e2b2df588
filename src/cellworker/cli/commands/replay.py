"""`cellworker replay`."""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from cellworker.cli.output import Destination, write_value
from cellworker.cli.progress import Bar
from cellworker.cli.settings_of import settings_of
from cellworker.engine.contexts import make_context
from cellworker.engine.saved_requests import read_saved
from cellworker.formats.opening.open import open_experiment
from cellworker.protocol.bodies import convert
from cellworker.tasks import catalog

__all__ = ["command"]


def command(options: argparse.Namespace) -> int:
    """Run a request that `DEBUG_STEP` saved once more, in this process, and write the result."""
    saved = read_saved(Path(options.file))
    settings = replace(settings_of(options), like_original=saved.like_original)
    task = catalog.find(saved.task)
    request = convert(saved.request, task.request, "request")
    destination = Destination(options.out, options.format, file_result=task.file_result)
    path = saved.experiment if options.experiment is None else Path(options.experiment)
    with tempfile.TemporaryDirectory(prefix="cellworker-") as scratch:
        with Bar(quiet=options.quiet) as bar:
            opened = open_experiment(path, settings, bar)
            value = task.compute(opened.experiment, request, make_context(settings, bar, Path(scratch)))
        write_value(destination, task, value)
    return 0
