"""Selections of cells: keys or names of sets, barcodes, a mask, or a pandas query."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import NDArray

from cellworker.api.anndata.arguments import invalid
from cellworker.api.queries import QueryError, queried, values_shown
from cellworker.experiment.cell_sets import CellClass, CellSet, CellSets
from cellworker.experiment.model import Experiment

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["Cells", "NamedSets", "chosen_sets", "described", "find_class", "labels_by_row", "rows_of"]

Cells = Union[str, Sequence[str], NDArray[np.bool_], "Series"]
"""A key or name of a set or class, a query of pandas over the cells' columns; several keys or barcodes; a mask."""

_SHOWN = 6
_NAMED = 3  # of more, the number of cells is said


@dataclass(frozen=True, slots=True)
class NamedSets(CellSets):
    """Cell sets that show themselves as a table when they are called."""

    def __call__(self) -> "DataFrame":
        """Return one row per set: class, key, name, number of cells, colour."""
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        rows = [(item.key, child.key, child.name, len(child.cell_ids), child.color) for item, child in self.sets()]
        return pd.DataFrame(rows, columns=["class", "key", "name", "n_cells", "color"])


def find_class(cell_sets: CellSets, argument: str, name: str | None) -> CellClass:
    """Return a class by its key, column or name; None is the clusters in use.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` listing the classes.
    """
    found = cell_sets.clusters if name is None else cell_sets.find_class(name)
    found = found or next((item for item in cell_sets.classes if item.name == name), None)
    if found is None or not found.children:
        known = ", ".join(repr(item.key) for item in cell_sets.classes if item.children)
        raise invalid(
            argument, f"there is no class of cell sets {name!r}; expected one of {known or '(there is none)'}"
        )
    return found


def labels_by_row(experiment: Experiment, item: CellClass) -> NDArray[Any]:
    """Return the name of each cell's set, object ``(n_cells,)``, None for cells in none."""
    out = np.full(experiment.n_cells, None, object)
    for child in item.children:
        rows = experiment.positions(child.cell_ids)
        out[rows[rows >= 0]] = child.name
    return out


def rows_of(
    experiment: Experiment, cell_sets: CellSets, frame: "DataFrame", argument: str, cells: Cells
) -> NDArray[np.int64]:
    """Return the rows of cells, ascending.

    Parameters
    ----------
    experiment, cell_sets
        Whose cells.
    frame
        The cells' columns, indexed by barcode, for queries.
    argument
        The argument's name, for errors.
    cells
        The user's selection.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument and valid values.
    """
    if isinstance(cells, str):
        found = _named(experiment, cell_sets, cells)
        rows = _queried(frame, cell_sets, argument, cells) if found is None else found
    elif hasattr(cells, "columns"):
        raise invalid(argument, "expected a mask, barcodes or keys of cell sets, found a table; choose a column of it")
    elif _is_mask(cells):
        rows = _masked(frame, argument, cells)
    else:
        rows = _listed(experiment, cell_sets, frame, argument, cells)
    if not len(rows):
        hint = values_shown(frame, cells) if isinstance(cells, str) and cells not in cell_sets.keys else ""
        message = f"no cell is chosen by {described(cells, rows)}; choose at least one"
        raise invalid(argument, f"{message}: {hint}" if hint else message)
    return rows


def _is_mask(cells: Any) -> bool:  # noqa: ANN401
    """Whether all that is said is true, false or missing, and something is not missing."""
    if getattr(cells, "dtype", None) in (np.bool_, "boolean"):
        return True
    known = (value for value in cells if not _is_missing(value))
    return isinstance(next(known, None), bool | np.bool_) and all(isinstance(value, bool | np.bool_) for value in known)


def _is_missing(value: Any) -> bool:  # noqa: ANN401
    import pandas as pd  # noqa: PLC0415 only notebooks need it

    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _named(experiment: Experiment, cell_sets: CellSets, name: str) -> NDArray[np.int64] | None:
    known = set(cell_sets.keys)
    if name not in known and cell_sets.find_set(name) is None and cell_sets.find_class(name) is None:
        named = [child for _, child in cell_sets.sets() if child.name == name]
        if len(named) != 1:
            return None
        ids = named[0].cell_ids
    else:
        ids = cell_sets.cells_of(name)
    rows = experiment.positions(ids)
    return np.unique(rows[rows >= 0]).astype(np.int64)


