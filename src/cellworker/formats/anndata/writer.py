"""An experiment as AnnData, streaming: what scanpy and the other tools of scverse expect, and what we read back.

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

from cellworker import __version__
from cellworker.experiment.model import Categorical, Column, Experiment, Reduction
from cellworker.formats.anndata.sink import Sink
from cellworker.formats.common.annotated_columns import Annotated

__all__ = ["SCALED", "SCALED_GENES", "write_anndata"]

SCALED = "scaled"
SCALED_GENES = "uns/cellworker/scaled_genes"

_DICT = {"encoding-type": "dict", "encoding-version": "0.1.0"}
_ARRAY = {"encoding-type": "array", "encoding-version": "0.2.0"}
_TEXTS = {"encoding-type": "string-array", "encoding-version": "0.2.0"}
_TEXT = {"encoding-type": "string", "encoding-version": "0.2.0"}
_AS_NAMED = ("spatial",)
"""Members of ``obsm`` that scverse knows without ``X_`` before their name."""


def write_anndata(
    experiment: Experiment,
    annotated: Annotated,
    sink: Sink,
    *,
    reductions: Mapping[str, Reduction],
    progress: Callable[[str, float | None], None],
) -> list[str]:
    """Write everything that AnnData has a place for.

    Parameters
    ----------
    annotated
        The columns of ``obs``.
    reductions
        What goes to ``obsm``, by the name without ``X_``.
    progress
        Told the stage and the fraction done; raising stops the writing.

    Returns
    -------
    What had to be renamed, in words.
    """
    writer = _Writer(sink, progress, _values(experiment))
    sink.group("", {"encoding-type": "anndata", "encoding-version": "0.1.0"})
    n_cells, n_genes = experiment.n_cells, len(experiment.genes)
    by_cell = experiment.data_by_cell
    writer.sparse("X", (n_cells, n_genes), (by_cell.indptr, by_cell.genes, by_cell.values), np.float32)
    sink.group("layers", _DICT)
    counts = experiment.counts
    if counts is not None:
        # Small integers would overflow in the hands of whoever adds them up.
        exact = counts.values.dtype.itemsize < 4 or counts.values.dtype.kind == "f"
        parts = (counts.indptr, counts.genes, counts.values)
        writer.sparse("layers/counts", (n_cells, n_genes), parts, np.float32 if exact else np.float64)
    columns: dict[str, Column | Sequence[str]] = {"cells_id": np.asarray(experiment.cell_ids)}
    columns |= {name: column for name, column in annotated.columns.items() if name != "cells_id"}
    if experiment.identities is not None:
        columns.setdefault("seurat_identity", experiment.identities)
    names = writer.table("obs", experiment.barcodes, columns)
    genes = experiment.genes
    about: dict[str, Column | Sequence[str]] = {"gene_ids": genes.ids, "gene_symbols": genes.original_names}
    if experiment.dispersions is not None:
        about["dispersion"] = _dispersions(experiment)
    writer.table("var", genes.names, about)
    sink.group("obsm", _DICT)
    keys = {}
    for name, reduction in reductions.items():
        leaf = writer.leaf("obsm", name if name in _AS_NAMED else f"X_{name}")
        keys[leaf] = reduction.key
        values = reduction.values
        writer.dense(f"obsm/{leaf}", values, np.float64)
    scaled = experiment.scaled
    if scaled is not None:
        writer.dense(f"obsm/{SCALED}", scaled.values, np.float32)
    for place in ("varm", "varp", "obsp"):
        sink.group(place, _DICT)
    for name, graph in experiment.graphs.items():
        place = f"obsp/{writer.leaf('obsp', name)}"
        writer.sparse(place, (n_cells, n_cells), (graph.indptr, graph.cells, graph.weights), np.float32)
    sink.group("uns", _DICT)
    for name, colors in annotated.colors.items():
        if name in names:
            sink.texts(f"uns/{names[name]}_colors", colors, _TEXTS)
    sink.group("uns/cellworker", _DICT)
    sink.scalar("uns/cellworker/version", __version__, _TEXT)
    if scaled is not None:
        writer.dense(SCALED_GENES, np.asarray(scaled.genes), np.int32)
    sink.group("uns/cellworker/reduction_keys", _DICT)
    for leaf, key in keys.items():
        sink.scalar(f"uns/cellworker/reduction_keys/{leaf}", key, _TEXT)
    _write_misc(experiment, sink)
    return writer.renamed


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
    sink.group("uns/cellworker/misc", _DICT)
    sink.texts("uns/cellworker/misc/color_pool", misc.color_pool, _TEXTS)
    texts = {
        "active_reduction": misc.active_reduction, "num_pcs": str(misc.num_pcs), "technology": misc.technology,
        "microns_per_pixel": "" if misc.microns_per_pixel is None else repr(misc.microns_per_pixel),
        "experiment_id": misc.experiment_id, "ingestion_date": misc.ingestion_date,
    }  # fmt: skip
    for name, text in texts.items():
        if text:
            sink.scalar(f"uns/cellworker/misc/{name}", text, _TEXT)


@dataclass(slots=True)
class _Writer:
    sink: Sink
    progress: Callable[[str, float | None], None]
    total: int
    renamed: list[str] = field(default_factory=list)
    done: int = 0
    taken: dict[str, set[str]] = field(default_factory=dict)

    def leaf(self, place: str, wanted: str) -> str:
        """Return a name that files and groups allow and that is free."""
        taken = self.taken.setdefault(place, {"_index"})
        name = wanted.replace("/", "_").replace("\\", "_").replace("\0", "")
        name = "_" + name if not name or name.startswith((".", "__")) else name
        free, number = name, 2
        while free in taken:
            free, number = f"{name}_{number}", number + 1
        taken.add(free)
        if free != wanted:
            self.renamed.append(f"{place}: {wanted!r} is {free!r}")
        return free

    def sparse(
        self,
        path: str,
        shape: tuple[int, int],
        parts: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
        dtype: Any,  # noqa: ANN401
    ) -> None:
        indptr, indices, values = parts
        size = np.array(shape, np.int64)
        about = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": size.tolist()}
        self.sink.group(path, about)
        self.dense(f"{path}/data", values, dtype, {})
        self.dense(f"{path}/indices", indices, np.int32, {})
        # scipy makes both index arrays as wide as the wider one.
        width = np.int32 if len(values) < 2**31 else np.int64
        self.dense(f"{path}/indptr", indptr, width, {})

    def dense(self, path: str, values: NDArray[Any], dtype: Any, attrs: Mapping[str, Any] = _ARRAY) -> None:  # noqa: ANN401
        def rows(start: int, stop: int) -> NDArray[Any]:
            self.done += stop - start
            self.progress("writing", min(1.0, self.done / self.total) if self.total else None)
            return values[start:stop]

        self.sink.array(path, values.shape, dtype, rows, attrs)

    def table(self, path: str, index: Sequence[str], columns: Mapping[str, Column | Sequence[str]]) -> dict[str, str]:
        """Write a data frame; return the name under which each column went to the file."""
        leaves = {name: self.leaf(path, name) for name in columns}
        about = {"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"}
        self.sink.group(path, {**about, "column-order": list(leaves.values())})
        self.sink.texts(f"{path}/_index", index, _TEXTS)
        for name, column in columns.items():
            place = f"{path}/{leaves[name]}"
            if isinstance(column, Categorical):
                about = {"encoding-type": "categorical", "encoding-version": "0.2.0"}
                self.sink.group(place, {**about, "ordered": False})
                self.sink.texts(f"{place}/categories", column.categories, _TEXTS)
                self.dense(f"{place}/codes", column.codes, np.int8 if len(column.categories) < 128 else np.int32)
            elif isinstance(column, np.ndarray):
                self.dense(place, column, column.dtype)
            else:
                self.sink.texts(place, column, _TEXTS)
        return leaves
