"""Writes an experiment as AnnData, streaming, in the form that scanpy, other tools of scverse and our reader expect.

====================  ==========================================================================================
``X``                 log-normalised expression, compressed rows
``layers["counts"]``  raw counts
``obs``               barcodes; ``cells_id``, metadata, and the cell sets as columns
``var``               unique gene names; ``gene_ids``, ``gene_symbols`` (as they came), ``dispersion``
``obsm``, ``obsp``    ``X_<reduction>``, ``spatial``, ``scaled``; graphs
``uns``               ``<column>_colors``; ``cellworker``: what AnnData has no place for
====================  ==========================================================================================
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import Experiment, Reduction
from cellworker.formats.anndata.columns_out import ARRAY, DICT, TEXT, TEXTS, ColumnOut, write_column
from cellworker.formats.anndata.containers.sink import Sink
from cellworker.formats.anndata.leaves import Leaves
from cellworker.formats.common.cells.annotated_columns import Annotated
from cellworker.formats.common.matrices.marks import mark_of
from cellworker.version import __version__

__all__ = ["IMAGES", "SCALED", "SCALED_GENES", "Beside", "Writer", "write_anndata"]

SCALED = "scaled"
SCALED_GENES = "uns/cellworker/scaled_genes"

IMAGES = "uns/cellworker/images"
_AS_NAMED = ("spatial",)
"""Members of ``obsm`` that scverse knows without ``X_`` before their name."""


@dataclass(slots=True)
class Beside:
    """Parts of a source beyond an experiment that have a place in AnnData.

    Attributes
    ----------
    obs, var
        Columns that say more than the experiment's of the same names, and further ones.
    varm, obsp
        Arrays of all genes; graphs with the values of the source.
    tables
        Data frames of all cells, for ``obsm``.
    layers
        Matrices of all cells and genes: bounds, genes, values.
    rest
        Writes what goes to ``uns``.
    """

    obs: dict[str, ColumnOut] = field(default_factory=dict)
    var: dict[str, ColumnOut] = field(default_factory=dict)
    varm: dict[str, NDArray[Any]] = field(default_factory=dict)
    obsp: dict[str, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = field(default_factory=dict)
    tables: dict[str, dict[str, ColumnOut]] = field(default_factory=dict)
    rest: Callable[["Writer"], None] = field(default=lambda _: None)


def write_anndata(
    experiment: Experiment,
    annotated: Annotated,
    sink: Sink,
    *,
    reductions: Mapping[str, Reduction],
    progress: Callable[[str, float | None], None],
    beside: Beside | None = None,
) -> list[str]:
    """Write everything that AnnData has a place for.

    Parameters
    ----------
    annotated
        The columns of ``obs``.
    reductions
        The entries of ``obsm``, by the name without ``X_``.
    progress
        Called with the stage and the fraction done; raising stops the writing.
    beside
        The source's parts beyond the experiment.

    Returns
    -------
    What had to be renamed, in words.
    """
    beside = beside or Beside()
    writer = Writer(sink, progress, _values(experiment))
    sink.group("", {"encoding-type": "anndata", "encoding-version": "0.1.0"})
    marks = _matrices(writer, experiment)
    names = writer.table("obs", experiment.barcodes, _obs(experiment, annotated, beside))
    writer.table("var", experiment.genes.names, _var(experiment, beside))
    keys = _obsm(writer, experiment, reductions, beside)
    sink.group("varm", DICT)
    for name, values in beside.varm.items():
        writer.dense(f"varm/{writer.leaves.free('varm', name)}", values, np.float64)
    sink.group("varp", DICT)
    sink.group("obsp", DICT)
    shape = (experiment.n_cells, experiment.n_cells)
    for name, graph in experiment.graphs.items():
        place = f"obsp/{writer.leaves.free('obsp', name)}"
        exact = beside.obsp.get(name)
        if exact is None:
            writer.sparse(place, shape, (graph.indptr, graph.cells, graph.weights), np.float32)
        else:
            writer.sparse(place, shape, exact, np.float64)
    sink.group("uns", DICT)
    writer.leaves.take("uns", ["cellworker", "seurat"])
    for name, colors in annotated.colors.items():
        if name in names:
            sink.texts(f"uns/{writer.leaves.free('uns', f'{names[name]}_colors')}", colors, TEXTS)
    sink.group("uns/cellworker", DICT)
    sink.scalar("uns/cellworker/version", __version__, TEXT)
    sink.group("uns/cellworker/matrices", DICT)
    for name, mark in marks.items():
        sink.scalar(f"uns/cellworker/matrices/{name}", mark, TEXT)
    if experiment.scaled is not None:
        writer.dense(SCALED_GENES, np.asarray(experiment.scaled.genes), np.int32)
    sink.group("uns/cellworker/reduction_keys", DICT)
    for leaf, key in keys.items():
        sink.scalar(f"uns/cellworker/reduction_keys/{leaf}", key, TEXT)
    _write_misc(experiment, sink)
    _write_images(experiment, writer)
    beside.rest(writer)
    return writer.leaves.renamed


def _matrices(writer: "Writer", experiment: Experiment) -> dict[str, str]:
    """Write the values and the counts; return the marks that tell later that they are unchanged."""
    shape = (experiment.n_cells, len(experiment.genes))
    by_cell, counts = experiment.data_by_cell, experiment.counts
    writer.sparse("X", shape, (by_cell.indptr, by_cell.genes, by_cell.values), np.float32)
    marks = {"data": mark_of(by_cell.values)}
    writer.sink.group("layers", DICT)
    if counts is not None:
        # Small integers would overflow when a reader adds them up.
        small = counts.values.dtype.itemsize < 4 or counts.values.dtype == np.float32
        wide = np.int64 if counts.values.dtype == np.int64 else np.float64
        dtype = np.float32 if small else wide
        writer.sparse("layers/counts", shape, (counts.indptr, counts.genes, counts.values), dtype)
        marks["counts"] = mark_of(counts.values)
    return marks


def _obs(experiment: Experiment, annotated: Annotated, beside: Beside) -> dict[str, ColumnOut]:
    ids = np.asarray(experiment.cell_ids)
    columns: dict[str, ColumnOut] = {} if "cells_id" in annotated.columns else {"cells_id": ids}
    columns |= {**annotated.columns, **beside.obs}
    columns["cells_id"] = ids  # where the source has it
    if experiment.identities is not None:
        columns.setdefault("seurat_identity", experiment.identities)
    return columns


def _var(experiment: Experiment, beside: Beside) -> dict[str, ColumnOut]:
    genes = experiment.genes
    about: dict[str, ColumnOut] = {"gene_ids": genes.ids, "gene_symbols": genes.original_names}
    if experiment.dispersions is not None:
        about["dispersion"] = _dispersions(experiment)
    return {**beside.var, **about}


def _obsm(
    writer: "Writer", experiment: Experiment, reductions: Mapping[str, Reduction], beside: Beside
) -> dict[str, str]:
    writer.sink.group("obsm", DICT)
    keys = {}
    if experiment.scaled is not None:
        writer.leaves.take("obsm", [SCALED])
    for name, reduction in reductions.items():
        leaf = writer.leaves.free("obsm", name if name in _AS_NAMED else f"X_{name}")
        keys[leaf] = reduction.key
        writer.dense(f"obsm/{leaf}", reduction.values, np.float64)
    if experiment.scaled is not None:
        writer.dense(f"obsm/{SCALED}", experiment.scaled.values, np.float32)
    for name, columns in beside.tables.items():
        writer.table(f"obsm/{writer.leaves.free('obsm', name)}", experiment.barcodes, columns)
    return keys


def _write_images(experiment: Experiment, writer: "Writer") -> None:
    """Write where the cells are on images, in the form in which cellworker reads them again."""
    if not experiment.images:
        return
    writer.sink.group(IMAGES, DICT)
    for number, (name, image) in enumerate(experiment.images.items()):
        place = f"{IMAGES}/{number}"
        writer.sink.group(place, DICT)
        writer.sink.scalar(f"{place}/name", name, TEXT)
        writer.dense(f"{place}/cells", image.cells, np.int32)
        writer.dense(f"{place}/points", image.points, np.float64)
        writer.dense(f"{place}/scale", np.array([image.scale]), np.float64)
        if image.pixels is not None:
            writer.dense(f"{place}/pixels", image.pixels, np.uint8)


def _values(experiment: Experiment) -> int:
    counted = len(experiment.counts.values) if experiment.counts is not None else 0
    return 2 * len(experiment.data_by_cell.values) + 2 * counted


def _dispersions(experiment: Experiment) -> NDArray[np.float64]:
    """Return one value per gene in matrix order, NaN for genes that the table does not list."""
    table = experiment.dispersions
    assert table is not None
    out = np.full(len(experiment.genes), np.nan)
    places = [experiment.genes.by_id.get(gene, -1) for gene in table.ids]
    rows = np.array(places, np.int64)
    out[rows[rows >= 0]] = np.asarray(table.dispersions)[rows >= 0]
    return out


def _write_misc(experiment: Experiment, sink: Sink) -> None:
    misc = experiment.misc
    sink.group("uns/cellworker/misc", DICT)
    sink.texts("uns/cellworker/misc/color_pool", misc.color_pool, TEXTS)
    texts = {
        "active_reduction": misc.active_reduction, "num_pcs": str(misc.num_pcs), "technology": misc.technology,
        "microns_per_pixel": "" if misc.microns_per_pixel is None else repr(misc.microns_per_pixel),
        "experiment_id": misc.experiment_id, "ingestion_date": misc.ingestion_date,
    }  # fmt: skip
    for name, text in texts.items():
        if text:
            sink.scalar(f"uns/cellworker/misc/{name}", text, TEXT)


@dataclass(slots=True)
class Writer:
    """Writes the parts of an experiment into a sink.

    Attributes
    ----------
    sink, progress
        The destination, and the progress callback.
    total, done
        Values to write, and written.
    leaves
        Gives out names.
    """

    sink: Sink
    progress: Callable[[str, float | None], None]
    total: int
    leaves: Leaves = field(default_factory=Leaves)
    done: int = 0

    def sparse(
        self,
        path: str,
        shape: tuple[int, int],
        parts: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
        dtype: Any,  # noqa: ANN401
    ) -> None:
        """Write compressed rows: bounds, columns, values."""
        indptr, indices, values = parts
        size = np.array(shape, np.int64)
        about = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": size.tolist()}
        self.sink.group(path, about)
        self.dense(f"{path}/data", values, dtype, {})
        self.dense(f"{path}/indices", indices, np.int32, {})
        # scipy makes both index arrays as wide as the wider one.
        width = np.int32 if len(values) < 2**31 else np.int64
        self.dense(f"{path}/indptr", indptr, width, {})

    def dense(self, path: str, values: NDArray[Any], dtype: Any, attrs: Mapping[str, Any] = ARRAY) -> None:  # noqa: ANN401
        """Write an array."""

        def rows(start: int, stop: int) -> NDArray[Any]:
            self.done += stop - start
            self.progress("writing", min(1.0, self.done / self.total) if self.total else None)
            return values[start:stop]

        self.sink.array(path, values.shape, dtype, rows, attrs)

    def table(self, path: str, index: Sequence[str], columns: Mapping[str, ColumnOut]) -> dict[str, str]:
        """Write a data frame; return the name under which each column went to the file."""
        leaves = {name: self.leaves.free(path, name) for name in columns}
        about = {"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"}
        self.sink.group(path, {**about, "column-order": list(leaves.values())})
        self.sink.texts(f"{path}/_index", index, TEXTS)
        for name, column in columns.items():
            write_column(self.sink, f"{path}/{leaves[name]}", column)
        return leaves
