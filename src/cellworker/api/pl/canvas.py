"""Shared parts of pictures: axes, legends, labels that do not overlap, files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from cellworker.api.anndata.arguments import invalid, whole_number
from cellworker.api.pl.drawn import made_by
from cellworker.api.pl.sources import Labels
from cellworker.formats.common.provenance import INSIDE, KEY, encode, stamp
from cellworker.version import __version__

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

__all__ = ["MISSING", "add_legend", "add_scale", "axes_of", "bare", "group_names", "place_labels", "save"]

MISSING = "#d3d3d3"
"""The colour of cells without a value."""

_FORMATS = (".svg", ".pdf", ".eps", ".png", ".tif", ".tiff", ".jpg")
_RASTER_DPI = 300
_MAX_DPI = 2400
"""More makes pixels by the gigabyte of a page, and no printer has it."""
_LEGEND_ROWS = 18  # entries of a legend's column
_GAP_PX = 2.0
_DIRECTIONS = 16
_RINGS = 60


def axes_of(ax: "Axes | None", size: tuple[float, float] = (5, 4)) -> "Axes":
    """Return the axes to draw on: those given, or new ones of `size` inches.

    Raises
    ------
    ImportError
        Saying how to get matplotlib.
    WorkerError
        ``INVALID_INPUT`` when `ax` is something else, such as the array that ``plt.subplots(2, 2)`` returns.
    """
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415 only pictures need it
        from matplotlib.axes import Axes  # noqa: PLC0415
    except ImportError as error:
        message = "pictures need matplotlib: install cellworker with its extra `plot`"
        raise ImportError(message) from error
    if ax is None:
        return plt.subplots(figsize=size, layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise invalid("ax", f"expected one matplotlib axes, found {type(ax).__name__}; of several give one: axes[0]")
    return ax


def bare(ax: "Axes", names: tuple[str, str]) -> None:
    """Make a map's axes: names without ticks, since the units of a layout mean nothing."""
    ax.set_xlabel(names[0], loc="left")
    ax.set_ylabel(names[1], loc="bottom")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[["top", "right"]].set_visible(False)


def group_names(ax: "Axes", names: Sequence[str]) -> None:
    """Write names below positions 0, 1, ...; slanted where they would run into each other."""
    longest = max(map(len, names), default=0)
    slanted = longest * len(names) > 40
    ax.set_xticks(range(len(names)), names, rotation=90 if slanted else 0, ha="center")


