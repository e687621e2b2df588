"""Colours of new clusters; where the object has images, by how the clusters mix in the tissue."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.annotation.colours import first_colours
from cellworker.analysis.annotation.spaco import Slice, spatial_colours
from cellworker.experiment.model import Experiment, TissueImage
from cellworker.tasks.common.reductions import find_sketch
from cellworker.tasks.task import Context

__all__ = ["cluster_colours"]

_NEAR_MICRONS = 50.0
_IN_MICRONS = "xenium"


def cluster_colours(experiment: Experiment, codes: NDArray[np.int64], n_clusters: int, context: Context) -> list[str]:
    """Return a colour for each cluster (algorithms.md, section 10); from the pool where there are no images.

    Parameters
    ----------
    experiment
        Has the images and the pool. For an object with a sketch, only the sketch's cells count.
    codes
        int64 ``(n_cells,)``: cluster of each cell.
    n_clusters
        Number of clusters.
    context
        Called with the progress.
    """
    pool = experiment.misc.color_pool
    if not experiment.images:
        return first_colours(pool, n_clusters)
    sketch = find_sketch(experiment)
    if sketch is not None:
        chosen = np.full(len(codes), -1, np.int64)
        chosen[sketch[1]] = codes[sketch[1]]
        codes = chosen
    return spatial_colours(
        _slices(experiment, codes), n_clusters, pool, threads=context.threads,
        on_progress=lambda fraction: context.progress("Choosing colours", fraction),
    )  # fmt: skip


def _slices(experiment: Experiment, codes: NDArray[np.int64]) -> Iterator[Slice]:
    """Yield the images whose scale is known."""
    for image in experiment.images.values():
        radius = _radius(experiment, image)
        if radius is not None:
            places, rows = _centres(image, len(codes))
            yield Slice(places * image.scale, codes[rows], radius)


def _radius(experiment: Experiment, image: TissueImage) -> float | None:
    if experiment.misc.technology == _IN_MICRONS:
        return _NEAR_MICRONS
    microns = experiment.misc.microns_per_pixel
    return _NEAR_MICRONS / microns * image.scale if microns else None


def _centres(image: TissueImage, n_cells: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the place of each cell of the image (the mean of its outline's vertices), and the cells' rows."""
    counts = np.bincount(image.cells, minlength=n_cells)
    rows = np.flatnonzero(counts)
    sums = [np.bincount(image.cells, image.points[:, axis], minlength=n_cells)[rows] for axis in (0, 1)]
    return np.stack(sums, axis=1) / counts[rows, None], rows.astype(np.int64)
