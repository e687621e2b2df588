"""`cellworker call`."""

import argparse
import tempfile
from pathlib import Path

from cellworker.cli.output import Destination, request_body, request_pagination, write_answer
from cellworker.cli.progress import Bar
from cellworker.cli.settings_of import settings_of
from cellworker.engine.contexts import make_context
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.opening.store_guard import verified
from cellworker.sample import sample_path
from cellworker.tasks import catalog
from cellworker.tasks.steps import answer

__all__ = ["command"]


def command(options: argparse.Namespace) -> int:
    """Open an experiment, answer one request on it, and write the result."""
    settings = settings_of(options)
    task = catalog.find(options.task)
    # Mistakes in the arguments are reported before an experiment is opened, which takes long.
    body = task.read_body({"name": task.name, **request_body(task.name, options.body)})
    pagination = request_pagination(options.pagination)
    destination = Destination(options.out, options.format, file_result=task.file_result, csv_guard=settings.csv_guard)
    path = sample_path() if options.experiment is None else Path(options.experiment)
    with tempfile.TemporaryDirectory(prefix="cellworker-") as scratch:
        with Bar(quiet=options.quiet) as bar:
            context = make_context(settings, bar, Path(scratch), own_tables=destination.format != "json")
            result, cell_ids = verified(
                lambda: open_experiment(path, settings, bar),
                lambda opened: opened.experiment,
                lambda opened: (
                    answer(
                        task, body, opened.experiment, context, catalog.find,
                        cell_sets=opened.cell_sets, pagination=pagination,
                    ),
                    opened.experiment.cell_ids.copy(),
                ),
            )  # fmt: skip
        write_answer(destination, task, result, cell_ids)
    return 0
