"""MarkerHeatmap and DotPlot (contract 5.8, 5.13): genes that distinguish cell sets, and their expression."""

from typing import Any

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from cellworker.analysis.statistics.dots import expm1_means, scale_dots
from cellworker.analysis.statistics.groups import Groups
from cellworker.analysis.statistics.markers import find_markers
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellClass, CellSets
from cellworker.experiment.model import Experiment
from cellworker.protocol.validation import Count, Positive, Text
from cellworker.tasks.common.compared_cells import check_values, listed_rows
from cellworker.tasks.common.requested_sets import RequestedClass, RequestedSet
from cellworker.tasks.common.sampling import like_the_original
from cellworker.tasks.common.sent_cells import sent_cells
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.common.tables import collation_key
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["DOT_PLOT", "MARKER_HEATMAP", "set_rows"]

_ORIGINAL_CAP = 1000
_MAX_DOTS = 200_000
"""Max dots of a plot; one with more can be neither drawn nor read."""
_MAX_GROUPS = 10_000


class MarkerHeatmapBody(Struct):
    """MarkerHeatmap."""

    n_genes: Positive = field(name="nGenes")
    selected_cell_set: Text = field(name="selectedCellSet")


class MarkerHeatmapRequest(Struct):
    """``runMarkerHeatmap``."""

    n_genes: Positive = field(name="nGenes")
    cell_sets: RequestedClass = field(name="cellSets")


class GroupFilter(Struct):
    """One group of a class, or "All"."""

    group: str = "All"
    key: str = "All"


class DotPlotBody(Struct):
    """DotPlot."""

    group_by: Text = field(name="groupBy")
    use_marker_genes: bool = field(name="useMarkerGenes", default=False)
    number_of_markers: Count = field(name="numberOfMarkers", default=3)
    custom_genes_list: list[str] | None = field(name="customGenesList", default=None)
    filter_by: GroupFilter = field(name="filterBy", default_factory=GroupFilter)


class DotPlotRequest(Struct):
    """``runDotPlot``. `filter_by` takes effect only with `apply_filter`."""

    group_by: RequestedClass = field(name="groupBy")
    use_marker_genes: bool = field(name="useMarkerGenes", default=False)
    number_of_markers: Count = field(name="numberOfMarkers", default=3)
    custom_genes_list: list[str] | str | None = field(name="customGenesList", default=None)
    filter_by: RequestedSet | None = field(name="filterBy", default=None)
    apply_filter: bool = field(name="applyFilter", default=False)


def _class_of(cell_sets: CellSets, key: str, what: str) -> CellClass:
    found = cell_sets.find_class(key)
    if found is None:
        known = ", ".join(item.key for item in cell_sets.classes)
        raise WorkerError(
            ErrorCode.INVALID_INPUT, f"{what}: the experiment has no class of cell sets {key!r}; it has {known}."
        )
    return found


def _requested(item: CellClass) -> RequestedClass:
    return RequestedClass([RequestedSet(child.name, sent_cells(child.cell_ids)) for child in item.children])


def set_rows(experiment: Experiment, wanted: RequestedClass) -> list[NDArray[np.int32]]:
    """Return the rows of each set, ascending."""
    return [listed_rows(experiment, child.cell_ids) for child in wanted.children]


def _top(experiment: Experiment, sets: list[NDArray[np.int32]], n: int, context: Context) -> list[NDArray[np.int64]]:
    if sum(len(rows) > 0 for rows in sets) < 2:
        raise WorkerError(
            ErrorCode.INVALID_INPUT, "Must have at least 2 groups defined: fewer than two of the cell sets have cells."
        )
    check_values(experiment)
    if context.like_original:
        sets = like_the_original(sets, _ORIGINAL_CAP)
    data = experiment.data
    return find_markers(
        (data.indptr, data.cells, data.values), sets, experiment.n_cells, n, original=context.like_original,
        threads=context.threads,
        on_progress=lambda fraction: context.progress("Comparing each cell set with the others", fraction),
    )  # fmt: skip


