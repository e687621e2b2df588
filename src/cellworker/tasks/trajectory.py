"""Trajectories: the graph along which cells develop, and each cell's pseudotime (contract 5.14, 5.15)."""

import hashlib
from typing import Any, get_args

import msgspec
import numpy as np
from msgspec import Raw, Struct, field
from numpy.typing import NDArray

from cellworker.analysis.graphs.fast_neighbours import fast_neighbours
from cellworker.analysis.graphs.neighbours import Metric, Neighbours, nearest_neighbours
from cellworker.analysis.trajectories.graph_projection import Places
from cellworker.analysis.trajectories.pseudotime import chained_pseudotime, pseudotime
from cellworker.analysis.trajectories.trajectory import Method, Trajectory, learn_trajectory
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Experiment
from cellworker.protocol.validation import CellId, Count, Number, Text
from cellworker.tasks.common.examples import UI_LAYOUT
from cellworker.tasks.common.result_cache import kept
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.task import Context, EarlierResult, ExampleParts, PrepareInput, Task
from cellworker.version import __version__

__all__ = ["PSEUDO_TIME", "STARTING_NODES"]

_METRIC: Metric = "euclidean"
"""Metric in the plane. The metric of a request is the one by which the embedding compared the cells."""
_CANDIDATES = 2500  # neighbours in the original's search
_LARGEST = 1e15
"""Squares of larger coordinates do not fit in single precision."""
_NO_ROOTS = "No root nodes were selected for the analysis."
_Cells = list[list[float | str] | None]


class StoredEmbedding(Struct):
    """The embedding of a trajectory. The platform names it; without a name it is computed."""

    method: Text
    etag: str = field(name="ETag", default="")
    method_settings: dict[str, Any] = field(name="methodSettings", default_factory=dict)


class Clustering(Struct):
    """The clustering of a trajectory."""

    method: str = "louvain"
    resolution: Number | None = None


class StartingNodesBody(Struct):
    """GetTrajectoryAnalysisStartingNodes."""

    embedding: StoredEmbedding
    cell_sets: list[Text] = field(name="cellSets")
    clustering: Clustering = field(default_factory=Clustering)


class PseudoTimeBody(Struct):
    """GetTrajectoryAnalysisPseudoTime."""

    embedding: StoredEmbedding
    cell_sets: list[Text] = field(name="cellSets")
    root_nodes: list[Count] = field(name="rootNodes")
    clustering: Clustering = field(default_factory=Clustering)


class TrajectoryEmbedding(Struct):
    """The settings of a trajectory's embedding."""

    method: str = "umap"
    method_settings: dict[str, Any] = field(name="methodSettings", default_factory=dict)


class StartingNodesRequest(Struct):
    """``runTrajectoryAnalysisStartingNodesTask``.

    `embedding` is the result of GetEmbedding, by cell id; a cell without coordinates is null, [], or ["NA", "NA"].
    """

    embedding: Raw
    cell_ids: list[CellId] | CellId
    embedding_settings: TrajectoryEmbedding = field(default_factory=TrajectoryEmbedding)
    clustering_settings: Clustering = field(default_factory=Clustering)


class PseudoTimeRequest(StartingNodesRequest):
    """``runTrajectoryAnalysisPseudoTimeTask``. `root_nodes`: positions among the starting nodes."""

    root_nodes: list[Count] | Count = field(default_factory=list)


def earlier(body: StartingNodesBody | PseudoTimeBody) -> EarlierResult:
    """Name the embedding."""
    embedding = body.embedding
    ask = {"name": "GetEmbedding", "type": embedding.method, "config": embedding.method_settings}
    return EarlierResult(embedding.etag, "body.embedding.ETag", ({**ask, "useSaved": True}, {**ask, "useSaved": False}))


def prepare(given: PrepareInput) -> StartingNodesRequest:
    """Look up the cells, and pass the embedding on.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` for an unknown cell set or way of clustering.
    """
    return StartingNodesRequest(**_prepared(given))


def prepare_pseudotime(given: PrepareInput) -> PseudoTimeRequest:
    """Look up the cells, and pass the embedding and the root nodes on. Raises like `prepare`."""
    body: PseudoTimeBody = given.body
    if not body.root_nodes:
        raise WorkerError(ErrorCode.R_WORKER_TRAJECTORY_ANALYSIS_EMPTY_ROOT_NODES, _NO_ROOTS)
    return PseudoTimeRequest(**_prepared(given), root_nodes=body.root_nodes)