def add_legend(ax: "Axes", labels: Labels, title: str, *, missing: bool = False) -> None:
    """Add a legend of groups to the right of the axes."""
    from matplotlib.lines import Line2D  # noqa: PLC0415 only pictures need it

    named = [*zip(labels.names, labels.colors, strict=True), *([("(none)", MISSING)] if missing else [])]
    handles = [Line2D([], [], marker="o", linestyle="", color=color, label=name) for name, color in named]
    columns = -(-len(handles) // _LEGEND_ROWS)
    ax.legend(
        handles=handles,
        title=title,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        ncols=max(1, columns),
    )


def add_scale(ax: "Axes", drawn: Any, title: str) -> None:  # noqa: ANN401 matplotlib's mappables
    """Add the scale of colours to the right of the axes."""
    bar = figure_of(ax).colorbar(drawn, ax=ax, shrink=0.5, pad=0.02, aspect=15)
    bar.set_label(title)
    bar.outline.set_visible(False)


def figure_of(ax: "Axes") -> "Figure":
    """Return the figure of these axes, also where they are in a subfigure."""
    from matplotlib.figure import Figure  # noqa: PLC0415 only pictures need it

    found = ax.get_figure(root=True)
    assert isinstance(found, Figure)
    return found


def place_labels(
    ax: "Axes",
    points: NDArray[np.float64],
    texts: Sequence[str],
    *,
    centred: bool,
    every: bool,
    **style: Any,  # noqa: ANN401 matplotlib's properties of text
) -> "list[Text]":
    """Write labels at points so that none covers another; a line leads to the point of one that had to move.

    Each takes the nearest free place, rings around its point being tried from the inside out. That holds for the size
    that the figure has now.

    Parameters
    ----------
    points
        float64 ``(n_labels, 2)``, in data units.
    texts
        The labels, the most important first.
    centred
        Whether a label may be on its own point, and on others'; else labels also keep off the points.
    every
        Whether a label without space inside the axes is written beside them; else it is left out.
    style
        Of the text.
    """
    from matplotlib.collections import LineCollection  # noqa: PLC0415 only pictures need it

    figure_of(ax).draw_without_rendering()  # the layout settles, and pixels get their meaning
    frame = ax.get_window_extent()
    at = ax.transData.transform(points) if len(points) else np.empty((0, 2))
    dots = np.empty((0, 4)) if centred else np.hstack([at - 2, at + 2])
    taken, written, leaders = dots, [], []
    back = ax.transData.inverted()
    for place, text in zip(at, texts, strict=True):
        label = ax.text(0, 0, text, ha="center", va="center", **style)
        label.set_in_layout(False)
        box = label.get_window_extent()
        half = np.array([box.width, box.height]) / 2 + _GAP_PX
        middle = _free_place(place, half, taken, np.array(frame.extents), centred=centred, every=every)
        if middle is None:
            label.remove()
            continue
        label.set_position(tuple(back.transform(middle)))
        written.append(label)
        taken = np.vstack([taken, np.concatenate([middle - half, middle + half])])
        if (np.abs(middle - place) > half).any():
            edge = middle + np.clip(place - middle, -half, half)
            leaders.append(back.transform([place, edge]))
    if leaders:
        lines = LineCollection(leaders, colors="0.4", linewidths=0.5, zorder=2.5)
        lines.set_in_layout(False)
        ax.add_collection(lines, autolim=False)
    return written


def _free_place(
    place: NDArray[np.float64], half: NDArray[np.float64], taken: NDArray[np.float64], frame: NDArray[np.float64],
    *, centred: bool, every: bool,
) -> NDArray[np.float64] | None:  # fmt: skip
    angles = np.pi / 2 + 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    round_ = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for inside in (True, False) if every else (True,):
        for ring in range(0 if centred else 1, _RINGS if inside else 100 * _RINGS):
            # The first ring touches the point with the label's edge, the others are half a line further out each.
            reach = ring * half[1] if centred else (ring - 1) * half[1]
            moves = round_ * reach if centred else round_ * (half + 3 + reach)
            middles = place + (moves[:1] if ring == 0 else moves)
            low, high = middles - half, middles + half
            crossed = (low[:, None] < taken[:, 2:]) & (high[:, None] > taken[:, :2])
            free = ~crossed.all(axis=2).any(axis=1)
            if inside:
                free &= (low >= frame[:2]).all(axis=1) & (high <= frame[2:]).all(axis=1)
            if free.any():
                return np.asarray(middles[int(np.argmax(free))])
    return None


def save(ax: "Axes", path: str | Path, *, dpi: int = _RASTER_DPI) -> Path:
    """Write the figure of some axes, fit for a paper: text as text, fonts embedded, the same bytes each time.

    A PNG, SVG or PDF says in its metadata what made it, which ``cellworker replay`` reads.

    Parameters
    ----------
    ax
        The axes from a function of `cellworker.pl`.
    path
        Ends in ``.svg``, ``.pdf``, ``.eps``, ``.png``, ``.tif`` or ``.jpg``.
    dpi
        Pixels per inch of what is no vector, up to 2,400: large clouds of points, heat maps, images of tissues.

    Returns
    -------
    pathlib.Path
        The written file.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.

    Examples
    --------
    >>> import cellworker as cw
    >>> experiment = cw.open(cw.sample_path())
    >>> ax = cw.pl.embedding(experiment, "louvain", basis="umap")
    >>> cw.pl.save(ax, "umap.svg").name
    'umap.svg'
    """
    import matplotlib as mpl  # noqa: PLC0415 only pictures need it

    figure, goal = figure_of(axes_of(ax)), Path(path)
    whole_number("dpi", dpi, 1, _MAX_DPI)
    if goal.suffix.lower() not in _FORMATS:
        raise invalid("path", f"expected a name that ends in {', '.join(_FORMATS)}, found {goal.name!r}")
    maker, records = f"cellworker {__version__}", made_by(figure)
    if records and dpi != _RASTER_DPI:
        records[-1] = structs.replace(records[-1], parameters={**records[-1].parameters, "dpi": dpi})
    metadata: dict[str, dict[str, str | None]] = {
        ".svg": {"Creator": maker, "Date": None},
        ".pdf": {
            "Creator": maker,
            "CreationDate": None,
            **({"Keywords": f"{KEY} {encode(records)}"} if records else {}),
        },
        ".png": {"Software": maker},
    }
    # Fonts: in SVG as text, in PDF and PostScript as TrueType (42), which drawing programs can edit.
    fonts: Any = {"svg.fonttype": "none", "svg.hashsalt": "cellworker", "pdf.fonttype": 42, "ps.fonttype": 42}
    with mpl.rc_context(fonts):
        figure.savefig(goal, dpi=dpi, bbox_inches="tight", metadata=metadata.get(goal.suffix.lower()))
    if records and goal.suffix.lower() in INSIDE:
        stamp(goal, records, kind=goal.suffix.lower())
    return goal
