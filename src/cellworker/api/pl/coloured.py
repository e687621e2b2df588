"""The colours of cells: of groups, of numbers, of genes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cellworker.api.anndata.arguments import invalid
from cellworker.api.pl.canvas import MISSING, add_legend, add_scale, place_labels
from cellworker.api.pl.sources import Labels, Shown, values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

__all__ = ["BACKGROUND", "LEGENDS", "Coloured", "by_numbers", "coloured", "explain", "recoloured"]

LEGENDS = ("right", "on", "none")
BACKGROUND = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.7}
"""Behind text on points. A contour around the letters would make them paths in vector files, not editable text."""


@dataclass(frozen=True, slots=True)
class Coloured:
    """Colours of cells.

    Attributes
    ----------
    rgba
        float64 ``(n_cells, 4)``.
    order
        int64 ``(n_cells,)``: the order of drawing, the last on top.
    title
        The meaning of the colours; empty where they have none.
    labels
        The groups; None for numbers.
    norm
        The scale of numbers; None for groups.
    """

    rgba: NDArray[np.float64]
    order: NDArray[np.int64]
    title: str = ""
    labels: Labels | None = None
    norm: "Normalize | None" = None
    cmap: str = "viridis"


def recoloured(labels: Labels, palette: Mapping[str, str] | None) -> Labels:
    """Return the groups with some colours replaced.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` for what is no group, or no colour.
    """
    from matplotlib.colors import is_color_like  # noqa: PLC0415 only pictures need it

    if palette is None:
        return labels
    for name, color in palette.items():
        if name not in labels.names:
            raise invalid("palette", f"there is no group {name!r}; groups are {', '.join(map(repr, labels.names[:8]))}")
        if not is_color_like(color):
            raise invalid("palette", f"{color!r} is no colour; expected one like '#77aadd'")
    return replace(labels, colors=[palette.get(n, c) for n, c in zip(labels.names, labels.colors, strict=True)])


def coloured(
    of: Shown, color: str | None, *, palette: Mapping[str, str] | None = None, cmap: str = "viridis",
    limits: tuple[float, float] | None = None,
) -> Coloured:  # fmt: skip
    """Return the colours by a column, a class of cell sets, or a gene.

    Groups are mixed, so that none hides another; high numbers are drawn over low ones, and cells without a value below.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming `color`, `palette`, `cmap` or `limits`.
    """
    if color is None:
        return _of_groups(Labels(np.full(of.n_cells, 0), [""], ["#888888"], ""))
    if not of.has_column(color):
        return by_numbers(values_of(of, "color", color), color, cmap, limits)
    values = of.numbers(color)
    if values is None:
        return _of_groups(recoloured(of.labels("color", color).only("color", None), palette))
    return by_numbers(values, color, cmap, limits)


def _of_groups(labels: Labels) -> Coloured:
    from matplotlib.colors import to_rgba_array  # noqa: PLC0415 only pictures need it

    table = to_rgba_array([*labels.colors, MISSING])
    mixed = np.random.default_rng(0).permutation(len(labels.codes))
    order = mixed[np.argsort(labels.codes[mixed] >= 0, kind="stable")]
    return Coloured(table[labels.codes], order, labels.title, labels)


def by_numbers(
    values: NDArray[np.float64], title: str, cmap: str, limits: tuple[float, float] | None = None
) -> Coloured:
    """Return the colours by numbers, float64 ``(n_cells,)``, NaN where a cell has none.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming `cmap` or `limits`.
    """
    import matplotlib as mpl  # noqa: PLC0415 only pictures need it
    from matplotlib.colors import Normalize, to_rgba  # noqa: PLC0415

    if cmap not in mpl.colormaps:
        raise invalid("cmap", f"matplotlib has no colour map {cmap!r}; expected one like 'viridis', 'magma', 'RdBu_r'")
    if limits is not None and not (np.shape(limits) == (2,) and limits[0] < limits[1]):
        raise invalid("limits", f"expected two ascending numbers, found {limits!r}")
    there = np.isfinite(values)
    low, high = (values[there].min(), values[there].max()) if there.any() else (0.0, 1.0)
    ends = limits if limits is not None else (float(low), float(high if high > low else low + 1))
    norm = Normalize(*ends, clip=True)
    rgba = np.asarray(mpl.colormaps[cmap](norm(np.where(there, values, low))), np.float64)
    rgba[~there] = to_rgba(MISSING)
    order = np.argsort(np.where(there, values, -np.inf), kind="stable")
    return Coloured(rgba, order, title, None, norm, cmap)


def explain(ax: "Axes", how: Coloured, points: NDArray[np.float64], legend: str) -> None:
    """Say what the colours mean: a scale for numbers, a legend or names on the map for groups.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming `legend`.
    """
    from matplotlib.cm import ScalarMappable  # noqa: PLC0415 only pictures need it

    if legend not in LEGENDS:
        raise invalid("legend", f"expected one of {', '.join(map(repr, LEGENDS))}, found {legend!r}")
    if not how.title or legend == "none":
        return
    if how.labels is None:
        add_scale(ax, ScalarMappable(how.norm, how.cmap), how.title)
    elif legend == "right":
        add_legend(ax, how.labels, how.title, missing=bool((how.labels.codes < 0).any()))
    else:
        there = np.isfinite(points).all(axis=1)
        inside = [points[there & (how.labels.codes == i)] for i in range(len(how.labels.names))]
        names = [
            (np.median(mine, axis=0), name) for mine, name in zip(inside, how.labels.names, strict=True) if len(mine)
        ]
        ax.set_title(how.title)
        place_labels(
            ax, np.array([at for at, _ in names]).reshape(-1, 2), [name for _, name in names],
            centred=True, every=True, bbox=BACKGROUND, zorder=4,
        )  # fmt: skip