def _prepared(given: PrepareInput) -> dict[str, Any]:
    body: StartingNodesBody | PseudoTimeBody = given.body
    if body.clustering.method not in get_args(Method):
        raise WorkerError(
            ErrorCode.INVALID_INPUT,
            f"body.clustering.method: expected louvain or leiden, found {body.clustering.method!r}.",
        )
    if not body.cell_sets:
        raise WorkerError(ErrorCode.INVALID_INPUT, "body.cellSets: expected the keys of cell sets, found none.")
    cells = given.cell_sets.cells_of_all(body.cell_sets, "body.cellSets")
    assert given.earlier is not None
    return {
        # The original's engine reads this as a cell without coordinates; an embedding has no other words.
        "embedding": msgspec.Raw(given.earlier.replace(b"null", b'["NA","NA"]')),
        "embedding_settings": TrajectoryEmbedding(body.embedding.method, body.embedding.method_settings),
        "clustering_settings": body.clustering,
        "cell_ids": cells.tolist(),
    }


def compute(experiment: Experiment, request: StartingNodesRequest, context: Context) -> dict[str, Any]:
    """Return the graph's nodes: their coordinates, and the later nodes that each is linked to.

    Raises
    ------
    WorkerError
        ``R_WORKER_EMPTY_CELL_SET`` when no cell is left, ``INVALID_INPUT`` when the embedding is not two-dimensional.
    """
    cells = _selected(experiment, request)
    points, _ = _places(request, cells)
    graph = _learn(points, request, context)
    later: list[list[int]] = [[] for _ in graph.nodes]
    for a, b in graph.links.tolist():
        later[a].append(b)
    return {"connectedNodes": later, "x": graph.nodes[:, 0].copy(), "y": graph.nodes[:, 1].copy()}


def compute_pseudotime(experiment: Experiment, request: PseudoTimeRequest, context: Context) -> dict[str, Any]:
    """Return the pseudotime of each cell by its id; null for cells not selected or not reached from the roots.

    Raises
    ------
    WorkerError
        As `compute`; ``R_WORKER_TRAJECTORY_ANALYSIS_EMPTY_ROOT_NODES`` without root nodes, ``INVALID_INPUT`` for one
        that does not exist.
    """
    roots = np.unique(np.array(request.root_nodes, np.int64).ravel())
    if not len(roots):
        raise WorkerError(ErrorCode.R_WORKER_TRAJECTORY_ANALYSIS_EMPTY_ROOT_NODES, _NO_ROOTS)
    cells = _selected(experiment, request)
    points, placed = _places(request, cells)
    graph = _learn(points, request, context)
    if roots[-1] >= len(graph.nodes):
        raise WorkerError(
            ErrorCode.INVALID_INPUT,
            f"rootNodes: there is no node {roots[-1]}; the trajectory of these cells has the nodes 0 to "
            f"{len(graph.nodes) - 1}. Compute its starting nodes again and choose among them.",
        )
    context.progress("Measuring pseudotime", 0)
    anchors = np.unique(graph.anchors[roots])
    if context.like_original:
        found = chained_pseudotime(graph.nodes, graph.links, graph.places, graph.partition, anchors)
    else:
        found = pseudotime(graph.nodes, graph.links, graph.places, anchors)
    values = np.full(int(cells.max()) + 1, np.nan)
    values[cells[placed]] = np.where(np.isfinite(found), found, np.nan)
    return {"pseudotime": values}


def _selected(experiment: Experiment, request: StartingNodesRequest) -> NDArray[np.int64]:
    """Return the ids of the requested cells that the experiment has, in its order."""
    ids = np.asarray(experiment.cell_ids, np.int64)
    cells = ids[np.isin(ids, np.array(request.cell_ids, np.int64).ravel())]
    if not len(cells):
        raise WorkerError(
            ErrorCode.R_WORKER_EMPTY_CELL_SET,
            "None of the selected cells is left in the experiment. Select cell sets that have cells.",
        )
    return cells


