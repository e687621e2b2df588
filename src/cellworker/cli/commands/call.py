"""`cellworker call`."""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellworker.api.records import record_of
from cellworker.cli.many_requests import answer_many, read_requests
from cellworker.cli.output import Destination, check_apart, write_answer
from cellworker.cli.progress import Bar
from cellworker.cli.request_options import request_body, request_pagination
from cellworker.cli.settings_of import settings_of
from cellworker.cli.times import Times
from cellworker.cli.unknown_names import known_task
from cellworker.engine.contexts import make_context
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.opening.store_guard import verified
from cellworker.sample import sample_path
from cellworker.settings import Settings
from cellworker.tasks import catalog
from cellworker.tasks.steps import answer

__all__ = ["WrittenRequest", "answer_one", "command"]


@dataclass(frozen=True, slots=True)
class WrittenRequest:
    """One request as a user writes it: the task's name, the body's fields without it, the pagination."""

    task: str
    fields: dict[str, Any]
    pagination: dict[str, Any] | None


def command(options: argparse.Namespace) -> int:
    """Open an experiment, answer one request or many on it, and write the results."""
    settings = settings_of(options)
    path = sample_path() if options.experiment is None else Path(options.experiment)
    if options.requests is not None:
        return answer_many(read_requests(options.requests), path, settings, options)
    task = known_task(options.task)  # an unknown name is reported before mistakes in the body
    body = request_body(task, options.body)
    answer_one(WrittenRequest(task.name, body, request_pagination(task, options.pagination)), path, settings, options)
    return 0


def answer_one(question: WrittenRequest, path: Path, settings: Settings, options: argparse.Namespace) -> None:
    """Answer one request, and write the result where the options of output say."""
    task, fields, pagination = catalog.find(question.task), question.fields, question.pagination
    # Mistakes in the arguments are reported before an experiment is opened, which takes long.
    body = task.read_body({"name": task.name, **fields})
    destination = Destination(
        options.out, options.format, file_result=task.file_result, csv_guard=settings.csv_guard,
        side_file=options.provenance,
    )  # fmt: skip
    check_apart(options.out, path)
    times = Times(shown=options.verbose)
    with tempfile.TemporaryDirectory(prefix="cellworker-") as scratch:
        with Bar(quiet=options.quiet) as bar:
            context = make_context(settings, bar, Path(scratch), own_tables=destination.format != "json")
            with times.step(f"opening and {task.name}"):
                result, cell_ids, record = verified(
                    lambda: open_experiment(path, settings, bar),
                    lambda opened: opened.experiment,
                    lambda opened: (
                        answer(
                            task, body, opened.experiment, context, catalog.find,
                            cell_sets=opened.cell_sets, pagination=pagination,
                        ),
                        opened.experiment.cell_ids.copy(),
                        record_of(task.name, fields, opened.experiment, path, settings=settings, pagination=pagination),
                    ),
                )  # fmt: skip
        with times.step("writing"):
            write_answer(destination, task, result, cell_ids, [record])