def _queried(frame: "DataFrame", cell_sets: CellSets, argument: str, text: str) -> NDArray[np.int64]:
    if text in frame.index:
        return np.flatnonzero(frame.index == text)
    try:
        return np.flatnonzero(queried(frame, text))
    except QueryError as error:
        why = f" ({error})" if str(error) else ""
        keys = ", ".join(repr(key) for key in cell_sets.keys[:_SHOWN])
        columns = ", ".join(map(str, frame.columns[:_SHOWN]))
        raise invalid(
            argument,
            f"{text!r} is no cell set, barcode or query{why}; sets are {keys}, ..., a query is about columns "
            f"({columns}, ...), as \"n_genes > 200 and leiden == '0'\"",
        ) from None


def _masked(frame: "DataFrame", argument: str, cells: Any) -> NDArray[np.int64]:  # noqa: ANN401
    index = getattr(cells, "index", None)
    if index is not None and not callable(index) and hasattr(cells, "reindex") and len(frame.index.intersection(index)):
        if not frame.index.isin(index).all():
            raise invalid(argument, "the mask's index does not hold every barcode of the experiment")
        if not index.is_unique:
            raise invalid(argument, f"the mask's index holds {index[index.duplicated()][0]!r} more than once")
        cells = cells.reindex(frame.index)
    if getattr(cells, "ndim", 1) != 1:
        raise invalid(argument, f"the mask must have one dimension, found an array of {cells.ndim}: use mask.ravel()")
    if getattr(cells, "dtype", None) != np.bool_:
        cells = list(cells)
        if any(map(_is_missing, cells)):
            raise invalid(argument, "the mask has missing values; fill them, as mask.fillna(False)")
    mask = np.asarray(cells, np.bool_)
    if mask.shape != (len(frame),):
        raise invalid(argument, f"the mask must have {len(frame)} values, one for each cell; found {len(mask)}")
    return np.flatnonzero(mask)


def _listed(
    experiment: Experiment,
    cell_sets: CellSets,
    frame: "DataFrame",
    argument: str,
    cells: Any,  # noqa: ANN401
) -> NDArray[np.int64]:
    names = list(cells)
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        plain = wrong[0].item() if isinstance(wrong[0], np.generic) else wrong[0]
        hint = "; a mask is of True and False, as mask.astype(bool)" if isinstance(plain, int) else ""
        raise invalid(argument, f"expected barcodes or keys of cell sets as text, or a mask; found {plain!r}{hint}")
    places = np.asarray(frame.index.get_indexer(names)) if frame.index.is_unique else np.full(len(names), -1)
    parts, missing = [places[places >= 0].astype(np.int64)], []
    for name in (names[i] for i in np.flatnonzero(places < 0).tolist()):
        found = _named(experiment, cell_sets, name)
        if found is None:
            missing.append(name)
        else:
            parts.append(found)
    if missing:
        example = f"barcodes are like {frame.index[0]!r}, sets like {next(iter(cell_sets.keys), '')!r}"
        raise invalid(argument, f"{len(missing)} of {len(names)} are not there, the first is {missing[0]!r}; {example}")
    return np.unique(np.concatenate(parts))


def described(cells: Cells, rows: Collection[Any]) -> str:
    """Return a few words for a selection: what was said, or of how many cells the rows are."""
    if isinstance(cells, str):
        return cells
    names = [] if _is_mask(cells) else list(dict.fromkeys(map(str, cells)))
    return ", ".join(names) if 0 < len(names) <= _NAMED else f"{len(rows)} cells"


def chosen_sets(experiment: Experiment, cell_sets: CellSets, **rows: NDArray[np.int64]) -> CellSets:
    """Return the sets with further ones of some rows, so that the wire's requests can name any cells by a key."""
    children = [CellSet(f"chosen {key}", key, None, np.sort(experiment.cell_ids[some])) for key, some in rows.items()]
    return CellSets(
        [*cell_sets.classes, CellClass("chosen cells", "chosen cells", "cellSets", children)], cell_sets.extra
    )