def _places(request: StartingNodesRequest, cells: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the coordinates of the cells that have some, float64 ``(n, 2)``, and these cells."""
    try:
        table: _Cells = msgspec.json.decode(request.embedding, type=_Cells)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"embedding: expected two coordinates for each cell, by its id ({error})."
        raise WorkerError(ErrorCode.INVALID_INPUT, message) from None
    rows = [(table[cell] if cell < len(table) else None) or () for cell in cells.tolist()]
    count = max(map(len, rows))
    if count > 2:
        raise WorkerError(
            ErrorCode.INVALID_INPUT,
            f"embedding: some cells have {count} coordinates. A trajectory needs an embedding in the plane, as UMAP.",
        )
    # Words stand for missing numbers.
    pairs = [row if len(row) == 2 and str not in map(type, row) else (np.nan, np.nan) for row in rows]
    points = np.array(pairs, np.float64)
    placed = np.asarray(np.isfinite(points).all(axis=1))
    if not placed.any():
        raise WorkerError(
            ErrorCode.INVALID_INPUT,
            "embedding: none of the selected cells has coordinates. Compute it again, or select other cells.",
        )
    points = points[placed]
    if np.abs(points).max() > _LARGEST:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"embedding: coordinates must not be larger than {_LARGEST:g}.")
    return points, placed


def _learn(points: NDArray[np.float64], request: StartingNodesRequest, context: Context) -> Trajectory:
    """Learn the graph, or take it from the cache of an earlier request for the same cells."""
    method = request.clustering_settings.method
    if method not in get_args(Method):
        raise WorkerError(
            ErrorCode.INVALID_INPUT, f"clustering_settings.method: expected louvain or leiden, found {method!r}."
        )

    def search(points: NDArray[np.float64], k: int, metric: Metric, *, on_progress: Any) -> Neighbours:  # noqa: ANN401
        if context.like_original:
            return nearest_neighbours(
                points, k, metric, candidates=_CANDIDATES, threads=context.threads, on_progress=on_progress
            )
        return fast_neighbours(points, k, metric, threads=context.threads, on_progress=on_progress)

    def make() -> dict[str, NDArray[Any]]:
        made = learn_trajectory(
            points,
            "leiden" if method == "leiden" else "louvain",
            _METRIC,
            search,
            like_original=context.like_original,
            progress=context.progress,
        )
        places = made.places
        return {
            "nodes": made.nodes, "links": made.links, "node": places.node, "other": places.other, "part": places.part,
            "partition": made.partition, "anchors": made.anchors,
        }  # fmt: skip

    about = f"trajectory {__version__} {method} {_METRIC} {context.like_original} {len(points)}"
    key = hashlib.sha256(about.encode() + b"\0" + points.tobytes()).hexdigest()
    known = kept(context.kept, f"trajectory-{key}", make)
    places = Places(known["node"], known["other"], known["part"])
    return Trajectory(known["nodes"], known["links"], places, known["partition"], known["anchors"])


def to_tables(result: dict[str, Any]) -> Tables:
    """Two tables: the nodes, and the links between them."""
    pairs = [(node, int(other)) for node, others in enumerate(result["connectedNodes"]) for other in others]
    return {
        "nodes": {"node": list(range(len(result["x"]))), "x": result["x"], "y": result["y"]},
        "links": {"from": [a for a, _ in pairs], "to": [b for _, b in pairs]},
    }


def pseudotime_to_tables(result: dict[str, Any]) -> Tables:
    """One table: the cells, with no value where the roots do not reach."""
    reached = [(cell, value) for cell, value in enumerate(result["pseudotime"]) if value is not None]
    return {"cells": {"cell_id": [cell for cell, _ in reached], "pseudotime": [value for _, value in reached]}}


def _example(parts: ExampleParts) -> dict[str, Any]:
    return {
        "embedding": {"method": parts.reduction, "methodSettings": UI_LAYOUT},
        "clustering": {"method": "louvain", "resolution": 0.8},
        "cellSets": [parts.cell_class],
    }


STARTING_NODES = Task(
    name="GetTrajectoryAnalysisStartingNodes",
    path="runTrajectoryAnalysisStartingNodesTask",
    about="the graph along which the cells develop",
    example=_example,
    body=StartingNodesBody,
    request=StartingNodesRequest,
    prepare=prepare,
    compute=compute,
    lane="long",
    needs_cell_sets=True,
    earlier=earlier,
    to_tables=to_tables,
)

PSEUDO_TIME = Task(
    name="GetTrajectoryAnalysisPseudoTime",
    path="runTrajectoryAnalysisPseudoTimeTask",
    about="how far every cell has come along it",
    example=lambda parts: {**_example(parts), "rootNodes": [0]},
    body=PseudoTimeBody,
    request=PseudoTimeRequest,
    prepare=prepare_pseudotime,
    compute=compute_pseudotime,
    lane="long",
    needs_cell_sets=True,
    earlier=earlier,
    to_tables=pseudotime_to_tables,
    every_cell=True,
)
