"""Opening a foreign file or folder of any kind as a tree of AnnData."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.anndata.containers.opening import open_anndata
from cellworker.formats.foreign.from_tree import matrix_of_tree
from cellworker.formats.foreign.loom import read_loom
from cellworker.formats.foreign.merging import check_counts, check_samples, merged
from cellworker.formats.foreign.mudata import read_mudata
from cellworker.formats.foreign.old_anndata import read_old_anndata
from cellworker.formats.foreign.samples import (
    FolderSample,
    KindOf,
    find_samples,
    market_parts,
    sample_name,
    unread_in,
)
from cellworker.formats.foreign.shown import ForeignFile, Reading, SampleMatrix, refused, tree_of
from cellworker.formats.foreign.tenx import read_tenx
from cellworker.formats.foreign.text.dense import read_dense
from cellworker.formats.foreign.text.entries_table import read_entries
from cellworker.formats.foreign.text.market_parts import read_parse, read_tenx_folder
from cellworker.formats.foreign.unpacking import unpacked

__all__ = ["companions_of_matrix", "show"]

_TREES: Final = frozenset({"LOOM", "MUDATA", "OLD_ANNDATA", "ANNDATA"})


@contextmanager
def show(kind: str, source: Path, reading: Reading, kind_of: KindOf) -> Iterator[ForeignFile | None]:
    """Open a file or folder; None where it cannot be shown, and `Reading.findings` then says why.

    Parameters
    ----------
    kind
        Name of its `Kind`, one of `cellworker.formats.common.kinds.FOREIGN`.
    kind_of
        Tells the kinds of files in folders.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE``, ``EXPERIMENT_NOT_FOUND`` (a folder without a sample), ``INVALID_INPUT``.
    """
    beside: list[str] = []
    if kind in {"ZIPPED_ZARR", "ZIP"}:
        inner = _unpack(source, reading)
        found = kind_of(inner)
        if found not in {"ANNDATA", "MUDATA", "FOLDER"}:
            raise refused(source, "what is packed in it is no experiment", "unpack it and open what is in it")
        beside = unread_in(_unpacking(source, reading), {inner})
        source, kind = inner, found
    if kind in _TREES:
        with _tree(kind, source, reading) as shown:
            if shown is not None:
                shown.told.lost.extend(beside)
            yield shown
        return
    pairs = _matrices(kind, source, reading, kind_of, beside)
    if pairs:
        check_samples(pairs, reading.findings)
        if len(pairs) > 1:
            for matrix, where in pairs:
                check_counts(matrix, where, reading.findings)
    if not pairs or reading.findings.errors:
        yield None
        return
    one = pairs[0][0] if len(pairs) == 1 else merged([matrix for matrix, _ in pairs], reading.findings, reading.scratch)
    one.told.lost += beside
    yield ForeignFile(tree_of(one), one.writer, one.told)


def _unpack(source: Path, reading: Reading) -> Path:
    if reading.scratch.folder is None:
        raise refused(source, "there is no folder to unpack it in", "unpack it and open what is in it")
    return unpacked(source, _unpacking(source, reading), reading)


def _unpacking(source: Path, reading: Reading) -> Path:
    assert reading.scratch.folder is not None
    return reading.scratch.folder / f"unpacked-{source.name}"


@contextmanager
def _tree(kind: str, source: Path, reading: Reading) -> Iterator[ForeignFile | None]:
    with open_anndata(source, reading.max_bytes, reading.threads) as root:
        if kind == "LOOM":
            yield read_loom(root, source, reading)
        elif kind == "MUDATA":
            yield read_mudata(root, reading)
        elif kind == "OLD_ANNDATA":
            yield read_old_anndata(root)
        else:
            yield ForeignFile(root, "")


def _matrices(
    kind: str, source: Path, reading: Reading, kind_of: KindOf, beside: list[str]
) -> list[tuple[SampleMatrix, str]]:
    """Read the samples; what a folder holds beside them is added to `beside`."""
    if kind != "FOLDER":
        matrix = _read(_single(kind, source), reading, kind_of)
        return [] if matrix is None else [(matrix, source.name)]
    found = find_samples(source, kind_of)
    for path, missing in found.incomplete:
        reading.findings.error(
            str(path.relative_to(source)), found=f"a matrix without its {missing}", expected="lists of names beside it",
            advice="copy barcodes.tsv and features.tsv (or genes.tsv) of the matrix there",
            code=ErrorCode.EXPERIMENT_NOT_FOUND,
        )  # fmt: skip
    for name, what, reason in found.passed_over:
        reading.findings.fallback(name, found=what, advice=f"it is not read: {reason}")
    if not found.samples and not found.incomplete:
        raise WorkerError(
            ErrorCode.EXPERIMENT_NOT_FOUND,
            f"{source.name} holds no matrix that is known: give a folder of 10x, Parse or BD Rhapsody, a matrix in "
            "HDF5 or in text, or a folder with one of these for each sample.",
        )
    beside += unread_in(source, {path for sample in found.samples for path in sample.files.values()})
    out = []
    for sample in found.samples:
        where = _where(sample, source)
        try:
            matrix = _read(sample, reading, kind_of)
        except WorkerError as error:
            reading.findings.error(
                where, found=error.message.rstrip("."), expected="", advice="mend it or leave it out", code=error.code
            )
            continue
        if matrix is not None:
            out.append((matrix, where))
    return out


def _where(sample: FolderSample, folder: Path) -> str:
    path = sample.where
    inside = path.relative_to(folder)
    return str(inside.parent if sample.kind in {"MATRIX_MARKET", "PARSE"} and len(inside.parts) > 1 else inside)


def _single(kind: str, source: Path) -> FolderSample:
    if kind != "MATRIX_MARKET":
        return FolderSample(sample_name(source), kind, {"file": source})
    parts, missing = market_parts(source, _beside(source))
    if missing:
        raise WorkerError(
            ErrorCode.EXPERIMENT_NOT_FOUND,
            f"{source.name} is a matrix without its {missing}: put barcodes.tsv and features.tsv (or genes.tsv) beside "
            "it.",
        )
    name = sample_name(source)
    return FolderSample(
        name if name.casefold() != "matrix" else source.parent.name, "PARSE" if "cells" in parts else kind, parts
    )


def _beside(source: Path) -> list[Path]:
    return sorted(item for item in source.parent.iterdir() if item.is_file() and not item.name.startswith("."))


def companions_of_matrix(source: Path) -> list[str]:
    """Return the names of the lists that belong to a matrix in Matrix Market."""
    parts, _ = market_parts(source, _beside(source))
    return sorted(path.name for what, path in parts.items() if what != "matrix")


def _read(sample: FolderSample, reading: Reading, kind_of: KindOf) -> SampleMatrix | None:
    kind, name = sample.kind, sample.name
    if kind in {"PARSE", "MATRIX_MARKET"}:
        return (read_parse if kind == "PARSE" else read_tenx_folder)(name, sample.files, reading)
    path = sample.files["file"]
    readers: dict[str, Callable[[str, Path, Reading], SampleMatrix | None]] = {
        "TENX": read_tenx, "TEXT": read_dense, "ENTRIES": read_entries,
    }  # fmt: skip
    if kind in readers:
        return readers[kind](name, path, reading)
    with show(kind, path, reading, kind_of) if kind == "ZIPPED_ZARR" else _tree(kind, path, reading) as shown:
        return None if shown is None else matrix_of_tree(name, shown, path, reading)
