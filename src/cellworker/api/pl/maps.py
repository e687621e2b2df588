"""Maps of cells: layouts, trajectories on them, tissues."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.api.anndata.arguments import number, one_of
from cellworker.api.anndata.checked import checked
from cellworker.api.pl.canvas import axes_of, bare, place_labels
from cellworker.api.pl.coloured import BACKGROUND, Coloured, by_numbers, coloured, explain
from cellworker.api.pl.drawn import drawn
from cellworker.api.pl.sources import Layout, Source, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["embedding", "tissue", "trajectory"]

Legend = Literal["right", "on", "none"]

_VECTOR_POINTS = 20_000
"""Clouds of more points become an image within the vector file: drawing programs choke on them."""


@checked
@drawn
def embedding(
    source: Source, color: str | None = None, *, basis: str = "umap", layer: str | None = None,
    use_raw: bool | None = None, palette: Mapping[str, str] | None = None, cmap: str = "viridis",
    limits: tuple[float, float] | None = None, legend: Legend = "right", size: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":  # fmt: skip
    """Draw a layout of the cells.

    Parameters
    ----------
    source
        An AnnData, or what `cellworker.open` returns.
    color
        A column of the cells, a class of cell sets, or a gene. Groups have the experiment's own colours.
    basis
        The layout: "umap", "tsne", "pca", or another that is there.
    layer, use_raw
        Where an AnnData's expression comes from; by default ``raw`` where there is one.
    palette
        Other colours of some groups.
    cmap, limits
        matplotlib's map of colours for numbers, and the values at its ends.
    legend
        "right" beside the axes, "on" writes the names on the map, or "none".
    size
        The area of a point in square points (1/72 inch).
    ax
        Axes to draw on; by default a figure of its own.

    Returns
    -------
    matplotlib.axes.Axes
        The axes; of cells without a place none is drawn.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument, ``R_WORKER_GENE_NOT_FOUND``.

    Examples
    --------
    >>> import cellworker as cw
    >>> experiment = cw.open(cw.sample_path())
    >>> ax = cw.pl.embedding(experiment, "CD3D")
    >>> len(ax.collections[0].get_offsets())
    548
    """
    of = shown(source, layer=layer, use_raw=use_raw)
    places = of.layout("basis", basis)
    how = coloured(of, color, palette=palette, cmap=cmap, limits=limits)
    return _draw(places, how, legend, size, ax)


def _draw(places: Layout, how: Coloured, legend: str, size: float | None, ax: "Axes | None") -> "Axes":
    ax = axes_of(ax)
    bare(ax, places.names)
    order = how.order[np.isfinite(places.points[how.order]).all(axis=1)]
    _scatter(ax, places.points[order], how.rgba[order], size)
    explain(ax, how, places.points, legend)
    return ax


def _scatter(ax: "Axes", points: NDArray[np.float64], rgba: NDArray[np.float64], size: float | None) -> None:
    area = float(np.clip(40_000 / max(1, len(points)), 1, 30)) if size is None else number("size", size)
    ax.scatter(points[:, 0], points[:, 1], s=area, c=rgba, linewidths=0, rasterized=len(points) > _VECTOR_POINTS)


@checked
@drawn
def trajectory(
    source: Source, color: str | None = None, *, key: str = "trajectory",
    nodes: Literal["ends", "all", "none"] = "ends", cmap: str = "viridis",
    legend: Legend = "right", size: float | None = None, ax: "Axes | None" = None,
) -> "Axes":  # fmt: skip
    """Draw the graph along which cells develop, on the layout that it was learned on.

    Parameters
    ----------
    source
        An AnnData after ``cellworker.tl.trajectory``, or an experiment after ``.trajectory()``.
    color
        As for `embedding`; by default pseudotime, where it was measured.
    key
        The key of an AnnData's ``uns``.
    nodes
        Which nodes are numbered, for ``pseudotime``: "ends" (and forks), "all", or "none"; of those, each for whose
        number there is a place.
    cmap, legend, size, ax
        As for `embedding`.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.

    Examples
    --------
    >>> import cellworker as cw
    >>> experiment = cw.open(cw.sample_path())
    >>> graph = experiment.trajectory()
    >>> ax = cw.pl.trajectory(experiment)
    >>> len(ax.collections[1].get_segments()) == len(graph.links)
    True
    """
    from matplotlib.collections import LineCollection  # noqa: PLC0415 only pictures need it

    one_of("nodes", nodes, ["ends", "all", "none"])
    of = shown(source)
    course = of.course(key)
    if color is None and course.pseudotime is not None:
        how = by_numbers(course.pseudotime, "pseudotime", cmap)
    else:
        how = coloured(of, color, cmap=cmap)
    ax = _draw(course.layout, how, legend, size, ax)
    ax.add_collection(LineCollection(list(course.nodes[course.links]), colors="black", linewidths=1, zorder=3))
    if nodes != "none":
        ax.scatter(
            course.nodes[:, 0], course.nodes[:, 1], s=8, c="white", edgecolors="black", linewidths=0.7, zorder=3.5
        )
        # Ends and forks first: they are what people start from.
        between = np.bincount(course.links.ravel(), minlength=len(course.nodes)) == 2
        order = np.argsort(between, kind="stable")
        order = order if nodes == "all" else order[: np.count_nonzero(~between)]
        place_labels(
            ax, course.nodes[order], [str(i) for i in order.tolist()],
            centred=False, every=False, fontsize="x-small", bbox=BACKGROUND, zorder=4,
        )  # fmt: skip
    return ax


@checked
@drawn
def tissue(
    source: Source, color: str | None = None, *, library: str | None = None, image: bool = True,
    layer: str | None = None, use_raw: bool | None = None, palette: Mapping[str, str] | None = None,
    cmap: str = "viridis", limits: tuple[float, float] | None = None, legend: Legend = "right",
    size: float | None = None, ax: "Axes | None" = None,
) -> "Axes":  # fmt: skip
    """Draw the cells at their places in the tissue, over its image if there is one.

    Parameters
    ----------
    source
        An AnnData with ``obsm["spatial"]`` (and ``uns["spatial"]`` as scanpy and squidpy have it), or an experiment
        with images.
    color, layer, use_raw, palette, cmap, limits, legend, ax
        As for `embedding`; "on" is the legend to the right here.
    library
        Which tissue, where there are several.
    image
        Whether the picture is drawn.
    size
        As for `embedding`; by default spots have their own diameter, where it is known.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, downwards as in the picture, both axes of one scale.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.

    Examples
    --------
    >>> import cellworker as cw
    >>> ax = cw.pl.tissue(cw.open("visium.h5ad"), "leiden")  # doctest: +SKIP
    """
    from matplotlib.collections import EllipseCollection, PolyCollection  # noqa: PLC0415 only pictures need it

    of = shown(source, layer=layer, use_raw=use_raw)
    found = of.tissue("library", library)
    how = coloured(of, color, palette=palette, cmap=cmap, limits=limits)
    ax = axes_of(ax)
    if image and found.picture is not None:
        ax.imshow(found.picture)
    cells, first, lengths = np.unique(found.cells, return_index=True, return_counts=True)
    if len(cells) < len(found.cells):  # outlines
        by_cell = np.argsort(found.cells, kind="stable")
        outlines = np.split(found.points[by_cell], np.cumsum(lengths)[:-1])
        ax.add_collection(PolyCollection(outlines, facecolors=list(how.rgba[cells]), linewidths=0))
    elif found.diameter is not None and size is None:
        width = np.full(len(cells), found.diameter)
        spots = EllipseCollection(
            width,
            width,
            np.zeros(len(cells)),
            units="xy",
            offsets=found.points[first],
            offset_transform=ax.transData,
            facecolors=list(how.rgba[cells]),
            linewidths=0,
        )
        ax.add_collection(spots)
    else:
        _scatter(ax, found.points[first], how.rgba[cells], size)
    ax.autoscale_view()
    ax.set_aspect("equal")
    if not ax.yaxis_inverted():
        ax.invert_yaxis()
    ax.set_axis_off()
    explain(ax, how, found.points, "right" if legend == "on" else legend)
    return ax
