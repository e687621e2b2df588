"""Local regression of one variable on another: R's ``loess`` with its default, interpolated surface.

Cleveland and Devlin (1988) fit a weighted quadratic around every point. The programs of Cleveland, Grosse and Shyu,
which R calls, fit only at few places and interpolate between them (Cleveland and Grosse, 1991), which gives other
numbers. This module gives these numbers: the places and the interpolation follow their descriptions and R's answers.
The published Python binding of the same programs (scikit-misc) has no wheels for musl, keeps its state in globals, and
returns NaN where most points are equal.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["local_quadratic"]

Floats = NDArray[np.float64]
_CELL = 0.2  # R's loess.control(cell): the tree splits a cell while it holds more than span * cell * n points
_MARGIN = 0.005  # margin of the outer places beyond the points, as a share of their range
_TINY = 100 * np.finfo(np.float64).eps  # singular values below this share of the largest count as 0


def local_quadratic(x: NDArray[Any], y: NDArray[Any], *, span: float) -> Floats:
    """Return the fitted values of ``loess(y ~ x, span, degree = 2)``.

    Parameters
    ----------
    x, y
        ``(n,)``, finite.
    span
        Share of the points that each local fit uses, above 0, at most 1.

    Returns
    -------
    numpy.ndarray
        float64 ``(n,)``, in the order of `x`. Where so many points share one `x` that a local fit is undetermined (R
        answers NaN there), it uses more neighbours, up to all of them. If all points share one `x`, the result is the
        mean of `y`.

    Raises
    ------
    ValueError
        If `x` and `y` differ in length, a value is not finite, or `span` is not in (0, 1].
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError("x and y must be vectors of the same length")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("x and y must be finite")
    if not 0 < span <= 1:
        raise ValueError("span must be above 0 and at most 1")
    if not len(x):
        return np.empty(0)
    order = np.argsort(x, kind="stable")
    xs: Floats = x[order]
    ys: Floats = y[order]
    if xs[0] == xs[-1]:
        return np.full(len(x), ys.mean())
    size = max(1, min(len(x), int(len(x) * span + 1e-5)))
    places = _places(xs, int(len(x) * span * _CELL))
    level, slope = np.array([_fit(xs, ys, place, size) for place in places.tolist()]).T
    out = np.empty(len(x))
    out[order] = _between(xs, places, level, slope)
    return out


@dataclass(slots=True)
class _Cell:
    first: int
    last: int
    low: float
    high: float


def _places(xs: Floats, max_points: int) -> Floats:
    """Return the places of local fits, ascending: the corners of the cells of a k-d tree of the points `xs`."""
    beyond = _MARGIN * max(xs[-1] - xs[0], 1e-10 * max(abs(xs[0]), abs(xs[-1])) + 1e-30)
    places = [float(xs[0] - beyond), float(xs[-1] + beyond)]
    cells = [_Cell(0, len(xs) - 1, *places)]
    while cells:
        cell = cells.pop()
        if cell.last - cell.first + 1 <= max_points:
            continue
        at = _cut(xs, cell.first, cell.last)
        place = float(xs[at])
        if place in {cell.low, cell.high}:
            continue
        places.append(place)
        if at >= cell.first:
            cells.append(_Cell(cell.first, at, cell.low, place))
        if at < cell.last:
            cells.append(_Cell(at + 1, cell.last, place, cell.high))
    return np.unique(places)


def _cut(xs: Floats, first: int, last: int) -> int:
    """Return the point after which a cell is split: the middle one, or the nearest to it that differs from the next."""
    middle = (first + last + 2) // 2 - 1  # the middle, for positions that begin at 1
    step = 0
    while first <= middle + step < last:
        if xs[middle + step] != xs[middle + step + 1]:
            return middle + step
        step = -step + (step <= 0)
    return middle


def _fit(xs: Floats, ys: Floats, place: float, size: int) -> tuple[float, float]:
    """Fit a quadratic around one place with tricube weights; return its value and its slope there."""
    squared = (xs - place) ** 2
    nearest = np.sort(squared)
    reach = nearest[size - 1]
    if nearest[0] >= reach:  # every weight would be 0
        farther = nearest[nearest > reach]
        reach = farther[0] if len(farther) else np.inf
    near = np.flatnonzero(squared < reach)
    weight = np.sqrt((1 - np.sqrt(squared[near] / reach) ** 3) ** 3)
    away = xs[near] - place
    design = weight[:, None] * np.stack([np.ones(len(near)), away, away**2], axis=1)
    norms = np.sqrt((design**2).sum(axis=0))
    norms[norms == 0] = 1.0
    u, sigma, vt = np.linalg.svd(design / norms, full_matrices=False)
    used = sigma > sigma[0] * _TINY
    solution = vt[used].T @ ((u.T @ (weight * ys[near]))[used] / sigma[used]) / norms
    return float(solution[0]), float(solution[1])


def _between(xs: Floats, places: Floats, level: Floats, slope: Floats) -> Floats:
    """Interpolate by cubic polynomials that have the fitted values and slopes at the places."""
    right = np.clip(np.searchsorted(places, xs, side="left"), 1, len(places) - 1)
    left = right - 1
    width = places[right] - places[left]
    h = (xs - places[left]) / width
    return np.asarray(
        (1 - h) ** 2 * (1 + 2 * h) * level[left]
        + h**2 * (3 - 2 * h) * level[right]
        + (h * (1 - h) ** 2 * slope[left] + h**2 * (h - 1) * slope[right]) * width
    )
