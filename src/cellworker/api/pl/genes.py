"""Genes of groups: as dots, and cell by cell."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from cellworker.api.anndata.arguments import invalid, names_of, whole_number
from cellworker.api.anndata.checked import checked
from cellworker.api.pl.canvas import add_scale, axes_of
from cellworker.api.pl.coloured import recoloured
from cellworker.api.pl.drawn import drawn
from cellworker.api.pl.sources import Source, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["dotplot", "heatmap"]

_LARGEST_DOT = 120.0
_SHOWN_FRACTIONS = (0.25, 0.5, 1.0)
_Z_LIMIT = 2.5


def _named(genes: str | Iterable[str] | Mapping[str, Iterable[str]]) -> tuple[list[str], list[tuple[str, int, int]]]:
    """Return the genes, and of each part its name and its first and last place."""
    if isinstance(genes, str):
        genes = [genes]
    names: list[str] = []
    parts: list[tuple[str, int, int]] = []
    if not isinstance(genes, Mapping):
        names = list(genes)
    else:
        for part, some in genes.items():
            mine = names_of(some)
            if mine:
                parts.append((str(part), len(names), len(names) + len(mine) - 1))
            names += mine
    if not names:
        raise invalid("genes", "expected genes, as ['CD3D', 'MS4A1'] or {'B': ['MS4A1', 'CD79A']}; found none")
    return names, parts


@checked
@drawn
def dotplot(
    source: Source, genes: str | Iterable[str] | Mapping[str, Iterable[str]], by: str | None = None, *,
    groups: Sequence[str] | None = None, scale: bool = False, layer: str | None = None, use_raw: bool | None = None,
    cmap: str = "Reds", ax: "Axes | None" = None,
) -> "Axes":  # fmt: skip
    """Draw a dot for each gene and group: its area is the share of cells that express, its colour the mean expression.

    Parameters
    ----------
    source
        An AnnData, or what `cellworker.open` returns.
    genes
        Names; or names by title, as ``{"B": ["MS4A1", "CD79A"]}``.
    by
        The column or class of groups; by default the clusters.
    groups
        Names of some groups, in the order to draw.
    scale
        Whether each gene's means are stretched from 0 to 1.
    layer, use_raw, cmap, ax
        As for `embedding`.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: genes across, groups downwards.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument, ``R_WORKER_GENE_NOT_FOUND``.

    Examples
    --------
    >>> import cellworker as cw
    >>> experiment = cw.open(cw.sample_path())
    >>> ax = cw.pl.dotplot(experiment, {"T": ["CD3D", "CD3E"], "B": ["MS4A1"]}, "louvain")
    >>> [text.get_text() for text in ax.get_xticklabels()]
    ['CD3D', 'CD3E', 'MS4A1']
    """
    from matplotlib.lines import Line2D  # noqa: PLC0415 only pictures need it

    names, parts = _named(genes)
    data = shown(source, layer=layer, use_raw=use_raw)
    labels = data.labels("by", by).only("groups", groups)
    values = data.expression(names)
    inside = [values[labels.codes == i] for i in range(len(labels.names))]
    empty = np.full(len(names), np.nan)
    means = np.array([mine.mean(axis=0, dtype=np.float64) if len(mine) else empty for mine in inside])
    shares = np.array([(mine > 0).mean(axis=0) if len(mine) else np.zeros(len(names)) for mine in inside])
    if scale:
        low, high = np.nanmin(means, axis=0), np.nanmax(means, axis=0)
        means = (means - low) / np.where(high > low, high - low, 1)
    ax = axes_of(ax, (2.5 + 0.35 * len(names), 1.5 + 0.3 * len(inside)))
    columns, rows = np.meshgrid(np.arange(len(names)), np.arange(len(inside)))
    drawn = ax.scatter(
        columns.ravel(), rows.ravel(), s=_LARGEST_DOT * shares.ravel(), c=means.ravel(), cmap=cmap,
        edgecolors="0.5", linewidths=0.3,
    )  # fmt: skip
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_yticks(range(len(inside)), labels.names)
    ax.set(xlim=(-0.7, len(names) - 0.3), ylim=(len(inside) - 0.3, -0.7), ylabel=labels.title)
    for title, first, last in parts:
        ax.annotate(
            title, ((first + last) / 2, 1.02), xycoords=("data", "axes fraction"), ha="center", va="bottom",
            rotation=90 if len(title) > 4 * (last - first + 1) else 0,
        )  # fmt: skip
        if last < len(names) - 1:
            ax.axvline(last + 0.5, color="0.8", linewidth=0.5, zorder=0)
    add_scale(ax, drawn, "mean, scaled" if scale else "mean expression")
    handles = [
        Line2D([], [], marker="o", linestyle="", color="0.5", markersize=(_LARGEST_DOT * f) ** 0.5, label=f"{f:.0%}")
        for f in _SHOWN_FRACTIONS
    ]
    ax.legend(
        handles=handles, title="cells that express", ncols=len(handles), frameon=False,
        loc="upper left", bbox_to_anchor=(1.01, 0.0),
    )  # fmt: skip
    return ax


@checked
@drawn
def heatmap(
    source: Source, genes: str | Iterable[str] | Mapping[str, Iterable[str]], by: str | None = None, *,
    groups: Sequence[str] | None = None, values: Literal["z", "expression"] = "z", max_cells: int = 2000,
    layer: str | None = None, use_raw: bool | None = None, palette: Mapping[str, str] | None = None,
    cmap: str | None = None, ax: "Axes | None" = None,
) -> "Axes":  # fmt: skip
    """Draw the expression of genes (downwards) in cells (across), group by group.

    Parameters
    ----------
    source
        An AnnData, or what `cellworker.open` returns.
    genes
        Names; or names by title.
    by
        The column or class of groups; by default the clusters.
    groups
        Names of some groups, in the order to draw.
    values
        "z": each gene less its mean, by its standard deviation over the cells of all groups drawn, from -2.5 to 2.5;
        or "expression" as it is.
    max_cells
        Of more cells an even share of each group is drawn, at least one cell.
    layer, use_raw, palette, cmap, ax
        As for `embedding`.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, with a strip of the groups' colours on top.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument, ``R_WORKER_GENE_NOT_FOUND``.

    Examples
    --------
    >>> import cellworker as cw
    >>> experiment = cw.open(cw.sample_path())
    >>> best = experiment.markers("louvain", n=2)["gene"].unique()
    >>> ax = cw.pl.heatmap(experiment, best, "louvain")
    >>> ax.images[0].get_array().shape == (len(best), 548)
    True
    """
    from matplotlib.colors import to_rgba_array  # noqa: PLC0415 only pictures need it

    if values not in ("z", "expression"):
        raise invalid("values", f"expected 'z' or 'expression', found {values!r}")
    whole_number("max_cells", max_cells, 1)
    names, parts = _named(genes)
    data = shown(source, layer=layer, use_raw=use_raw)
    labels = recoloured(data.labels("by", by).only("groups", groups), palette)
    found = data.expression(names).astype(np.float64)
    rows = [np.flatnonzero(labels.codes == i) for i in range(len(labels.names))]
    total = sum(map(len, rows))
    if not total:
        raise invalid("groups", "the groups have no cells")
    if values == "z":
        all_rows = np.concatenate(rows)
        deviation = found[all_rows].std(axis=0)
        found = np.clip(
            (found - found[all_rows].mean(axis=0)) / np.where(deviation > 0, deviation, 1), -_Z_LIMIT, _Z_LIMIT
        )
    if total > max_cells:
        rows = [mine[_even(len(mine), max(1, len(mine) * max_cells // total))] for mine in rows]
    order = np.concatenate(rows)
    ax = axes_of(ax, (6, 1.5 + 0.2 * len(names)))
    style = (
        {"cmap": cmap or "RdBu_r", "vmin": -_Z_LIMIT, "vmax": _Z_LIMIT}
        if values == "z"
        else {"cmap": cmap or "viridis"}
    )
    drawn = ax.imshow(found[order].T, aspect="auto", interpolation="nearest", **style)
    ax.set_yticks(range(len(names)), names)
    ax.set_xticks([])
    ends = np.cumsum([len(mine) for mine in rows])
    for end in ends[:-1].tolist():
        ax.axvline(end - 0.5, color="white", linewidth=0.8)
    for _, first, _last in parts[1:]:
        ax.axhline(first - 0.5, color="white", linewidth=0.8)
    strip = ax.inset_axes((0, 1.01, 1, 0.04))
    strip.imshow(to_rgba_array(labels.colors)[labels.codes[order]][None], aspect="auto", interpolation="nearest")
    middles = [end - len(mine) / 2 - 0.5 for end, mine in zip(ends.tolist(), rows, strict=True)]
    strip.xaxis.tick_top()
    slanted = max(map(len, labels.names)) * len(labels.names) > 50
    strip.set_xticks(middles, labels.names, rotation=90 if slanted else 0)
    strip.set_yticks([])
    strip.tick_params(length=0)
    add_scale(ax, drawn, "z" if values == "z" else "expression")
    return ax


def _even(n: int, k: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Return `k` places evenly spread over `n`."""
    return (np.arange(min(n, k)) * n // max(1, min(n, k))).astype(np.int64)