def prepare_heatmap(given: PrepareInput) -> MarkerHeatmapRequest:
    """Send the class with its cells."""
    body: MarkerHeatmapBody = given.body
    return MarkerHeatmapRequest(
        body.n_genes, _requested(_class_of(given.cell_sets, body.selected_cell_set, "selectedCellSet"))
    )


def compute_heatmap(experiment: Experiment, request: MarkerHeatmapRequest, context: Context) -> dict[str, Any]:
    """Return the names of the best markers, set by set."""
    chosen = _top(experiment, set_rows(experiment, request.cell_sets), request.n_genes, context)
    names = [experiment.genes.names[i] for genes in chosen for i in genes.tolist()]
    return {"orderedGeneNames": list(dict.fromkeys(names))}


def prepare_dots(given: PrepareInput) -> DotPlotRequest:
    """Send the class and, for a filtered plot, the set of the filter."""
    body: DotPlotBody = given.body
    group_by = _class_of(given.cell_sets, body.group_by, "groupBy")
    filtered = body.filter_by.group.lower() != "all"
    allowed: RequestedSet | None = None
    if filtered:
        parent = _class_of(given.cell_sets, body.filter_by.group, "filterBy.group")
        child = next((item for item in parent.children if item.key == body.filter_by.key), None)
        if child is None and given.cell_sets.class_of(body.filter_by.key) is parent:
            child = given.cell_sets.find_set(body.filter_by.key)
        if child is None:
            message = f"filterBy.key: the class {parent.key!r} has no set {body.filter_by.key!r}."
            raise WorkerError(ErrorCode.INVALID_INPUT, message)
        allowed = RequestedSet(child.name, sent_cells(child.cell_ids))
    return DotPlotRequest(
        group_by=_requested(group_by),
        use_marker_genes=body.use_marker_genes,
        number_of_markers=body.number_of_markers,
        custom_genes_list=body.custom_genes_list,
        filter_by=allowed,
        apply_filter=filtered,
    )


def compute_dots(experiment: Experiment, request: DotPlotRequest, context: Context) -> dict[str, Any] | list[Any]:
    """Return the average expression and share of cells per gene and group; ``[]`` when there is nothing to plot."""
    sets = set_rows(experiment, request.group_by)
    if request.apply_filter:
        cells = None if request.filter_by is None else request.filter_by.cell_ids
        allowed = listed_rows(experiment, cells)
        if not len(allowed):
            return []
        sets = [np.intersect1d(rows, allowed) for rows in sets]
    if not sets:
        return []
    genes = _dot_genes(experiment, request, sets, context)
    disjoint = _later_wins(sets, experiment.n_cells)
    names = _unique([child.name for child in request.group_by.children])
    present = [k for k, rows in enumerate(disjoint) if len(rows)]
    if not present:
        return []
    present.sort(key=lambda k: collation_key(names[k]))
    if len(present) > _MAX_GROUPS:
        message = f"groupBy: the plot would have {len(present)} groups, more than {_MAX_GROUPS}: choose another class."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    if len(present) * len(genes) > _MAX_DOTS:
        message = f"The plot would have {len(present) * len(genes)} dots, more than {_MAX_DOTS}: choose fewer genes."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    data = experiment.data
    groups = Groups.from_sets([disjoint[k] for k in present], experiment.n_cells)
    means, percent = expm1_means((data.indptr, data.cells, data.values), groups, genes, threads=context.threads)
    labels = [experiment.genes.names[i] for i in genes.tolist()]
    ordered = sorted(dict.fromkeys(labels), key=collation_key)
    place = {name: i for i, name in enumerate(ordered)}
    return {
        "cellSetsIdx": np.repeat(np.arange(len(present)), len(genes)),
        "geneNameIdx": np.tile(np.array([place[name] for name in labels], np.int64), len(present)),
        "avgExpression": scale_dots(means).ravel(),
        "cellsPercentage": percent.ravel(),
        "cellSetsNames": [names[k] for k in present],
        "geneNames": ordered,
    }


