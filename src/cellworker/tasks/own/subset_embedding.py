"""GetSubsetEmbedding: a map of some of the cells."""

from typing import Any, Literal

import numpy as np
from msgspec import field

from cellworker.experiment.bitmaps import is_bitmap
from cellworker.experiment.model import Experiment
from cellworker.protocol.columns import ColumnTable, Numbers
from cellworker.protocol.validation import Text
from cellworker.tasks.common.cell_columns import by_cell_id
from cellworker.tasks.common.examples import UI_LAYOUT
from cellworker.tasks.common.groupings import cells_key
from cellworker.tasks.common.layouts import check_config, lay_out_tsne, lay_out_umap
from cellworker.tasks.common.subsets import Space, subset_of
from cellworker.tasks.common.table_frames import column_tables
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["SUBSET_EMBEDDING"]


class SubsetEmbeddingBody(Space, kw_only=True):
    """GetSubsetEmbedding. `cellSet`: key of a cell set, a class or a selection; `config` as for GetEmbedding."""

    cell_set: Text = field(name="cellSet")
    type: Literal["umap", "tsne", "pca"]
    config: dict[str, Any] | None = None


class SubsetEmbeddingRequest(Space, kw_only=True):
    """``getSubsetEmbedding``. `cells`: a bitmap or ranges."""

    cells: str
    type: Literal["umap", "tsne", "pca"]
    config: dict[str, Any] | None = None


def prepare(given: PrepareInput) -> SubsetEmbeddingRequest:
    """Check the configuration, and turn the key into cells."""
    body: SubsetEmbeddingBody = given.body
    check_config(body.type, body.config or {})
    return SubsetEmbeddingRequest(
        components=body.components, n_genes=body.n_genes, n_components=body.n_components,
        cells=cells_key(body.cell_set, given.cell_sets, "body.cellSet"), type=body.type, config=body.config or {},
    )  # fmt: skip


def names_sets(body: SubsetEmbeddingBody) -> bool:
    """Return whether the key is the name of a set."""
    return not is_bitmap(body.cell_set)


def compute(experiment: Experiment, request: SubsetEmbeddingRequest, context: Context) -> ColumnTable:
    """Return the subset's coordinates by cell id, missing for all other cells.

    Raises
    ------
    WorkerError
        As `subset_of`; ``INVALID_INPUT`` when the perplexity is too large for the cells.
    """
    config = request.config or {}
    check_config(request.type, config)
    subset, rows = subset_of(experiment, request.cells, request, context)
    if request.type == "pca":
        places = next(iter(subset.reductions.values())).values[:, :2].astype(np.float32)
    else:
        places = (lay_out_umap if request.type == "umap" else lay_out_tsne)(subset, config, context)
    spread = np.full((2, experiment.n_cells), np.nan, np.float32)
    spread[:, rows] = places.T
    columns = {name: Numbers(by_cell_id(experiment, spread[i], np.nan)) for i, name in enumerate("xy")}
    return ColumnTable(columns, {"byCell": True, "type": request.type, "components": request.components})


SUBSET_EMBEDDING = Task(
    name="GetSubsetEmbedding",
    path="getSubsetEmbedding",
    about="a UMAP, t-SNE or principal components of some of the cells",
    example=lambda parts: {"cellSet": parts.first_cluster, "type": "umap", "config": UI_LAYOUT},
    ours=True,
    body=SubsetEmbeddingBody,
    request=SubsetEmbeddingRequest,
    prepare=prepare,
    compute=compute,
    columns=compute,
    lane="long",
    needs_cell_sets=True,
    cell_sets_only_if=names_sets,
    to_tables=column_tables,
)
