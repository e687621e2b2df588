"""Colours of clusters in tissue: clusters whose cells are mixed get very different colours.

After Spaco (Jing et al. 2024, "Spaco: a comprehensive tool for coloring spatial data at single-cell resolution",
Patterns): it measures how much two clusters interlace in the tissue, and places colours in CIE-Lab, where distances
match perception, so that interlaced clusters get distant colours (algorithms.md, section 10).

The original places colours by UMAP, from random numbers, for five clusters or more. Here, metric scaling of the ranks
of the interlacement places them, which has one answer; then pairs of colours are swapped while this moves interlaced
clusters further apart.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.annotation.colours import first_colours
from cellworker.analysis.annotation.lab import from_lab, to_lab

__all__ = ["Slice", "interlacement", "spatial_colours"]

_K = 16
_SPARE = 16  # more neighbours than needed: ties in distance are broken by the order of the cells
_MIN_ALIKE = 3
_MIN_CELLS = 4
_CHUNK = 1 << 15
_CLUSTERS = range(5, 101)  # fewer clusters need no help, and no palette distinguishes more
_ROUNDS = 300
_CLOSEST = 0.5
"""Target distance of clusters that do not interlace; for the most interlaced it is 1."""
_TRIM = (0.0125, 0.9875)
_LIKE = 5.0
"""Colours at a smaller distance in Lab look alike; the eye sees differences from 2.3."""
_SPARE_COLOURS = 2000


@dataclass(frozen=True, slots=True)
class Slice:
    """Cells of one image.

    Attributes
    ----------
    coordinates
        float64 ``(n, 2)``, in the image's unit.
    labels
        int64 ``(n,)``: cluster of each cell, -1 for none.
    radius
        Max distance of near cells, in the same unit: 50 micrometres in the original.
    """

    coordinates: NDArray[np.float64]
    labels: NDArray[np.int64]
    radius: float


def interlacement(
    cells: Slice, n_clusters: int, *, threads: int = 1, on_progress: Callable[[float], Any] | None = None
) -> NDArray[np.float64]:
    """Measure how much the cells of clusters are mixed.

    The neighbourhood of a cell is its 16 nearest cells, itself included, within the radius. If at least 3 of them are
    of its own cluster, each of the others adds the inverse of its distance, divided by the size of the neighbourhood,
    to the pair of clusters. A pair gets the maximum of its two directions.

    Parameters
    ----------
    cells
        The cells; those without a cluster or without coordinates are ignored.
    n_clusters
        Number of clusters.
    threads
        Threads to use; the result does not depend on it.
    on_progress
        Called with the fraction done; may raise to stop.

    Returns
    -------
    numpy.ndarray
        float64 ``(n_clusters, n_clusters)``, symmetric, zeros on the diagonal; infinite where cells of two clusters are
        on the same spot. Zeros with fewer than 4 cells.
    """
    from scipy.spatial import KDTree  # noqa: PLC0415 slow to import, and few need it

    total = np.zeros(n_clusters * n_clusters)
    part = (cells.labels >= 0) & np.isfinite(cells.coordinates).all(axis=1)
    places = np.ascontiguousarray(cells.coordinates[part], np.float64)
    labels = cells.labels[part]
    n = len(places)
    if n < _MIN_CELLS:
        return total.reshape(n_clusters, n_clusters)
    tree = KDTree(places)
    k = min(_K, n)
    for start in range(0, n, _CHUNK):
        if on_progress:
            on_progress(start / n)
        rows = np.arange(start, min(start + _CHUNK, n))
        distances, found = tree.query(places[rows], min(k + _SPARE, n), workers=threads)
        nearer = np.where(found == rows[:, None], -1.0, distances)  # itself first, also of cells on the same spot
        order = np.lexsort((found, nearer), axis=1)[:, :k]
        distances, found = (np.take_along_axis(values, order, axis=1) for values in (distances, found))
        within = distances <= cells.radius
        alike = labels[found] == labels[rows][:, None]
        near = within & ((within & alike).sum(axis=1) >= _MIN_ALIKE)[:, None]
        near[:, 0] = False
        cell, place = np.nonzero(near)
        with np.errstate(divide="ignore"):
            weights = 1 / distances[cell, place] / within.sum(axis=1)[cell]
        pairs = labels[rows[cell]] * n_clusters + labels[found[cell, place]]
        total += np.bincount(pairs, weights, minlength=len(total))
    out = total.reshape(n_clusters, n_clusters)
    out = np.maximum(out, out.T)
    np.fill_diagonal(out, 0.0)
    return out


def spatial_colours(
    slices: Iterable[Slice],
    n_clusters: int,
    pool: Sequence[str],
    *,
    threads: int = 1,
    on_progress: Callable[[float], Any] | None = None,
) -> list[str]:
    """Return a colour for each cluster, all different.

    Parameters
    ----------
    slices
        The cells of each image; the interlacements are added.
    n_clusters
        Number of clusters.
    pool
        Colours to use with fewer than 5 or more than 100 clusters, and where no two clusters interlace.
    threads, on_progress
        As for `interlacement`; `on_progress` restarts with each image.

    Returns
    -------
    list of str
        ``#rrggbb``.
    """
    ordinary = first_colours(pool, n_clusters)
    if n_clusters not in _CLUSTERS:
        return ordinary
    mixed = np.zeros((n_clusters, n_clusters))
    for cells in slices:
        mixed += interlacement(cells, n_clusters, threads=threads, on_progress=on_progress)
    if not mixed.any():
        return ordinary
    strength = _ranks(mixed)
    colours = _told_apart(from_lab(_in_lab(_place(_CLOSEST + (1 - _CLOSEST) * strength))), pool)
    return [colours[k] for k in _exchanged(strength, to_lab(colours))]


def _ranks(mixed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replace values above zero by their ranks, scaled to 0 to 1; equal values get equal ranks."""
    levels, place = np.unique(mixed, return_inverse=True)
    first = int(levels[0] == 0)
    share = np.arange(1 - first, len(levels) + 1 - first) / (len(levels) - first)
    return np.asarray(share[place.reshape(mixed.shape)])