def _dot_genes(
    experiment: Experiment, request: DotPlotRequest, sets: list[NDArray[np.int32]], context: Context
) -> NDArray[np.int64]:
    if request.use_marker_genes:
        chosen = _top(experiment, sets, request.number_of_markers, context)
        genes = np.concatenate(chosen).astype(np.int64)
        if not len(genes):
            message = "No gene marks these groups: none is in at least 20 % of a group's cells and higher there."
            raise WorkerError(ErrorCode.R_WORKER_GENE_NOT_FOUND, message)
        return genes
    wanted = request.custom_genes_list or []
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if not wanted:
        raise WorkerError(ErrorCode.INVALID_INPUT, "customGenesList: give at least one gene, or use marker genes.")
    by_name = experiment.genes.by_upper_name
    found = sorted({position for name in wanted for position in by_name.get(name.upper(), ())})
    if not found:
        raise WorkerError(ErrorCode.R_WORKER_GENE_NOT_FOUND, f"Gene(s): {', '.join(wanted)} not found!")
    return np.array(found, np.int64)


def _later_wins(sets: list[NDArray[np.int32]], n_cells: int) -> list[NDArray[np.int32]]:
    """Count each cell once: in the last of its groups, as the original does."""
    owner = np.full(n_cells, -1, np.int32)
    for k, rows in enumerate(sets):
        owner[rows] = k
    return [np.flatnonzero(owner == k).astype(np.int32) for k in range(len(sets))]


def _unique(names: list[str]) -> list[str]:
    """Make repeated names unique by .1, .2 and so on, as R's ``make.unique`` does."""
    taken, counts, out = set(names), dict.fromkeys(names, 0), []
    seen: set[str] = set()
    for name in names:
        if name not in seen:
            seen.add(name)
            out.append(name)
            continue
        while True:
            counts[name] += 1
            candidate = f"{name}.{counts[name]}"
            if candidate not in taken:
                break
        taken.add(candidate)
        out.append(candidate)
    return out


def heatmap_tables(result: Any) -> Tables:  # noqa: ANN401
    """One column of names."""
    return {"markers": {"gene_names": result["orderedGeneNames"]}}


def dot_tables(result: Any) -> Tables:  # noqa: ANN401
    """One row per dot, with names instead of indices."""
    if not result:
        return {"dots": {"cell_set": [], "gene": [], "average_expression": [], "percent_of_cells": []}}
    return {
        "dots": {
            "cell_set": [result["cellSetsNames"][i] for i in result["cellSetsIdx"]],
            "gene": [result["geneNames"][i] for i in result["geneNameIdx"]],
            "average_expression": result["avgExpression"],
            "percent_of_cells": result["cellsPercentage"],
        }
    }


MARKER_HEATMAP = Task(
    name="MarkerHeatmap",
    path="runMarkerHeatmap",
    about="the marker genes of every cluster",
    example=lambda parts: {"nGenes": 5, "selectedCellSet": parts.cell_class},
    body=MarkerHeatmapBody,
    request=MarkerHeatmapRequest,
    prepare=prepare_heatmap,
    compute=compute_heatmap,
    lane="long",
    needs_cell_sets=True,
    to_tables=heatmap_tables,
)

DOT_PLOT = Task(
    name="DotPlot",
    path="runDotPlot",
    about="mean expression and share of expressing cells, by gene and group",
    example=lambda parts: {
        "useMarkerGenes": False,
        "numberOfMarkers": 3,
        "customGenesList": parts.genes[:3],
        "groupBy": parts.cell_class,
        "filterBy": {"group": "All", "key": "All"},
    },
    body=DotPlotBody,
    request=DotPlotRequest,
    prepare=prepare_dots,
    compute=compute_dots,
    lane="long",
    needs_cell_sets=True,
    to_tables=dot_tables,
)
