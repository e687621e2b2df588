"""A matrix of Matrix Market with the lists of names beside it: 10x (versions 2 and 3), Parse, BD Rhapsody."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from cellworker.experiment.model import Column
from cellworker.formats.common.cells.labels import categorical
from cellworker.formats.common.ledger import Conversion
from cellworker.formats.foreign.features import GENOME, TYPES, only_genes
from cellworker.formats.foreign.shown import Reading, SampleMatrix, check_lengths, refused
from cellworker.formats.foreign.text.lines import table_rows, texts_of
from cellworker.formats.foreign.text.market import MarketHeader, read_market

__all__ = ["read_parse", "read_tenx_folder"]

_HEADERS: Final = {"cell_index", "barcode", "barcodes", "cell", "x"}


def read_tenx_folder(name: str, files: Mapping[str, Path], reading: Reading) -> SampleMatrix:
    """Read a matrix folder of 10x, or of a program that writes the same (STARsolo, BD Rhapsody's MEX).

    Parameters
    ----------
    files
        "matrix", "barcodes" and "features".

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` when the files are damaged or do not belong together.
    """
    where = files["matrix"]
    lines = texts_of(files["barcodes"], reading.max_bytes)
    barcodes = [line.partition("\t")[0] for line in lines]
    rows = [line.split("\t") for line in texts_of(files["features"], reading.max_bytes)]
    header, values = read_market(where, reading, cells_are_rows=False)
    if len(barcodes) == header.n_columns + 1 and barcodes[0].casefold() in _HEADERS:
        del barcodes[0]
    check_lengths(
        where.name,
        [("barcodes", len(barcodes), header.n_columns), ("features", len(rows), header.n_rows)],
    )  # fmt: skip
    n_fields = min((len(row) for row in rows), default=0)
    symbols = [row[1] if n_fields > 1 else row[0] for row in rows]
    ids = [row[0] for row in rows] if n_fields > 1 else []
    genes = {TYPES: [row[2] for row in rows]} if n_fields > 2 else {}
    rhapsody = all(barcode.isdigit() for barcode in barcodes[:1000]) and bool(barcodes)
    technology = "BD Rhapsody" if rhapsody else "10x"
    version = "" if rhapsody else f", version {3 if n_fields > 2 else 2}"
    told = Conversion(
        renamed=[
            f"{where.name} is X", f"{files['barcodes'].name} is the index of obs",
            f"{files['features'].name} is var",
        ]
    )  # fmt: skip
    if n_fields < max((len(row) for row in rows), default=0) or n_fields > 3:
        told.lost.append(f"{files['features'].name}: fields beyond id, name and type")
    if any("\t" in line for line in lines):
        told.lost.append(f"{files['barcodes'].name}: fields beyond the barcode")
    told.lost += _comments(where, header)
    matrix = SampleMatrix(
        name, technology, f"{technology} (matrix folder{version})", values, barcodes, symbols, ids, genes, told=told
    )
    return only_genes(matrix, reading)


def read_parse(name: str, files: Mapping[str, Path], reading: Reading) -> SampleMatrix:
    """Read what Parse Biosciences' pipeline writes: cells are rows, names are in tables.

    Parameters
    ----------
    files
        "matrix", "genes" and "cells".
    """
    where = files["matrix"]
    genes, cells = (table_rows(files[what], reading.max_bytes) for what in ("genes", "cells"))
    header, values = read_market(where, reading, cells_are_rows=True)
    check_lengths(
        where.name,
        [
            (f"rows of {files['cells'].name}", len(cells) - 1, header.n_rows),
            (f"rows of {files['genes'].name}", len(genes) - 1, header.n_columns),
        ],
    )  # fmt: skip
    of_genes, of_cells = _columns(genes, files["genes"]), _columns(cells, files["cells"])
    ids = of_genes.pop("gene_id", None)
    symbols = of_genes.pop("gene_name", None) or ids or next(iter(of_genes.values()))
    barcodes = of_cells.pop("bc_wells", None) or of_cells.pop(next(iter(of_cells)))
    columns: dict[str, Column] = {key: _typed(texts) for key, texts in of_cells.items()}
    told = Conversion(
        renamed=[
            f"{where.name} is X", f"{files['genes'].name} is var ({', '.join(genes[0])})",
            f"{files['cells'].name} is obs ({', '.join(cells[0])})",
        ]
    )  # fmt: skip
    told.lost += _comments(where, header)
    own = {GENOME if key == "genome" else key: texts for key, texts in of_genes.items()}
    matrix = SampleMatrix(
        name, "Parse", "Parse Biosciences (matrix folder)", values, barcodes, symbols, ids or [], own, columns, told
    )
    return only_genes(matrix, reading)


def _comments(path: Path, header: MarketHeader) -> list[str]:
    return [f"{path.name}: a comment: {text[:200]}" for text in header.comments]


def _columns(rows: list[list[str]], path: Path) -> dict[str, list[str]]:
    if not rows or not rows[0] or any(len(row) != len(rows[0]) for row in rows):
        raise refused(path, "its rows have different numbers of fields", "copy the file here again")
    if len(set(rows[0])) < len(rows[0]):
        raise refused(path, "two of its columns have one name", "copy the file here again")
    return dict(zip(rows[0], map(list, zip(*rows[1:], strict=True)) if len(rows) > 1 else [[] for _ in rows[0]],
                    strict=True))  # fmt: skip


def _typed(texts: list[str]) -> Column:
    """Return numbers where all are numbers or missing, else labels."""
    try:
        numbers = np.array([float(text) if text else np.nan for text in texts], np.float64)
    except ValueError:
        return categorical([text or None for text in texts])
    if (
        np.isfinite(numbers).all()
        and np.array_equal(numbers, np.floor(numbers))
        and np.abs(numbers).max(initial=0) < 2**53
    ):
        return numbers.astype(np.int64)
    return numbers
