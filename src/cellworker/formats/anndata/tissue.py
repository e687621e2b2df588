"""Where cells are on images of tissues, in an AnnData file: our own note of it, else scanpy's and squidpy's form.

``obsm["spatial"]`` has a place for each cell, in pixels of the full image. ``uns["spatial"][LIBRARY]`` has
``images["hires"]`` or ``images["lowres"]`` and in ``scalefactors`` what turns those places into its pixels. Where there
are several libraries, ``obs["library_id"]`` says on which one a cell is.
"""

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import Categorical, Column, TissueImage
from cellworker.formats.anndata.containers.tree import Node, TreeGroup
from cellworker.formats.anndata.elements import is_array, is_group, members, text_of
from cellworker.formats.anndata.writer import IMAGES
from cellworker.formats.common.pixels import MAX_PIXELS, pixels_of

__all__ = ["pixels_at", "read_tissue", "spot_of"]

_BEST_FIRST = ("hires", "lowres")


def read_tissue(root: TreeGroup, n_cells: int, library_of: Column | None) -> dict[str, TissueImage]:
    """Return the images of a file by their names; empty where it has none.

    Parameters
    ----------
    root
        The file.
    library_of
        The column ``library_id``.
    """
    return _own(root, n_cells) or _of_scanpy(root, n_cells, library_of)


def _own(root: TreeGroup, n_cells: int) -> dict[str, TissueImage]:
    """Return what cellworker wrote."""
    out: dict[str, TissueImage] = {}
    for _, image in sorted(members(root.get(IMAGES)), key=lambda item: (len(item[0]), item[0])):
        cells, points, scale = (image.get(name) if is_group(image) else None for name in ("cells", "points", "scale"))
        names = text_of(image.get("name")) if is_group(image) else None
        if not names or not names[0] or not is_array(cells) or not is_array(points) or not is_array(scale):
            continue
        rows, places, factor = cells.read(), points.read(), scale.read().ravel()
        if len(rows) and places.shape == (len(rows), 2) and 0 <= rows.min() <= rows.max() < n_cells and len(factor):
            pixels = _pixels(image.get("pixels") if is_group(image) else None)
            out[names[0]] = TissueImage(
                rows.astype(np.int32), places.astype(np.float64), float(factor[0]), pixels
            )  # fmt: skip
    return out


def _of_scanpy(root: TreeGroup, n_cells: int, library_of: Column | None) -> dict[str, TissueImage]:
    spatial = root.get("obsm/spatial")
    libraries = [(name, node) for name, node in members(root.get("uns/spatial")) if is_group(node)]
    if not is_array(spatial) or not libraries or spatial.shape[:1] != (n_cells,):
        return {}
    if len(spatial.shape) != 2 or spatial.shape[1] < 2 or spatial.dtype is None or spatial.dtype.kind not in "iuf":
        return {}
    places = spatial.read().astype(np.float64)[:, :2]
    out = {}
    for name, library in libraries:
        rows = _rows(name, len(libraries), n_cells, library_of)
        rows = rows[np.isfinite(places[rows]).all(axis=1)]
        if len(rows):
            _, scale, pixels = _finest(library)
            out[name] = TissueImage(rows, np.ascontiguousarray(places[rows]), scale, pixels)
    return out


def _rows(name: str, libraries: int, n_cells: int, library_of: Column | None) -> NDArray[np.int32]:
    """Return the cells that are on an image: all where there is one, else those of its library."""
    if libraries == 1:
        return np.arange(n_cells, dtype=np.int32)
    if not isinstance(library_of, Categorical) or name not in library_of.categories:
        return np.empty(0, np.int32)
    return np.flatnonzero(library_of.codes == library_of.categories.index(name)).astype(np.int32)


def _finest(library: TreeGroup) -> tuple[str, float, NDArray[np.uint8] | None]:
    """Return the finest image that can be shown: its name, the factor from the cells' places to pixels, the pixels."""
    for which in _BEST_FIRST:
        scale = _factor(library, which)
        pixels = _pixels(library.get(f"images/{which}")) if scale > 0 else None
        if pixels is not None:
            return which, scale, pixels
    return "", 1.0, None


def pixels_at(root: TreeGroup, name: str) -> tuple[tuple[str, ...], Node | None]:
    """Return where scanpy's form has the pixels of the image that `read_tissue` gives under a name, and the array."""
    library = root.get(f"uns/spatial/{name}")
    if is_group(library) and not is_group(root.get(IMAGES)):
        which, _, pixels = _finest(library)
        if pixels is not None:
            return ("uns", "spatial", name, "images", which), library.get(f"images/{which}")
    return (), None


def spot_of(root: TreeGroup, name: str) -> tuple[float, float]:
    """Return the diameters of a spot and of a fiducial mark, in pixels of the full image; NaN where nothing says it."""
    spot, fiducial = (
        _number(root.get(f"uns/spatial/{name}/scalefactors/{what}_diameter_fullres")) for what in ("spot", "fiducial")
    )
    return spot, fiducial


def _number(node: Node | None) -> float:
    if not is_array(node) or node.dtype is None or node.dtype.kind not in "iuf":
        return np.nan
    values = np.asarray(node.read()).ravel()
    return float(values[0]) if len(values) else np.nan


def _factor(library: TreeGroup, which: str) -> float:
    """Return the factor from the cells' places to the pixels of one image; 0 where there is none that can be."""
    scale = _number(library.get(f"scalefactors/tissue_{which}_scalef"))
    return scale if np.isfinite(scale) and scale > 0 else 0.0


def _pixels(image: Node | None) -> NDArray[np.uint8] | None:
    if not is_array(image) or len(image.shape) not in (2, 3) or not 0 < image.shape[0] * image.shape[1] <= MAX_PIXELS:
        return None
    return pixels_of(image.read()) if image.dtype is not None and image.dtype.kind in "biuf" else None
