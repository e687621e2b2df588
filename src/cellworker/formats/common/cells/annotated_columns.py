"""Cell sets as columns of cell metadata, under the names that the annotated object of the platform has (contract 5.21).

====================  ================================================================================================
``samples``           the sample's name of every cell; where ``samples`` held ids, they go to ``sample_ids``
``seurat_clusters``   the clusters' names, in the order of the class
``custom_cellset-X``  true for the cells of the custom set X
*class name*          the set's name, for every further class: metadata tracks, cell-level metadata, annotations
====================  ================================================================================================
"""

from dataclasses import dataclass, field

import numpy as np

from cellworker.experiment.cell_sets import CellClass, CellSets
from cellworker.experiment.model import Categorical, Column, Experiment

__all__ = ["Annotated", "annotated_columns", "same_column"]


@dataclass(slots=True)
class Annotated:
    """Columns for every cell, in matrix order.

    Attributes
    ----------
    columns
        The experiment's metadata with what the cell sets add to it.
    colors
        Colours of the labels of a column, one for each category.
    clusters
        The name of the column that holds the clusters; empty where there are none.
    identities
        Labels that become Seurat's active identities; None leaves those of the experiment.
    new
        Names of columns that the cell sets add, or say otherwise than the experiment's metadata.
    added, renamed, lost
        Descriptions of the changes.
    """

    columns: dict[str, Column]
    colors: dict[str, list[str]] = field(default_factory=dict)
    clusters: str = ""
    identities: Categorical | None = None
    new: set[str] = field(default_factory=set)
    added: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def annotated_columns(experiment: Experiment, cell_sets: CellSets | None) -> Annotated:
    """Join the cell sets to the metadata by cell id; cells in no set of a class have no label there.

    Parameters
    ----------
    cell_sets
        None for an experiment whose sets were derived from its metadata, which then says everything already.
    """
    out = Annotated(dict(experiment.metadata))
    if cell_sets is None:
        return out
    for item in cell_sets.classes:
        if item.key == "scratchpad":
            _add_custom(experiment, item, out)
            continue
        in_use = item is cell_sets.clusters
        if item.column in experiment.metadata:  # it says what the file says
            out.clusters = item.column if in_use else out.clusters
            continue
        labels = _labels(experiment, item, out)
        name = "seurat_clusters" if in_use else "samples" if item.key == "sample" else item.name or item.key
        before = out.columns.get(name)
        if item.key == "sample" and isinstance(before, Categorical) and before.categories != labels.categories:
            out.columns["sample_ids"] = before
            out.renamed.append("samples: names instead of ids, which are in sample_ids")
        out.columns[name] = labels
        if all(child.color for child in item.children):
            out.colors[name] = [child.color or "" for child in item.children]
        if in_use:
            out.clusters = name
        out.added.append(f"{name} ({len(item.children)} sets)")
    had = experiment.metadata
    out.new = {name for name, column in out.columns.items() if name not in had or not same_column(column, had[name])}
    return out


def _labels(experiment: Experiment, item: CellClass, out: Annotated) -> Categorical:
    codes = np.full(experiment.n_cells, -1, np.int32)
    names: list[str] = []
    repeated = 0
    for number, child in enumerate(item.children):
        cells = experiment.positions(child.cell_ids)
        cells = cells[cells >= 0]
        repeated += int((codes[cells] >= 0).sum())
        codes[cells[codes[cells] < 0]] = number
        names.append(_free(child.name, names))
    if repeated:
        out.lost.append(f"cell sets {item.name}: {repeated} cells are in several and have the first one's name only")
    return Categorical(codes, names)


def _add_custom(experiment: Experiment, item: CellClass, out: Annotated) -> None:
    for child in item.children:
        cells = experiment.positions(child.cell_ids)
        inside = np.zeros(experiment.n_cells, np.bool_)
        inside[cells[cells >= 0]] = True
        name, number = f"custom_cellset-{child.name}", 2
        # A file that was annotated before has the column already.
        while name in out.columns and not same_column(out.columns[name], inside):
            name, number = f"custom_cellset-{child.name} ({number})", number + 1
        out.columns[name] = inside
        out.added.append(name)


def same_column(one: Column | None, other: Column) -> bool:
    """Return whether two columns say the same."""
    if one is other:
        return True
    if isinstance(one, Categorical) and isinstance(other, Categorical):
        return one.categories == other.categories and np.array_equal(one.codes, other.codes)
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray) or one.dtype != other.dtype:
        return False
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _free(name: str, taken: list[str]) -> str:
    free, number = name, 2
    while free in taken:
        free, number = f"{name} ({number})", number + 1
    return free
