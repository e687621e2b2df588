"""Embeddings that are computed on request: UMAP and t-SNE of the active reduction (contract 5.1)."""

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.fast_neighbours import fast_neighbours
from cellworker.analysis.graphs.neighbours import Metric
from cellworker.analysis.maps.tsne import neighbours_for, tsne
from cellworker.analysis.maps.umap import umap, umap_transform
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Experiment
from cellworker.experiment.suitability import MAPS
from cellworker.protocol.validation import finite_number
from cellworker.tasks.common.reductions import coordinates_of, find_sketch, full_reduction
from cellworker.tasks.task import Context

__all__ = ["check_config", "lay_out_tsne", "lay_out_umap"]

_FINDING, _LAYING_OUT, _PLACING = "Finding neighbours", "Laying out the cells", "Placing all cells"
_NEIGHBOURS = 30  # uwot's umap2, as the original calls it
_MIN_DIST, _METRIC = 0.3, "cosine"  # the platform's defaults
_LARGEST_MIN_DIST = 10
_PERPLEXITY, _LEARNING_RATE = 30.0, 200.0
_MAX_LINKS = 400_000_000  # 3 GB
_LARGEST_COORDINATE = 1e15  # squares of differences still fit in single precision


def check_config(kind: str, config: Mapping[str, Any]) -> None:
    """Refuse a configuration of "umap" or "tsne" that is invalid for any data.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the field and its valid values.
    """

    def number(name: str, wanted: str, *, above: float | None = None, maximum: float = math.inf) -> None:
        if config.get(name) is None:
            return
        value = finite_number(config[name])
        if value is None or (value < 0 if above is None else value <= above) or value > maximum:
            raise WorkerError(
                ErrorCode.INVALID_INPUT, f"body.config.{name}: expected {wanted}, found {config[name]!r:.100}."
            )

    if kind == "umap":
        number("minimumDistance", f"a number from 0 to {_LARGEST_MIN_DIST}", maximum=_LARGEST_MIN_DIST)
        metric = config.get("distanceMetric", _METRIC)
        if metric not in ("euclidean", "cosine"):
            raise WorkerError(
                ErrorCode.INVALID_INPUT, f"body.config.distanceMetric: expected euclidean or cosine, found {metric!r}."
            )
    if kind == "tsne":
        number("perplexity", "a number above 0", above=0)
        number("learningRate", "a number from 0")


def lay_out_umap(experiment: Experiment, config: Mapping[str, Any], context: Context) -> NDArray[np.float32]:
    """Compute a UMAP of all cells; where there is a sketch, of its cells, and place the others in it.

    Returns
    -------
    float32 ``(n_cells, 2)``.

    Raises
    ------
    WorkerError
        ``REDUCTION_NOT_FOUND`` when the active reduction is missing or has no place for some cells.
    """
    metric = cast("Metric", config.get("distanceMetric") or _METRIC)
    asked = config.get("minimumDistance")
    min_dist = _MIN_DIST if asked is None else float(asked)
    active, sketch = experiment.misc.active_reduction, find_sketch(experiment)
    if sketch is None:
        points = _points(experiment, active)
    else:
        full, chosen = sketch
        everywhere = _points(experiment, full)
        points = _usable(experiment, active, experiment.reductions[active].values[chosen])
    share = 1.0 if sketch is None else min(0.9, 3 * len(points) / (experiment.n_cells + 2 * len(points)))
    found = fast_neighbours(
        points,
        min(_NEIGHBOURS, len(points)),
        metric,
        threads=context.threads,
        on_progress=lambda done: context.progress(_FINDING, share * 0.3 * done),
    )
    layout = umap(
        found,
        min_dist=min_dist,
        metric=metric,
        points=points,
        threads=context.threads,
        on_progress=lambda done: context.progress(_LAYING_OUT, share * (0.3 + 0.7 * done)),
    )
    if sketch is None:
        return layout
    near = fast_neighbours(
        points,
        min(_NEIGHBOURS, len(points)),
        metric,
        queries=everywhere,
        threads=context.threads,
        on_progress=lambda done: context.progress(_PLACING, share + (1 - share) * 0.4 * done),
    )
    return umap_transform(
        near,
        layout,
        min_dist=min_dist,
        metric=metric,
        threads=context.threads,
        on_progress=lambda done: context.progress(_PLACING, share + (1 - share) * (0.4 + 0.6 * done)),
    )


def lay_out_tsne(experiment: Experiment, config: Mapping[str, Any], context: Context) -> NDArray[np.float32]:
    """Compute a t-SNE of all cells. Where the active reduction is of a sketch, use the reduction of all cells.

    Returns
    -------
    float32 ``(n_cells, 2)``.

    Raises
    ------
    WorkerError
        ``REDUCTION_NOT_FOUND`` as for `lay_out_umap`; ``INVALID_INPUT`` when the perplexity is too large for the cells.
    """
    perplexity, rate = (
        default if config.get(name) is None else float(config[name])
        for name, default in (("perplexity", _PERPLEXITY), ("learningRate", _LEARNING_RATE))
    )
    points = _points(experiment, full_reduction(experiment))
    # As Rtsne does before its search: centre, and scale to [-1, 1].
    points = points - points.sum(axis=0) / len(points)
    points /= np.abs(points).max() or 1.0
    n = len(points)
    if 3 * perplexity > n - 1:
        raise WorkerError(
            ErrorCode.INVALID_INPUT,
            f"body.config.perplexity: {perplexity:g} is too large for {n} cells; expected at most "
            f"{math.floor(10 * (n - 1) / 3) / 10:g}.",
        )
    k = neighbours_for(perplexity, n)
    if k * n > _MAX_LINKS:
        raise WorkerError(
            ErrorCode.INVALID_INPUT,
            f"body.config.perplexity: {perplexity:g} needs {k} neighbours of each of {n} cells, which do not fit in "
            f"memory; expected at most {_MAX_LINKS // n // 3}.",
        )
    found = fast_neighbours(
        points,
        k,
        "euclidean",
        threads=context.threads,
        on_progress=lambda done: context.progress(_FINDING, 0.2 * done),
    )
    return tsne(
        found,
        perplexity=perplexity,
        learning_rate=_LEARNING_RATE if context.like_original else rate,
        points=points,
        threads=context.threads,
        on_progress=lambda done: context.progress(_LAYING_OUT, 0.2 + 0.8 * done),
    )


def _points(experiment: Experiment, name: str) -> NDArray[np.float64]:
    return _usable(experiment, name, coordinates_of(experiment, name, MAPS))


def _usable(experiment: Experiment, name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    points = np.ascontiguousarray(values[:, : experiment.misc.num_pcs])
    if not points.shape[1] or np.abs(points).max() > _LARGEST_COORDINATE:
        raise WorkerError(
            ErrorCode.EXPERIMENT_UNREADABLE,
            f"The reduction {name!r}, which {MAPS}, has no dimensions, or coordinates above {_LARGEST_COORDINATE:g}.",
        )
    return points
