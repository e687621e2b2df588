"""The result of a reader of a foreign format: a tree of AnnData, and a report on the file's own elements."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.draft import SparseDraft
from cellworker.experiment.model import Column
from cellworker.formats.anndata.containers.memory import MemoryGroup, MemoryMatrix, put_column, table_group
from cellworker.formats.anndata.containers.tree import TreeGroup
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.ledger import Conversion
from cellworker.formats.common.scratch import Scratch

__all__ = ["ForeignFile", "Reading", "SampleMatrix", "check_lengths", "refused", "tree_of"]


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """A foreign file as AnnData.

    Attributes
    ----------
    root
        The tree.
    writer
        The program that wrote the file, in words.
    told
        The fate of every element of the file on its way into the tree.
    """

    root: TreeGroup
    writer: str
    told: Conversion = field(default_factory=Conversion)


@dataclass(frozen=True, slots=True)
class Reading:
    """Options for reading a file.

    Attributes
    ----------
    scratch
        Space for large arrays.
    findings
        Where problems are recorded.
    max_bytes
        Max bytes of the file's arrays, or of its text after decompression.
    threads
        Threads that decompress.
    part
        The modality or genome that the caller names; empty: the reader decides.
    orientation
        "cells-by-genes" or "genes-by-cells" where the caller says so; empty: the names decide.
    """

    scratch: Scratch
    findings: Findings
    max_bytes: int
    threads: int = 1
    part: str = ""
    orientation: str = ""


@dataclass(slots=True)
class SampleMatrix:
    """One sample's matrix of cells and genes with its names, in memory or spooled.

    Attributes
    ----------
    name
        The sample's name.
    technology
        "10x", "Parse", "BD Rhapsody", or "" where the file does not tell.
    writer
        The program that wrote the file, in words.
    values
        Cells x genes; columns are checked.
    barcodes
        The cells' names.
    symbols, ids
        The genes' names; `ids` is empty where the file has one name for each gene.
    genes
        Further columns of text about genes, by name.
    cells
        Further columns about cells, by name.
    told
        The fate of the file's elements.
    uns
        What the file says of itself, as groups of ``uns``; `tree_of` reports where it is.
    """

    name: str
    technology: str
    writer: str
    values: SparseDraft
    barcodes: list[str]
    symbols: list[str]
    ids: list[str] = field(default_factory=list)
    genes: dict[str, list[str]] = field(default_factory=dict)
    cells: dict[str, Column] = field(default_factory=dict)
    told: Conversion = field(default_factory=Conversion)
    uns: dict[str, MemoryGroup] = field(default_factory=dict)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.barcodes)

    def keys(self) -> list[str]:
        """Return what tells each gene from the others: its id where there are ids, else its name."""
        return self.ids or self.symbols


def tree_of(matrix: SampleMatrix) -> MemoryGroup:
    """Lay a matrix out as AnnData, as scanpy's readers do: names in the indices, ids in ``var["gene_ids"]``."""
    root = MemoryGroup("", {"encoding-type": "anndata", "encoding-version": "0.1.0"})
    root.put("X", MemoryMatrix("X", matrix.values))
    obs = table_group(root, "obs", matrix.barcodes)
    for name, column in matrix.cells.items():
        put_column(obs, name, column)
    var = table_group(root, "var", matrix.symbols)
    if matrix.ids:
        put_column(var, "gene_ids", matrix.ids)
    for name, texts in matrix.genes.items():
        put_column(var, name, texts)
    for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
        root.group(name)
    for name, group in matrix.uns.items():
        root.group("uns").put(name, group)
        matrix.told.renamed += [f"the attribute {item!r} is {group.place(item)}" for item in group.names()]
    return root


def refused(where: Path | str, what: object, advice: str) -> WorkerError:
    """Return the error for a foreign file that cannot be read."""
    name = where.name if isinstance(where, Path) else where
    return WorkerError(ErrorCode.EXPERIMENT_UNREADABLE, f"{name}: {what}; {advice}.")


def check_lengths(where: str, names: Sequence[tuple[str, int, int]]) -> None:
    """Refuse a matrix whose names are not as many as its rows and columns.

    Parameters
    ----------
    names
        Of each list of names: what it is, its length, and what the matrix says.
    """
    for what, found, expected in names:
        if found != expected:
            raise refused(
                where, f"{found:,} {what} for {expected:,} in the matrix",
                "the files do not belong together or are cut short: copy all of them here again",
            )  # fmt: skip
