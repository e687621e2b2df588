"""The composition of groups."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellworker.api.anndata.checked import checked
from cellworker.api.pl.canvas import add_legend, axes_of, group_names
from cellworker.api.pl.coloured import recoloured
from cellworker.api.pl.drawn import drawn
from cellworker.api.pl.sources import Source, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["composition"]


@checked
@drawn
def composition(
    source: Source, of: str, by: str | None = None, *, groups: Sequence[str] | None = None, counts: bool = False,
    palette: Mapping[str, str] | None = None, ax: "Axes | None" = None,
) -> "Axes":  # fmt: skip
    """Draw which share of each group's cells belongs to which other group, as of samples to clusters.

    Parameters
    ----------
    source
        An AnnData, or what `cellworker.open` returns.
    of
        The column or class of the bars, for example the samples.
    by
        The column or class of the parts, which have the experiment's own colours; by default the clusters.
    groups
        Names of some bars, in the order to draw.
    counts
        Whether to show counts of cells instead of shares.
    palette, ax
        As for `embedding`.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: a bar per group, with a container of patches for each part. Shares are of the cells that belong to a
        part.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.

    Examples
    --------
    >>> import cellworker as cw
    >>> experiment = cw.open(cw.sample_path())
    >>> ax = cw.pl.composition(experiment, "sample", "louvain")
    >>> len(ax.containers) == len(experiment.cell_sets.find_class("louvain").children)
    True
    """
    data = shown(source)
    bars = data.labels("of", of).only("groups", groups)
    parts = recoloured(data.labels("by", by).only("by", None), palette)
    both = (bars.codes >= 0) & (parts.codes >= 0)
    table = np.zeros((len(parts.names), len(bars.names)))
    np.add.at(table, (parts.codes[both], bars.codes[both]), 1)
    if not counts:
        table /= np.maximum(1, table.sum(axis=0))
    ax = axes_of(ax, (max(3, 2 + 0.4 * len(bars.names)), 3.5))
    below = np.cumsum(table, axis=0) - table
    for heights, bottom, name, color in zip(table, below, parts.names, parts.colors, strict=True):
        ax.bar(range(len(bars.names)), heights, 0.85, bottom=bottom, color=color, label=name)
    group_names(ax, bars.names)
    ax.set_xlabel(bars.title)
    ax.set_ylabel("cells" if counts else "share of cells")
    ax.spines[["top", "right"]].set_visible(False)
    add_legend(ax, parts, parts.title)
    return ax
