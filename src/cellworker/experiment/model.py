"""An open experiment: cells, genes, matrices and reductions, as mapped arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.count_layers import CountLayers
from cellworker.experiment.metadata_columns import Categorical, Column, labels_of

__all__ = [
    "Categorical",
    "CellMajor",
    "Column",
    "Experiment",
    "GeneMajor",
    "Genes",
    "Graph",
    "Reduction",
    "ScaledData",
    "StoredTable",
    "StrangeCounts",
    "TissueImage",
    "labels_of",
]


@dataclass(frozen=True, slots=True)
class CellMajor:
    """A sparse matrix, cell-major (compressed rows of cells x genes).

    Attributes
    ----------
    indptr
        int64 ``(n_cells + 1,)``.
    genes
        int32 or uint16 ``(nnz,)``, ascending within a cell.
    values
        float32 or unsigned integers ``(nnz,)``; no stored zeros. The normalised expression of a store may be
        `ToldValues`, which have a length and a type but hold no array: slices, `numpy.asarray` and the bindings of
        kernels make arrays of them.
    n_genes
        Width of the matrix.
    """

    indptr: NDArray[np.int64]
    genes: NDArray[np.int32] | NDArray[np.uint16]
    values: NDArray[Any]
    n_genes: int

    @property
    def n_cells(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1


@dataclass(frozen=True, slots=True)
class GeneMajor:
    """A sparse matrix, gene-major, each gene's stored values ascending.

    The order of a gene's values does not depend on any grouping of the cells, so every rank test, quantile, minimum and
    maximum is one linear scan or a lookup.

    Attributes
    ----------
    indptr
        int64 ``(n_genes + 1,)``.
    cells
        int32 ``(nnz,)``: row numbers, in the order of the values (ties by ascending cell).
    values
        float32 ``(nnz,)``, ascending within a gene; no stored zeros; NaN, if any, last.
    n_cells
        Number of cells, stored or not.
    """

    indptr: NDArray[np.int64]
    cells: NDArray[np.int32]
    values: NDArray[np.float32]
    n_cells: int

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return len(self.indptr) - 1

    def gene(self, position: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the cells that express a gene and their values, ascending by value; views, not copies."""
        start, end = int(self.indptr[position]), int(self.indptr[position + 1])
        return self.cells[start:end], self.values[start:end]

    def dense(self, position: int) -> NDArray[np.float32]:
        """Return one gene's values for every cell, float32 ``(n_cells,)``."""
        out = np.zeros(self.n_cells, np.float32)
        cells, values = self.gene(position)
        out[cells] = values
        return out


@dataclass(frozen=True, slots=True)
class ScaledData:
    """Scaled expression of some genes.

    `genes`, int32 ``(k,)``, are positions in the experiment's genes; `values` are float32 ``(n_cells, k)``.
    """

    genes: NDArray[np.int32]
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Reduction:
    """A dimensional reduction: float64 ``(n_cells, n_dims)``, NaN for cells that it does not cover.

    `key` is Seurat's prefix of the column names.
    """

    values: NDArray[np.float64]
    key: str = ""


