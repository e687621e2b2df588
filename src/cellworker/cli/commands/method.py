"""The commands that are methods of an open experiment: `cellworker markers FILE --by leiden` and the like."""

import argparse
import inspect
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cellworker.api.records import PICTURE_PREFIX, record_of
from cellworker.cli.method_results import write_method_result
from cellworker.cli.methods import METHODS, as_on_the_line, given_arguments, refuse_unknown, tables_of
from cellworker.cli.output import Destination, check_apart
from cellworker.cli.progress import Bar
from cellworker.cli.settings_of import settings_of
from cellworker.cli.times import Times
from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.provenance import INSIDE, Provenance, stamp
from cellworker.settings import Settings

__all__ = ["PICTURES", "command", "run_method"]

_ON_STDOUT: Final[Mapping[str, tuple[str, ...]]] = {"experiment": ("h5ad", "rds", "h5"), "expression": ("csv",)}
"""What a download can be where no name tells it, by its kind; a .zarr is a folder."""
PICTURES: Final = frozenset(
    f"{PICTURE_PREFIX}{name}"
    for name in ("composition", "dotplot", "embedding", "heatmap", "tissue", "trajectory", "violin")
)
"""The functions that draw an open experiment; a volcano is drawn from a table."""


def command(options: argparse.Namespace) -> int:
    """Open an experiment, ask one method, and write its result."""
    settings = settings_of(options)
    arguments = given_arguments(options, options.method_command)
    try:
        run_method(METHODS[options.method_command][0], arguments, Path(options.experiment), settings, options)
    except WorkerError as error:
        raise as_on_the_line(options.method_command, error) from None
    return 0


def run_method(
    method: str, arguments: dict[str, Any], path: Path, settings: Settings, options: argparse.Namespace, *,
    before: Sequence[Provenance] = (),
) -> None:  # fmt: skip
    """Ask one method of the experiment at `path`, and write its result where the options of output say.

    Raises
    ------
    WorkerError
        The method's errors; ``INVALID_INPUT`` where it needs packages that are not installed.
    """
    if method in ("download", "save") or method in PICTURES:
        _write(method, arguments, path, settings, options, before=before)
        return
    destination = Destination(
        options.out, options.format, csv_guard=settings.csv_guard, default="csv", annotated=True,
        side_file=options.provenance,
    )  # fmt: skip
    _check_pandas()
    destination.check_tables(tables_of(method))
    check_apart(options.out, path)
    times = Times(shown=options.verbose)
    with Bar(quiet=options.quiet) as bar:
        with times.step("opening"):
            dataset = _opened(path, settings, bar)
        with dataset:
            with times.step(method):
                _ask(dataset, before)
                result = getattr(dataset, method)(**arguments)
            records = [record_of(method, arguments, dataset.experiment, path, settings=settings)]
            with times.step("writing"):
                write_method_result(destination, result, dataset, records)


def _check_pandas() -> None:
    try:
        import pandas as pd  # noqa: F401, PLC0415 what results are made of
    except ImportError:
        from cellworker.extras import how_to_install  # noqa: PLC0415

        raise WorkerError(ErrorCode.INVALID_INPUT, f"tables need pandas: {how_to_install('notebook')}") from None


def _opened(path: Path, settings: Settings, bar: Bar) -> Any:  # noqa: ANN401
    _check_pandas()
    from cellworker.api.opening import open as open_dataset  # noqa: PLC0415 heavy

    return open_dataset(path, settings=settings, progress=bar)


def _ask(dataset: Any, steps: Sequence[Provenance]) -> None:  # noqa: ANN401 a Dataset
    for step in steps:
        getattr(dataset, step.task)(**step.parameters)


def _write(
    task: str, arguments: dict[str, Any], path: Path, settings: Settings, options: argparse.Namespace, *,
    before: Sequence[Provenance] = (),
) -> None:  # fmt: skip
    """Save a file; on standard output ``--format`` gives its kind (h5ad)."""
    if options.out is None:
        raise WorkerError(ErrorCode.INVALID_INPUT, "--out: name what to write, as --out FILE.h5ad, or - with --format")
    ending = _ending(task, arguments, options)
    check_apart(options.out, path)
    times = Times(shown=options.verbose)
    with tempfile.TemporaryDirectory(prefix="cellworker-") as scratch, Bar(quiet=options.quiet) as bar:
        goal = Path(scratch) / f"result.{ending}" if options.out == "-" else Path(options.out)
        with times.step("opening"):
            dataset = _opened(path, settings, bar)
        with dataset, times.step(task):
            _ask(dataset, before)
            if task in PICTURES:
                _draw(task, arguments, dataset, goal)
            else:
                # A saved or downloaded experiment holds its own record.
                getattr(dataset, task)(str(goal), **arguments)
            record = record_of(task, arguments, dataset.experiment, path, settings=settings)
        if goal.suffix not in INSIDE and options.provenance:
            stamp(goal, [record])
        if options.out == "-":
            with goal.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)


def _ending(task: str, arguments: Mapping[str, Any], options: argparse.Namespace) -> str:
    """Return what a file on standard output is, and refuse a ``--format`` that is none, or not that of ``--out``."""
    kind = arguments.get("kind", "experiment") if task == "download" else "experiment"
    formats = _ON_STDOUT.get(kind, ())
    ending: str = options.format or (formats or ("",))[0]
    problem = ""
    if options.out != "-":
        named = Path(options.out).name.removesuffix(".gz")
        if options.format and not named.endswith(f".{options.format}"):
            problem = f"--format {ending}: the name in --out {options.out} tells another; leave out --format"
    elif formats and ending not in formats:
        ways = "; ".join(f"--kind {of} as {' or '.join(each)}" for of, each in _ON_STDOUT.items())
        problem = f"--format {ending}: standard output takes {ways}"
    elif sys.stdout.isatty() and ending != "csv":
        problem = f"--out -: binary data, save it with --out FILE.{ending}"
    if problem:
        raise WorkerError(ErrorCode.INVALID_INPUT, problem)
    return ending


def _draw(task: str, arguments: dict[str, Any], dataset: Any, goal: Path) -> None:  # noqa: ANN401 a Dataset
    from cellworker.api import pl  # noqa: PLC0415 heavy

    draw, given = getattr(pl, task.removeprefix(PICTURE_PREFIX)), dict(arguments)
    to_save = {"dpi": given.pop("dpi")} if "dpi" in given else {}
    known = [name for name in inspect.signature(draw).parameters if name not in ("source", "ax")]
    refuse_unknown(task, given, known)
    if not isinstance(to_save.get("dpi", 1), int):
        raise WorkerError(ErrorCode.INVALID_INPUT, f"the record: dpi: expected a number, found {to_save['dpi']!r}")
    pl.save(draw(dataset, **given), goal, **to_save)
