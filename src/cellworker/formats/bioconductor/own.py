"""The list ``metadata(x)$cellworker`` of a SingleCellExperiment: parts for which the class has no place."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.draft import SparseDraft
from cellworker.experiment.model import Categorical, Experiment, Misc, TissueImage
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.marks import mark_of
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.r.rds import build
from cellworker.formats.r.rds.model import RValue, RVector
from cellworker.formats.r.values import dim, named, number, slot, string_list, text
from cellworker.formats.seurat.read.images import read_own_images
from cellworker.formats.seurat.read.parts import read_graphs

__all__ = ["KEY", "Own", "own_of", "own_parts"]

KEY = "cellworker"


class Own:
    """The notes of cellworker in its own files; every part is None or empty where a file lacks it.

    Parameters
    ----------
    value
        The list.
    n_cells, n_genes
        The limits of indices.
    """

    def __init__(self, value: RValue | None, n_cells: int, n_genes: int) -> None:
        self._items = dict(named(value))
        self._n_cells, self._n_genes = n_cells, n_genes

    def identities(self) -> Categorical | None:
        """Return each cell's identity."""
        value = self._items.get("identities")
        levels = [level or "NA" for level in string_list(slot(value, "levels"))]
        if not isinstance(value, RVector) or value.kind != "integer" or len(value) != self._n_cells or not levels:
            return None
        inside = (value.values >= 1) & (value.values <= len(levels))
        return Categorical(np.where(inside, value.values - 1, -1).astype(np.int32), levels)

    def graphs(self, cells: list[str], findings: Findings, scratch: Scratch) -> dict[str, SparseDraft]:
        """Return the graphs of the cells."""
        return read_graphs(self._items.get("graphs"), cells, findings, scratch)

    def mark(self, what: Literal["counts", "data"]) -> str:
        """Return the mark of the matrix that was written as counts, or as normalised values; "" where none was."""
        return text(dict(named(self._items.get("matrices"))).get(what))

    def images(self) -> dict[str, TissueImage]:
        """Return where the cells are on images."""
        return read_own_images(self._items.get("images"), self._n_cells)

    def scaled(self) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
        """Return positions of genes, and their scaled values ``(n_cells, k)``."""
        genes, values = self._items.get("scaled_genes"), self._items.get("scaled")
        shape = dim(values)
        if not isinstance(genes, RVector) or not isinstance(values, RVector) or shape != (len(genes), self._n_cells):
            return None
        places = genes.values.astype(np.int64) - 1
        if genes.kind != "integer" or values.kind != "double" or len(values) != shape[0] * shape[1] or not len(places):
            return None
        if places.min() < 0 or places.max() >= self._n_genes:
            return None
        return places.astype(np.int32), values.values.reshape(shape[1], shape[0]).astype(np.float32)

    def key_of(self, reduction: str) -> str:
        """Return how the names of a reduction's dimensions begin; "" where that is not known."""
        return text(dict(named(self._items.get("reduction_keys"))).get(reduction))

    def misc(self, chosen: Misc) -> Misc:
        """Return the facts about the experiment, those in `chosen` where the file has none."""
        pcs, microns = number(self._items.get("num_pcs")), number(self._items.get("microns_per_pixel"))
        colors = [color for color in string_list(self._items.get("color_pool")) if color]
        return Misc(
            color_pool=colors or chosen.color_pool,
            num_pcs=int(pcs) if pcs is not None and 1 <= pcs <= 10_000 else chosen.num_pcs,
            active_reduction=chosen.active_reduction,
            default_reduction=chosen.default_reduction,
            technology=text(self._items.get("technology")),
            microns_per_pixel=microns,
            experiment_id=text(self._items.get("experiment_id")),
            ingestion_date=text(self._items.get("ingestion_date")),
        )

    @property
    def active_reduction(self) -> str:
        """The reduction that new clusters and maps start from; "" where that is not known."""
        return text(self._items.get("active_reduction"))


def own_of(metadata: RValue | None, n_cells: int, n_genes: int) -> Own:
    """Return what cellworker left in an object's list."""
    return Own(dict(named(metadata)).get(KEY), n_cells, n_genes)


def own_parts(experiment: Experiment, identities: Categorical | None, keys: Mapping[str, str]) -> RValue:
    """Return the list for an experiment; `keys` are how the dimensions of the reductions begin."""
    misc = experiment.misc
    out: dict[str, RValue] = {
        "color_pool": build.strings(misc.color_pool),
        "active_reduction": build.strings(misc.active_reduction),
        "num_pcs": build.integers([misc.num_pcs]),
    }
    if keys:
        out["reduction_keys"] = build.named_list({name: build.strings(key) for name, key in keys.items()})
    texts = {
        "technology": misc.technology, "experiment_id": misc.experiment_id, "ingestion_date": misc.ingestion_date
    }  # fmt: skip
    out |= {name: build.strings(value) for name, value in texts.items() if value}
    if misc.microns_per_pixel is not None:
        out["microns_per_pixel"] = build.doubles([misc.microns_per_pixel])
    if identities is not None:
        out["identities"] = build.factor(identities.codes, identities.categories)
    if experiment.scaled is not None:
        out["scaled_genes"] = build.integers(experiment.scaled.genes + 1)
        out["scaled"] = build.matrix(experiment.scaled.values.T)
    # Values alone do not always say what they are: there may be normalised ones below 0, or none at all.
    marks = {"data": build.strings(mark_of(experiment.data_by_cell.values))}
    if experiment.counts is not None:
        marks["counts"] = build.strings(mark_of(experiment.counts.values))
    out["matrices"] = build.named_list(marks)
    return build.named_list(out)