@dataclass(frozen=True, slots=True)
class TissueImage:
    """The cells' places on an image of a tissue.

    Attributes
    ----------
    cells
        int32 ``(n_points,)``: row of each point's cell; a cell with an outline has a point for each vertex.
    points
        float64 ``(n_points, 2)``: x (to the right) and y (downwards), in pixels of the full image or in the
        technology's own unit.
    scale
        Factor that converts the points to what clients draw: pixels of the object's image.
    pixels
        uint8 ``(height, width, 3)``: red, green and blue of that image; None where the object has no image.
    """

    cells: NDArray[np.int32]
    points: NDArray[np.float64]
    scale: float = 1.0
    pixels: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """A cell-cell graph, compressed rows: int64 ``(n_cells + 1,)``, int32 ``(nnz,)``, float32 ``(nnz,)``."""

    indptr: NDArray[np.int64]
    cells: NDArray[np.int32]
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StoredTable:
    """A result that the file holds, as a table.

    Attributes
    ----------
    source
        Its place in the file: ``uns/rank_genes_groups``, ``misc/markers``.
    kind
        "tests" for scanpy's tests of genes (one row per gene and group), "table", "list" (one column), or "values"
        (names and values).
    columns
        Columns of one length, by name, in order.
    parameters
        The file's own notes on how it was made, as text by name.
    """

    source: str
    kind: str
    columns: dict[str, Column]
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Length of the columns."""
        for column in self.columns.values():
            return len(column.codes if isinstance(column, Categorical) else column)
        return 0


@dataclass(frozen=True)
class Genes:
    """Names of the genes, in matrix order.

    Attributes
    ----------
    ids
        The assay's feature ids (the original's ``input``).
    names
        Unique display names (``name``).
    original_names
        The file's symbols, possibly repeated or empty (``original_name``).
    """

    ids: list[str]
    names: list[str]
    original_names: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def by_id(self) -> dict[str, int]:
        """Position of each feature id."""
        return {gene: i for i, gene in enumerate(self.ids)}

    @cached_property
    def by_name(self) -> dict[str, int]:
        """Position of the first gene of each display name, case-sensitive."""
        out: dict[str, int] = {}
        for i, name in enumerate(self.names):
            out.setdefault(name, i)
        return out

    @cached_property
    def by_upper_name(self) -> dict[str, list[int]]:
        """Positions of the genes of each display name in upper case."""
        out: dict[str, list[int]] = {}
        for i, name in enumerate(self.names):
            out.setdefault(name.upper(), []).append(i)
        return out


@dataclass(frozen=True, slots=True)
class StrangeCounts:
    """Numbers of counts that are below 0, that are missing or infinite, and that are not whole."""

    negative: int = 0
    missing: int = 0
    fractional: int = 0


class Experiment:
    """An open experiment. Large arrays are mapped from the store and shared between processes.

    The store's subclass reads each part when it is first used; tests build it from plain arrays.
    """

    key: str
    """SHA-256 of the source's content, in hex."""
    data: GeneMajor
    """Log-normalised expression, gene-major."""
    data_by_cell: CellMajor
    """The same, cell-major."""
    counts: CellMajor | None
    """Raw counts; None where the object has none."""
    scaled: ScaledData | None
    genes: Genes
    barcodes: list[str]
    identities: Categorical | None = None
    """Seurat's active identities."""
    cell_ids: NDArray[np.int32]
    """The platform's ids, int32 ``(n_cells,)``, unique, not contiguous, in matrix order."""
    metadata: Mapping[str, Column]
    reductions: Mapping[str, Reduction]
    graphs: Mapping[str, Graph]
    images: Mapping[str, TissueImage]
    """In the object's order; empty where it has none."""
    stored: Mapping[str, StoredTable] = MappingProxyType({})
    """Results that the file holds, by name, in the file's order."""
    colors: Mapping[str, list[str]] = MappingProxyType({})
    """The file's own colours (``#rrggbb``) of the labels of metadata columns, by column."""
    dispersions: "Dispersions | None"
    misc: "Misc"
    origin: "Origin"
    store: Path | None = None
    """The mapped file of the experiment; None for one made in memory."""

    @property
    def object_name(self) -> str:
        """The name of the object in the source file; "" where the file holds one without a name."""
        return ""

    @property
    def source_sha256(self) -> str:
        """SHA-256 of the source file, in hex; `key` may also cover files beside it."""
        return self.key

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.cell_ids)

    @property
    def samples(self) -> tuple[str, Categorical] | None:
        """The sample column: its name, and each cell's sample."""
        chosen = self.origin.columns.get("samples")
        for name in [chosen] if chosen is not None else ["samples", "orig.ident"]:
            labels = labels_of(self.metadata.get(name))
            if labels is not None:
                return name, labels
        return None

    @cached_property
    def strange_counts(self) -> StrangeCounts:
        """Number of raw counts that are not whole."""
        if self.counts is None or self.counts.values.dtype.kind == "u":
            return StrangeCounts()
        values = self.counts.values
        known = np.isfinite(values)
        whole = values == np.floor(values)
        return StrangeCounts(int((values < 0).sum()), int((~known).sum()), int((known & ~whole).sum()))

    @cached_property
    def max_cell_id(self) -> int:
        """Largest cell id; by-cell vectors have one entry more than this."""
        return int(self.cell_ids.max()) if len(self.cell_ids) else -1

    @cached_property
    def position_of_id(self) -> NDArray[np.int32]:
        """int32 ``(max_cell_id + 1,)``: row of each cell id, -1 where the cell was filtered out."""
        out = np.full(self.max_cell_id + 1, -1, np.int32)
        out[self.cell_ids] = np.arange(self.n_cells, dtype=np.int32)
        return out

    def positions(self, cell_ids: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """Return the rows of cell ids, int32 of the same length, -1 for ids that are not in the object."""
        ids = np.asarray(cell_ids)
        known = (ids >= 0) & (ids <= self.max_cell_id)
        out = np.full(len(ids), -1, np.int32)
        out[known] = self.position_of_id[ids[known]]
        return out

    def by_cell_id(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Spread one value per cell over a vector by cell id: float64 ``(max_cell_id + 1,)``, NaN in the gaps."""
        out = np.full(self.max_cell_id + 1, np.nan)
        out[self.cell_ids] = values
        return out


@dataclass(frozen=True, slots=True)
class Dispersions:
    """The gene-variability table (``misc$gene_dispersion``): one row per gene, in the table's order."""

    names: list[str]
    ids: list[str]
    dispersions: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Misc:
    """The ``misc`` slots of contract 6.2, with the original's defaults."""

    color_pool: list[str] = field(default_factory=list)
    num_pcs: int = 30
    active_reduction: str = "pca"
    default_reduction: str = ""
    """The reduction that Seurat would plot by default (umap, else tsne, else pca), empty if none."""
    technology: str = ""
    microns_per_pixel: float | None = None
    experiment_id: str = ""
    ingestion_date: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """The source of an experiment, for `cellworker check` and the logs."""

    kind: Literal["platform", "own"]
    """"platform" if the object has the platform's cell ids and gene annotations."""
    writer: str = ""
    """For example "Seurat 5.0.2"."""
    assay: str = "RNA"
    assay_class: str = ""
    fallbacks: list[str] = field(default_factory=list)
    """One sentence for each missing part and its replacement."""
    columns: dict[str, str] = field(default_factory=dict)
    """By the platform's name of a column (``samples``, ``nCount_RNA``, ...): the metadata column that holds it, empty
    where none does."""
    reasons: dict[str, str] = field(default_factory=dict)
    """The reason for each choice, or why there is none."""
    count_layers: CountLayers | None = None
    """How the file splits the counts by cells, if it does."""

    @property
    def family(self) -> Literal["AnnData", "SummarizedExperiment", "Seurat"]:
        """The kind of object in the file."""
        if self.assay_class == "AnnData":
            return "AnnData"
        return "SummarizedExperiment" if self.assay_class == "SummarizedExperiment" else "Seurat"

    @property
    def table(self) -> str:
        """The name that this kind of object has for its table of cells."""
        return {"AnnData": "obs", "SummarizedExperiment": "colData", "Seurat": "meta.data"}[self.family]
