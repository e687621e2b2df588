"""`cellworker replay`."""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from cellworker.cli.output import Destination, write_answer
from cellworker.cli.progress import Bar
from cellworker.cli.settings_of import settings_of
from cellworker.engine.contexts import make_context
from cellworker.engine.saved_requests import read_saved
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.opening.store_guard import verified
from cellworker.tasks import catalog
from cellworker.tasks.steps import answer_request

__all__ = ["command"]


def command(options: argparse.Namespace) -> int:
    """Run a request that `DEBUG_STEP` saved once more, in this process, and write the result."""
    saved = read_saved(Path(options.file))
    settings = replace(settings_of(options), like_original=saved.like_original)
    task = catalog.find(saved.task)
    request = task.read_request(saved.request)
    destination = Destination(options.out, options.format, file_result=task.file_result, csv_guard=settings.csv_guard)
    path = saved.experiment if options.experiment is None else Path(options.experiment)
    with tempfile.TemporaryDirectory(prefix="cellworker-") as scratch:
        with Bar(quiet=options.quiet) as bar:
            context = make_context(settings, bar, Path(scratch))
            result, cell_ids = verified(
                lambda: open_experiment(path, settings, bar),
                lambda opened: opened.experiment,
                lambda opened: (
                    answer_request(task, request, opened.experiment, context),
                    opened.experiment.cell_ids.copy(),
                ),
            )
        write_answer(destination, task, result, cell_ids)
    return 0
