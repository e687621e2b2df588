"""Images of tissues in an R object: as Seurat's own class VisiumV1, and in the form that cellworker reads again.

Seurat draws an image whose pixels are in the object with one spot for each cell. All other images (no pixels, outlines
of cells) are in ``misc$cellworker_images`` with their places, and with their pixels, where they have any, as bytes.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import Experiment, TissueImage
from cellworker.formats.r.rds.build import data_frame, doubles, integers, matrix, named_list, strings
from cellworker.formats.r.rds.model import RS4, RList, RValue, RVector

__all__ = ["Spot", "own_images", "seurat_images"]

Spot = tuple[float, float]
"""Diameters of a spot and of a fiducial mark, in pixels of the full image; NaN where the source does not say."""
_UNSCALED = "xenium"
"""Whose places Seurat and cellworker take as they are."""
_FULL = 255.0


def own_images(experiment: Experiment, *, without_pixels: Mapping[str, object] | None = None) -> RValue:
    """Return where the cells are on images, and the pixels, in the form in which cellworker reads them again.

    Parameters
    ----------
    without_pixels
        Images whose pixels are elsewhere in the object.
    """
    elsewhere = without_pixels or {}
    out: dict[str, RValue] = {}
    for name, image in experiment.images.items():
        items: dict[str, RValue] = {
            "cells": integers(image.cells + 1), "points": matrix(image.points, None, ["x", "y"]),
            "scale": doubles([image.scale]),
        }  # fmt: skip
        if image.pixels is not None and name not in elsewhere:
            items["pixels"] = RVector(image.pixels.ravel(order="F"), "raw", {"dim": integers(image.pixels.shape)})
        out[name] = named_list(items)
    return named_list(out)


def seurat_images(experiment: Experiment, spots: Mapping[str, Spot]) -> dict[str, RS4]:
    """Return the images that Seurat's class VisiumV1 holds, by name: with pixels, and with one place for each cell.

    Parameters
    ----------
    spots
        What the source says of the sizes of spots, by image.
    """
    if experiment.misc.technology == _UNSCALED:
        return {}
    keys = _keys(experiment)
    return {
        name: _visium(experiment, image, spots.get(name, (np.nan, np.nan)), next(keys))
        for name, image in experiment.images.items()
        if image.pixels is not None and len(np.unique(image.cells)) == len(image.cells)
    }


def _keys(experiment: Experiment) -> Iterator[str]:
    """Give keys that no reduction has."""
    taken, number = {reduction.key for reduction in experiment.reductions.values()}, 0
    while True:
        number += 1
        if f"slice{number}_" not in taken:
            yield f"slice{number}_"


def _visium(experiment: Experiment, image: TissueImage, spot: Spot, key: str) -> RS4:
    assert image.pixels is not None
    shape = image.pixels.shape
    pixels = RVector(image.pixels.ravel(order="F") / _FULL, "double", {"dim": integers(shape)})
    rows = [_rows(experiment, name, image.cells) for name in ("array_row", "array_col")]
    table = data_frame(
        {
            "tissue": integers(np.ones(len(image.cells))), "row": rows[0], "col": rows[1],
            "imagerow": doubles(image.points[:, 1]), "imagecol": doubles(image.points[:, 0]),
        },
        [experiment.barcodes[cell] for cell in image.cells.tolist()],
    )  # fmt: skip
    # Seurat draws with "lowres" unless it is told otherwise: both are the factor to the pixels that are here.
    factors = RList(
        [doubles([value]) for value in (*spot, image.scale, image.scale)],
        {"names": strings(["spot", "fiducial", "hires", "lowres"]), "class": strings("scalefactors")},
    )
    # As Seurat's Read10X_Image has it: of the fiducial mark, in shares of the image's longer side.
    size = spot[1] if np.isfinite(spot[1]) else _distance(image.points) / 2
    radius = size * image.scale / max(shape)
    return RS4(
        "VisiumV1", "Seurat",
        {"image": pixels, "scale.factors": factors, "coordinates": table, "spot.radius": doubles([radius]),
         "assay": strings("RNA"), "key": strings(key)},
    )  # fmt: skip


def _rows(experiment: Experiment, name: str, cells: NDArray[np.int32]) -> RVector:
    """Return a column that scanpy reads of a slide; NA where there is none."""
    column = experiment.metadata.get(name)
    if isinstance(column, np.ndarray) and column.dtype.kind in "iu" and np.abs(column).max(initial=0) < 2**31:
        return integers(column[cells])
    return integers(np.full(len(cells), -(2**31)))


def _distance(points: NDArray[np.float64]) -> float:
    """Return how far apart neighbouring points are; 1 where there are no two."""
    from scipy.spatial import cKDTree  # noqa: PLC0415 - half a second that objects without images do not need

    if len(points) < 2:
        return 1.0
    distances, _ = cKDTree(points).query(points, k=2)
    return float(np.median(distances[:, 1])) or 1.0
