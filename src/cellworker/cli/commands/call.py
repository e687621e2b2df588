"""`cellworker call`."""

import argparse
import tempfile
from pathlib import Path

from cellworker.cli.output import Destination, request_body, request_pagination, write_value
from cellworker.cli.progress import Bar
from cellworker.cli.settings_of import settings_of
from cellworker.engine.contexts import make_context
from cellworker.formats.opening.open import open_experiment
from cellworker.protocol.bodies import convert
from cellworker.sample import sample_path
from cellworker.tasks import catalog
from cellworker.tasks.earlier_results import ask_for_earlier
from cellworker.tasks.task import PrepareInput

__all__ = ["command"]


def command(options: argparse.Namespace) -> int:
    """Open an experiment, answer one request on it, and write the result."""
    settings = settings_of(options)
    task = catalog.find(options.task)
    # All that the command line can get wrong is told before an experiment is opened.
    body = convert({"name": task.name, **request_body(task.name, options.body)}, task.body, "body")
    pagination = request_pagination(options.pagination)
    destination = Destination(options.out, options.format, file_result=task.file_result)
    path = sample_path() if options.experiment is None else Path(options.experiment)
    with tempfile.TemporaryDirectory(prefix="cellworker-") as scratch:
        with Bar(quiet=options.quiet) as bar:
            opened = open_experiment(path, settings, bar)
            context = make_context(settings, bar, Path(scratch), own_tables=destination.format != "json")
            earlier = ask_for_earlier(task, body, opened.experiment, context)
            request = task.prepare(PrepareInput(body, pagination, opened.cell_sets, earlier))
            value = task.compute(opened.experiment, request, context)
        write_value(destination, task, value)
    return 0