def _place(targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Place points in three dimensions so that their distances are about the targets, ``(k, 3)``.

    By majorisation of the stress (de Leeuw 1977; "SMACOF"), from points that fill the cube evenly. It uses only
    additions, multiplications, divisions and square roots, in a fixed order, so the bytes are the same on every
    machine.
    """
    n = len(targets)
    # Roberts' additive recurrence with the root of x^4 = x + 1.
    steps = 1 / 1.2207440846057596 ** np.arange(1, 4)
    points = (0.5 + np.arange(n)[:, None] * steps) % 1.0
    for _ in range(_ROUNDS):
        apart = points[:, None, :] - points[None, :, :]
        squared = apart * apart
        distances = np.sqrt(squared[:, :, 0] + squared[:, :, 1] + squared[:, :, 2])
        np.fill_diagonal(distances, 1.0)
        pulls = targets / np.maximum(distances, 1e-9)
        np.fill_diagonal(pulls, 0.0)
        points = (pulls[:, :, None] * -apart).sum(axis=0) / n
    return points


def _in_lab(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stretch the cloud of points over the colours: lightness 30 to 80, a and b from -100 to 100."""
    low = np.quantile(points, _TRIM[0], axis=0)
    scaled = np.maximum(points - low, 0)
    scaled = np.minimum(scaled / max(np.quantile(scaled, _TRIM[1]), 1e-9), 1)
    return np.stack([30 + 50 * scaled[:, 0], 200 * (scaled[:, 1] - 0.5), 200 * (scaled[:, 2] - 0.5)], axis=1)


def _told_apart(colours: list[str], pool: Sequence[str]) -> list[str]:
    """Replace each colour that looks like an earlier one by the first that does not.

    Colours may coincide where sRGB ends.
    """
    lab = to_lab(colours)
    spare: list[str] = []
    for i in range(1, len(lab)):
        if _nearest(lab[i : i + 1], lab[:i])[0] >= _LIKE:
            continue
        spare = spare or first_colours(pool, _SPARE_COLOURS)
        other = to_lab(spare)
        chosen = int(np.argmax(np.minimum(_nearest(other, np.delete(lab, i, axis=0)), _LIKE)))
        colours[i], lab[i] = spare[chosen], other[chosen]
    return colours


def _nearest(lab: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    apart = lab[:, None, :] - others[None, :, :]
    return np.asarray(np.sqrt((apart * apart).sum(axis=2)).min(axis=1))


def _exchanged(strength: NDArray[np.float64], lab: NDArray[np.float64]) -> list[int]:
    """Return each cluster's colour: swap two while this increases the sum of strength times distance."""
    n = len(lab)
    apart = lab[:, None, :] - lab[None, :, :]
    # Compare to a millionth: rounding, which differs between machines, must not decide.
    distances = np.round(np.sqrt((apart * apart).sum(axis=2)), 6)
    order = list(range(n))
    improved = True
    while improved:
        improved = False
        for i in range(n):
            for j in range(i + 1, n):
                mine = distances[order[j], order] - distances[order[i], order]
                mine[[i, j]] = 0
                if ((strength[i] - strength[j]) * mine).sum() > 1e-6:
                    order[i], order[j] = order[j], order[i]
                    improved = True
    return order
