"""Shared by commands: results to a file, a pipe or the terminal; to a file whole or not at all."""

import contextlib
import csv
import gzip
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from cellworker.cli.formulas import has_formulas, without_formula, without_formulas
from cellworker.errors import ErrorCode, WorkerError
from cellworker.extras import how_to_install
from cellworker.formats.common.half_written import half_written, is_stream
from cellworker.formats.common.locating import locate
from cellworker.formats.common.provenance import KEY, Provenance, encode, side_file, stamp
from cellworker.plain_text import is_terminal, shown
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.task import Task

__all__ = [
    "Destination",
    "check_apart",
    "check_place",
    "replacing",
    "write_answer",
    "write_file",
    "write_result",
]

Format = Literal["json", "csv", "tsv", "parquet", "h5ad"]

_FORMATS: dict[str, Format] = {".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
_BINARY = ("parquet", "h5ad")
_OBJECTS = frozenset({".rds", ".h5ad"})
_KINDS = _OBJECTS | {
    ".csv", ".tsv", ".json", ".parquet", ".zarr", ".h5", ".h5mu", ".h5seurat", ".loom", ".qs", ".qs2", ".rda", ".mtx",
    ".xlsx", ".zip",
}  # fmt: skip
"""Endings that tell what is in a file: a result that is a file is saved under no other's."""
_INVALID = ErrorCode.INVALID_INPUT
_STEP = 1 << 20


def check_apart(out: str | None, experiment: Path) -> None:
    """Refuse an ``--out`` that is the experiment's own file, or that of its cell sets.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT``; for a place without an experiment, what opening it raises.
    """
    if out in (None, "-") or not Path(out).exists():
        return
    found = locate(experiment)
    if any(own is not None and Path(out).samefile(own) for own in (experiment, found.source, found.cell_sets)):
        raise WorkerError(_INVALID, f"--out {out}: that is the experiment itself: give another name")


def check_place(option: str, path: Path) -> None:
    """Refuse a place where no file can be written.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the option.
    """
    if not path.parent.is_dir():
        raise WorkerError(_INVALID, f"{option} {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise WorkerError(_INVALID, f"{option} {path}: is a folder, name a file in it")


class Destination:
    """The destination and format of a result, checked before anything is computed.

    Parameters
    ----------
    out
        ``--out``; None for standard output.
    chosen
        ``--format``; None to go by the file's name.
    file_result
        Whether the result is a file, which may have any name.
    csv_guard
        The setting of that name: text in CSV that a spreadsheet would run gets a ``'`` before it.
    default
        The format where neither option nor file name says it.
    annotated
        Whether ``.h5ad`` is a format too.
    side_file
        ``--provenance``: whether files without a place for a record get one beside them.
    """

    def __init__(
        self, out: str | None, chosen: Format | None, *, file_result: bool = False, csv_guard: bool = True,
        default: Format = "json", annotated: bool = False, side_file: bool = False,
    ) -> None:  # fmt: skip
        self._chosen = chosen
        self.csv_guard = csv_guard
        self.side_file = side_file
        self.path = Path(out) if out not in (None, "-") else None
        formats = {**_FORMATS, ".h5ad": "h5ad"} if annotated else _FORMATS
        self.gzipped = self.path is not None and self.path.suffix.lower() == ".gz"
        if side_file and (self.path is None or is_stream(self.path)):
            where = "standard output" if self.path is None else self.path
            raise WorkerError(_INVALID, f"--provenance: {where} has no file beside it, give --out FILE")
        if self.path is None:
            self.format: Format = chosen or default
            if self.format in _BINARY and sys.stdout.isatty():
                message = f"--format {self.format}: binary data, save it with --out FILE.{self.format}"
                raise WorkerError(_INVALID, message)
            return
        name = Path(self.path.stem if self.gzipped else self.path.name)
        by_name = formats.get(name.suffix.lower())
        self.format = chosen or by_name or default
        if by_name not in (None, self.format):
            raise WorkerError(
                _INVALID, f"--format {chosen}: the name in --out {self.path} tells another; leave out --format"
            )
        if self.gzipped and self.format in _BINARY and not file_result:
            raise WorkerError(_INVALID, f"--out {self.path}: .gz may follow text only; leave it out")
        if chosen is None and by_name is None and not self.gzipped and not file_result:
            known = f"{', '.join(list(formats)[:-1])} or {list(formats)[-1]}"
            raise WorkerError(
                _INVALID, f"--out {self.path}: end the name in {known} (.gz may follow text), or give --format"
            )
        check_place("--out", self.path)

    def check_ending(self, name: str) -> None:
        """Refuse to save a file under a name that stands for another kind, or for a packed one that it is not.

        Parameters
        ----------
        name
            The file's own name, which tells what is in it.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the option.
        """
        wanted = Path(name.removesuffix(".gz")).suffix
        if self._chosen is not None and wanted != f".{self._chosen}":
            raise WorkerError(_INVALID, f"--format {self._chosen}: the result is a {wanted} file: leave out --format")
        if self.path is None:
            return
        named = Path(self.path.stem if self.gzipped else self.path.name).suffix.lower()
        packed_again = self.gzipped and wanted == ".h5ad"
        if not packed_again and (named == wanted or named not in _KINDS):
            return
        kind = f"{'an' if wanted in _OBJECTS else 'a'} {wanted} file"
        advice = f"end its name in {wanted}"
        if named != wanted and wanted in _OBJECTS:
            advice += ', or ask for another kind with "format" in --body'
        raise WorkerError(_INVALID, f"--out {self.path}: the result is {kind}: {advice}")

    def check_tables(self, names: Collection[str]) -> None:
        """Refuse several tables where one alone has a place.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` with the tables' names.
        """
        if len(names) > 1 and self.format not in ("json", "h5ad") and (self.path is None or is_stream(self.path)):
            advice = "save them with --out FILE, or choose --format json"
            raise WorkerError(_INVALID, f"the result is {len(names)} tables ({', '.join(names)}): {advice}")

    def tell_beside(self, written: Sequence[Path], records: Sequence[Provenance]) -> None:
        """Write the record of files beside them, where the option asks for it."""
        if self.side_file and records:
            for path in written:
                side_file(path).write_text(f"{encode(records)}\n", encoding="ascii")

    def named(self, table: str) -> Path:
        """Return the file of one of several tables: ``markers.csv`` becomes ``markers-<table>.csv``."""
        assert self.path is not None
        stem, _, endings = self.path.name.partition(".")
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in table)
        return self.path.with_name(f"{stem}-{safe}.{endings}")


def write_result(
    destination: Destination,
    value: Any,  # noqa: ANN401 - any JSON value
    to_tables: Callable[[Any], Tables] | None,
    records: Sequence[Provenance] = (),
) -> list[Path]:
    """Write a decoded result, and return the files that were made.

    Parameters
    ----------
    destination
        Where to.
    value
        The value for JSON.
    to_tables
        Makes tables from it, for CSV and Parquet; None where the task has none.
    records
        Records of the steps that made it: in Parquet always, beside other files where the destination says so.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` when the result is no table, or several tables without ``--out``.
    """
    if destination.format == "json":
        contents = {destination.path: json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"}
    else:
        tables = to_tables(value) if to_tables else {}
        if not tables:
            raise WorkerError(
                _INVALID, f"the result is no table, so it cannot be saved as {destination.format}: choose JSON"
            )
        destination.check_tables(tables)
        paths = [destination.path] if len(tables) == 1 else [destination.named(name) for name in tables]
        encoded = [_encode(table, destination, records) for table in tables.values()]
        contents = dict(zip(paths, encoded, strict=True))
    written = _write_all(contents, gzipped=destination.gzipped)
    if destination.format != "parquet":
        destination.tell_beside(written, records)
    return written


def _encode(table: Mapping[str, Sequence[Any]], destination: Destination, records: Sequence[Provenance]) -> bytes:
    if destination.format in ("csv", "tsv"):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n", delimiter="," if destination.format == "csv" else "\t")
        rows = chain([tuple(table)], zip(*table.values(), strict=True))
        writer.writerows(map(without_formula, row) for row in rows) if destination.csv_guard else writer.writerows(rows)
        return text.getvalue().encode()
    try:
        import pyarrow as pa  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        advice = f"{how_to_install('notebook')}; or choose .csv"
        raise WorkerError(_INVALID, f"Parquet needs the package pyarrow: {advice}") from None
    buffer = io.BytesIO()
    made = pa.table({name: pa.array(column) for name, column in table.items()})
    if records:
        made = made.replace_schema_metadata({KEY.encode(): encode(records).encode()})
    parquet.write_table(made, buffer)
    return buffer.getvalue()


def _write_all(contents: Mapping[Path | None, bytes], *, gzipped: bool) -> list[Path]:
    with contextlib.ExitStack() as stack:
        for path, content in contents.items():
            if path is None:
                _to_stdout(content)
                continue
            file = stack.enter_context(replacing(path))
            file.write(gzip.compress(content, 6, mtime=0) if gzipped else content)
    return [path for path in contents if path is not None]


def write_answer(
    destination: Destination,
    task: Task,
    answer: bytes | Path,
    cell_ids: NDArray[np.int32],
    records: Sequence[Provenance] = (),
) -> list[Path]:
    """Deliver the result of a task as its clients get it, or as tables, and return the files that were made.

    Parameters
    ----------
    destination, task, answer
        The answer, its task, and where it goes.
    cell_ids
        Those of all cells, int32 ``(n_cells,)``.
    records
        Records of the steps that made it; see `write_result`.
    """
    if not isinstance(answer, Path):
        return write_result(destination, orjson.loads(answer), lambda value: task.tables(value, cell_ids), records)
    assert task.file_name is not None
    name = task.file_name(answer)
    destination.check_ending(name)
    ending = Path(name.removesuffix(".gz")).suffix
    inside = ending in _OBJECTS and bool(records)
    if inside:
        stamp(answer, records, kind=ending)
    written = write_file(destination, answer)
    if not inside:
        destination.tell_beside(written, records)
    return written


def write_file(destination: Destination, result: Path) -> list[Path]:
    """Deliver a result that is a file already: unpacked, unless its new name means a packed file."""
    with result.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    as_it_is = not packed or destination.gzipped or (destination.path is not None and destination.path.suffix == ".rds")
    if destination.csv_guard and ".csv" in result.suffixes:
        with gzip.open(result) if packed else result.open("rb") as text:
            unsafe = has_formulas(text)
        if unsafe:
            return _write_guarded(destination, result, packed=packed)
    with result.open("rb") if as_it_is else gzip.open(result) as source:
        if destination.path is None:
            if is_terminal(sys.stdout):
                for line in source:
                    _to_stdout(line)
            else:
                shutil.copyfileobj(source, sys.stdout.buffer, _STEP)
            return []
        with replacing(destination.path) as target:
            shutil.copyfileobj(source, target, _STEP)
    return [destination.path]


def _write_guarded(destination: Destination, result: Path, *, packed: bool) -> list[Path]:
    with gzip.open(result) if packed else result.open("rb") as source:
        if destination.path is None:
            for piece in without_formulas(source):
                _to_stdout(piece)
            return []
        with replacing(destination.path) as file, contextlib.ExitStack() as stack:
            packing = stack.enter_context(gzip.GzipFile("", "wb", 6, file, mtime=0)) if destination.gzipped else file
            for piece in without_formulas(source):
                packing.write(piece)
    return [destination.path]


def _to_stdout(content: bytes) -> None:
    """Write to standard output: exact for a program, and with control characters escaped for a terminal."""
    if is_terminal(sys.stdout):
        content = shown(content.decode("utf-8", "backslashreplace")).encode()
    sys.stdout.buffer.write(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write beside a file, and replace the file only when all went well; write to a pipe or a device."""
    if is_stream(path):
        with path.open("wb") as file:
            yield file
        return
    with half_written(path) as temporary:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
