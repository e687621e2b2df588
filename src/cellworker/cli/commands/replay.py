"""`cellworker replay`."""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import get_args

from cellworker.api.records import PICTURE_PREFIX, REPLAYED_SETTINGS
from cellworker.cli.commands.call import WrittenRequest, answer_one
from cellworker.cli.commands.method import PICTURES, run_method
from cellworker.cli.methods import METHODS, check_arguments
from cellworker.cli.output import Destination, write_answer
from cellworker.cli.progress import Bar
from cellworker.cli.settings_of import settings_of
from cellworker.engine.contexts import make_context
from cellworker.engine.saved_requests import read_saved
from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.provenance import Provenance, read_provenance, steps_of
from cellworker.formats.convert.converting import RdsClass, convert
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.opening.store_guard import verified
from cellworker.plain_text import say
from cellworker.sample import sample_path
from cellworker.settings import Settings
from cellworker.tasks import catalog
from cellworker.tasks.steps import answer_request
from cellworker.version import __version__

__all__ = ["command"]

_HEAD_BYTES = 1 << 20
_METHODS = frozenset(method for method, _ in METHODS.values())
_WHOLE = frozenset({"convert", "prepare", "save"})


def command(options: argparse.Namespace) -> int:
    """Repeat the steps that made a file, or a request that `DEBUG_STEP` saved, and write the result."""
    file = Path(options.file)
    if _is_saved_request(file):
        _run_saved(file, options)
        return 0
    steps = _the_steps(file)
    record = steps[-1]
    if record.task == "prepare":
        _prepare(record, file, options)
        return 0
    source = _source(record, file, options.experiment)
    given = {name: value for name, value in record.settings.items() if name in REPLAYED_SETTINGS}
    settings = replace(settings_of(options), **given)
    with Bar(quiet=options.quiet) as bar:
        _compare(record, source, settings, chosen=options.experiment is not None, bar=bar)
        if record.task == "convert":
            target, rds_class = _out(record, options), record.parameters.get("rds_class", "Seurat")
            convert(source, target, settings, force=True, rds_class=rds_class, on_progress=bar)
            return 0
    if record.task in catalog.TASKS:
        answer_one(WrittenRequest(record.task, record.parameters, record.pagination), source, settings, options)
    else:
        run_method(record.task, dict(record.parameters), source, settings, options, before=steps[:-1])
    return 0


def _is_saved_request(file: Path) -> bool:
    """Whether a file is one that `DEBUG_STEP` saves; the reader reports any other problem."""
    if file.suffix != ".json" or not file.is_file():
        return False
    with file.open("rb") as opened:
        text = opened.read(_HEAD_BYTES)
    return b'"request"' in text and b'"likeOriginal"' in text


def _the_steps(file: Path) -> list[Provenance]:
    """Return the steps that made a file from its source, and check that each can be repeated."""
    if not file.exists():
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{file} cannot be read: there is no such file")
    steps = steps_of(read_provenance(file))
    *before, last = steps
    if last.task == "write" or (last.task.startswith(PICTURE_PREFIX) and not last.source):
        message = f"{file} was made from an object in memory ({last.task}), which is not there to be asked again"
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    asked = {*catalog.TASKS, *_METHODS, *_WHOLE, *PICTURES}
    if last.task not in asked or any(step.task not in _METHODS for step in before):
        message = (
            f"{file} was made by {', '.join(step.task for step in steps)}, which the command line cannot ask again"
        )
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    for step in steps:
        if step.task in _METHODS:
            check_arguments(step.task, step.parameters)
    if last.task == "save" and last.parameters:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"the record: save has no argument {next(iter(last.parameters))!r}")
    if last.task == "convert" and last.parameters.get("rds_class", "Seurat") not in get_args(RdsClass):
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{file}: rds_class is none of {', '.join(get_args(RdsClass))}")
    return steps


def _out(record: Provenance, options: argparse.Namespace) -> Path:
    if options.out in (None, "-"):
        raise WorkerError(ErrorCode.INVALID_INPUT, f"--out: name what {record.task} writes")
    return Path(options.out)


def _prepare(record: Provenance, file: Path, options: argparse.Namespace) -> None:
    """Prepare the same samples again; their paths are relative to the file's folder."""
    from cellworker.preparing.parameters import resolved  # noqa: PLC0415 heavy
    from cellworker.preparing.pipeline import run  # noqa: PLC0415 heavy

    if options.experiment is not None:
        message = (
            "--experiment: samples are found by their names, beside the folder that was prepared or in this folder"
        )
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    out = _out(record, options)
    _tell_version(record)
    with Bar(quiet=options.quiet) as bar:
        parameters = resolved(record.parameters, file.parent)
        run(parameters, out, settings_of(options), bar, sources_sha256=record.source_sha256)


def _source(record: Provenance, file: Path, given: str | None) -> Path:
    if given is not None:
        return Path(given)
    name = Path(record.source).name  # never a path: the file is untrusted
    if not record.source:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{file} does not name its source: give --experiment PATH")
    for folder in (file.parent, Path()):
        if name and (folder / name).exists():
            return folder / name
    if name == sample_path().name:
        return sample_path()
    message = f"{name}, which {file} was made from, is not beside it nor in this folder: give --experiment PATH"
    raise WorkerError(ErrorCode.INVALID_INPUT, message)


def _compare(record: Provenance, source: Path, settings: Settings, *, chosen: bool, bar: Bar) -> None:
    """Warn when the source or the version differs; a source that was found by its name alone must be the same."""
    found = open_experiment(source, settings, bar).experiment.source_sha256
    if record.source_sha256 and found != record.source_sha256:
        message = f"{source} is not what it was: its hash is {found[:12]}, the record says {record.source_sha256[:12]}"
        if not chosen:
            advice = "give --experiment PATH to ask it all the same"
            raise WorkerError(ErrorCode.INVALID_INPUT, f"{message}; {advice}")
        say(f"Note: {message}.", file=sys.stderr)
    _tell_version(record)


def _tell_version(record: Provenance) -> None:
    if record.cellworker != __version__:
        say(f"Note: made by cellworker {record.cellworker}, asked again by {__version__}.", file=sys.stderr)


def _run_saved(file: Path, options: argparse.Namespace) -> None:
    saved = read_saved(file)
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
