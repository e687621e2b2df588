"""Distributions of values, group by group."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cellworker.api.anndata.arguments import invalid
from cellworker.api.anndata.checked import checked
from cellworker.api.pl.canvas import axes_of, group_names
from cellworker.api.pl.coloured import recoloured
from cellworker.api.pl.drawn import drawn
from cellworker.api.pl.sources import Source, shown, values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["violin"]


@checked
@drawn
def violin(
    source: Source, of: str, by: str | None = None, *, groups: Sequence[str] | None = None, points: bool = False,
    layer: str | None = None, use_raw: bool | None = None, palette: Mapping[str, str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":  # fmt: skip
    """Draw how a gene's expression, or a number of the cells, is spread in each group.

    Parameters
    ----------
    source
        An AnnData, or what `cellworker.open` returns.
    of
        A gene, or a column of numbers.
    by
        The column or class of groups; by default the clusters.
    groups
        Names of some groups, in the order to draw.
    points
        Whether each cell is a point, too.
    layer, use_raw, palette, ax
        As for `embedding`.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: a violin per group (Gaussian kernel, Scott's width), its middle quartiles and its median.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument, ``R_WORKER_GENE_NOT_FOUND``.

    Examples
    --------
    >>> import cellworker as cw
    >>> experiment = cw.open(cw.sample_path())
    >>> ax = cw.pl.violin(experiment, "CD3D", "louvain")
    >>> ax.get_ylabel()
    'CD3D'
    """
    data = shown(source, layer=layer, use_raw=use_raw)
    labels = recoloured(data.labels("by", by).only("groups", groups), palette)
    values = data.numbers(of) if data.has_column(of) else values_of(data, "of", of)
    if values is None:
        raise invalid("of", f"{of!r} holds labels, not numbers; expected a gene or a column of numbers")
    ax = axes_of(ax, (max(3, 1 + 0.5 * len(labels.names)), 3.5))
    inside = [values[(labels.codes == i) & np.isfinite(values)] for i in range(len(labels.names))]
    full = [i for i, mine in enumerate(inside) if len(mine)]
    if full:
        drawn = ax.violinplot([inside[i] for i in full], full, widths=0.85, showextrema=False)
        bodies: Any = drawn["bodies"]
        for body, i in zip(bodies, full, strict=True):
            body.set(facecolor=labels.colors[i], edgecolor="black", linewidth=0.5, alpha=1)
        quartiles = np.array([np.quantile(inside[i], [0.25, 0.5, 0.75]) for i in full])
        ax.vlines(full, quartiles[:, 0], quartiles[:, 2], colors="black", linewidth=3)
        ax.scatter(full, quartiles[:, 1], s=12, c="white", edgecolors="black", linewidths=0.5, zorder=4)
    if points:
        beside = np.random.default_rng(0).uniform(-0.3, 0.3, len(values))
        there = (labels.codes >= 0) & np.isfinite(values)
        ax.scatter(labels.codes[there] + beside[there], values[there], s=2, c="black", linewidths=0, rasterized=True)
    group_names(ax, labels.names)
    ax.set_xlabel(labels.title)
    ax.set_ylabel(of)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
