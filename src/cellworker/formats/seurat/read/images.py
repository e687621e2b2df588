"""Where cells are on the images of a Seurat object: what GetTissueCoordinates gives (algorithms.md, section 7.4).

======================  ============================================================================================
FOV, Xenium, VisiumV2   the default boundary, which is the first: centroids, or the vertices of every cell's outline
VisiumV1                columns imagecol (x) and imagerow (y)
SlideSeq, STARmap       columns x and y
======================  ============================================================================================
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import TissueImage
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.pixels import MAX_PIXELS, pixels_of
from cellworker.formats.r.rds.model import RS4, RList, RValue, RVector
from cellworker.formats.r.values import (
    attributes,
    describe,
    dim,
    dimnames,
    frame,
    named,
    number,
    slot,
    string_list,
    text,
)  # fmt: skip

__all__ = ["read_all_images", "read_images", "read_own_images"]

_LOW_RESOLUTION = 600  # max side, in pixels, of the smaller of the two images of a tissue
_UNSCALED = "xenium"

Points = tuple[Sequence[str | None], NDArray[np.float64]]
"""The name of each point's cell, and x and y ``(n_points, 2)``."""


def read_images(value: RValue | None, cells: list[str], technology: str, findings: Findings) -> dict[str, TissueImage]:
    """Read the coordinates of every image, points matched to the cells by name; points of other cells are left out."""
    out: dict[str, TissueImage] = {}
    row_of = {name: row for row, name in reversed(list(enumerate(cells)))} if value is not None else {}
    for name, image in named(value):
        found = _points(image)
        if found is None:
            findings.fallback(
                f"images {name}", found=f"{describe(image)} without coordinates", advice="this image is left out"
            )
            continue
        names, points = found
        rows = np.array([row_of.get(cell or "", -1) for cell in names], np.int32)
        kept = (rows >= 0) & np.isfinite(points).all(axis=1)
        if not kept.any():
            findings.warning(
                f"images {name}", found=f"{len(rows)} points of none of the {len(cells)} cells",
                expected="a place for each cell", advice="this image is left out",
            )  # fmt: skip
            continue
        scale = 1.0 if technology == _UNSCALED else _scale(image)
        out[name] = TissueImage(rows[kept], np.ascontiguousarray(points[kept]), scale, _pixels(image))
    return out


def read_own_images(value: RValue | None, n_cells: int) -> dict[str, TissueImage]:
    """Read what cellworker keeps in ``misc$cellworker_images`` of an object that it wrote from another format."""
    out: dict[str, TissueImage] = {}
    for name, image in named(value):
        items = dict(named(image))
        cells, points, scale = items.get("cells"), _pairs(items.get("points")), number(items.get("scale"))
        if not isinstance(cells, RVector) or cells.kind != "integer" or points is None or len(points) != len(cells):
            continue
        if len(cells) and 1 <= cells.values.min() <= cells.values.max() <= n_cells:
            rows = (cells.values - 1).astype(np.int32)
            out[name] = TissueImage(rows, np.ascontiguousarray(points), scale or 1.0, _array(items.get("pixels")))
    return out


def read_all_images(
    value: RValue | None, own: RValue | None, cells: list[str], technology: str, findings: Findings
) -> dict[str, TissueImage]:
    """Read the object's images, and those that only cellworker's list has, in the list's order."""
    found = read_images(value, cells, technology, findings)
    return {name: found.get(name, image) for name, image in read_own_images(own, len(cells)).items()} | found


def _points(image: RValue) -> Points | None:
    boundaries = [boundary for _, boundary in named(slot(image, "boundaries"))]
    if boundaries:
        outlines = _outlines(boundaries[0])
        return outlines if outlines is not None else _centroids(boundaries[0])
    table = frame(slot(image, "coordinates"))
    if table is None:
        return None
    columns = [_column(table.get(name)) for name in ("imagecol", "imagerow")]
    if columns[0] is None or columns[1] is None:
        columns = [_column(table.get(name)) for name in ("x", "y")]
    x, y = columns
    names: Sequence[str | None] = string_list(table.get("cells")) or table.rows or []
    if x is None or y is None or not len(x) == len(y) == len(names):
        return None
    return names, np.stack([x, y], axis=1)


def _centroids(boundary: RValue) -> Points | None:
    names, points = string_list(slot(boundary, "cells")), _pairs(slot(boundary, "coords"))
    return None if points is None or len(names) != len(points) else (names, points)


def _outlines(boundary: RValue) -> Points | None:
    """Read a Segmentation: one table of vertices (SeuratObject 5.3 and later), else a polygon or more for each cell."""
    table = frame(slot(boundary, "sf.data"))
    if table is not None:
        x, y, names = _column(table.get("x")), _column(table.get("y")), string_list(table.get("cell"))
        if x is not None and y is not None and len(x) == len(y) == len(names):
            return names, np.stack([x, y], axis=1)
    polygons = slot(boundary, "polygons")
    if not isinstance(polygons, RList):
        return None
    owners: list[str] = []
    parts: list[NDArray[np.float64]] = []
    for cell in polygons.items:
        rings = slot(cell, "Polygons")
        for ring in rings.items if isinstance(rings, RList) else []:
            points = _pairs(slot(ring, "coords"))
            if points is not None:
                parts.append(points)
                owners += [text(slot(cell, "ID"))] * len(points)
    return (owners, np.concatenate(parts)) if parts else None


def _pairs(value: RValue | None) -> NDArray[np.float64] | None:
    """Return x and y of a matrix by their column names, else its first two columns."""
    shape = dim(value)
    if shape is None or shape[1] < 2 or not isinstance(value, RVector) or len(value) != shape[0] * shape[1]:
        return None
    names = dimnames(value)[1]
    titles = names.tolist() if names is not None else []
    columns = [titles.index("x"), titles.index("y")] if "x" in titles and "y" in titles else [0, 1]
    values = _column(value)
    return None if values is None else values.reshape(shape[1], shape[0]).T[:, columns]


def _column(value: RValue | None) -> NDArray[np.float64] | None:
    if not isinstance(value, RVector) or value.kind not in {"integer", "double"}:
        return None
    out = np.asarray(value.values, np.float64)
    return np.where(out == np.iinfo(np.int32).min, np.nan, out) if value.kind == "integer" else out


def _pixels(image: RValue) -> NDArray[np.uint8] | None:
    """Return the image that a Visium object holds, whose pixels the scaled places are in."""
    return _array(slot(image, "image"))


def _array(array: RValue | None) -> NDArray[np.uint8] | None:
    sides = attributes(array).get("dim")
    kinds = {"integer", "double", "raw"}
    if not isinstance(array, RVector) or array.kind not in kinds or not isinstance(sides, RVector):
        return None
    shape = [int(side) for side in sides.values if np.isfinite(side) and side > 0]
    if len(shape) != 3 or np.prod(shape, dtype=np.int64) != len(array) or shape[0] * shape[1] > MAX_PIXELS:
        return None
    return pixels_of(np.asarray(array.values).reshape(shape, order="F"))


def _scale(image: RValue) -> float:
    """Return the factor from full pixels to those of the image that the object holds; 1 where there is no image."""
    factors = slot(image, "scale.factors")
    sides = attributes(slot(image, "image")).get("dim")
    if not isinstance(image, RS4) or not isinstance(factors, RList) or not isinstance(sides, RVector):
        return 1.0
    resolution = "lowres" if np.any(sides.values[:2] <= _LOW_RESOLUTION) else "hires"
    factor = number(factors.get(resolution))
    return factor if factor is not None and factor > 0 else 1.0
