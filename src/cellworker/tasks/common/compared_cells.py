"""From cell ids of a request to the rows that are compared."""

from typing import Final

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from cellworker.experiment.comparisons import EmptySideError
from cellworker.experiment.model import Experiment
from cellworker.experiment.suitability import rankable, require
from cellworker.protocol.validation import CellId

__all__ = ["CellBits", "ComparisonCells", "bits_or_list", "check_values", "compared_rows", "listed_rows"]

_MANY: Final = 10_000
"""From this many ids on a list of Python's numbers is not made: each takes 40 bytes, a bit for each id an eighth."""
_MAX_BITS_PER_ID: Final = 32


class CellBits(Struct):
    """Many cell ids: a bit for each number from `first` on, the highest of a byte first; base64 in JSON."""

    first: CellId
    bits: bytes

    def ids(self) -> NDArray[np.int64]:
        """Return the ids, ascending."""
        return np.flatnonzero(np.unpackbits(np.frombuffer(self.bits, np.uint8))) + np.int64(self.first)


class ComparisonCells(Struct):
    """The cells of one comparison, by id; ids that quality control removed may be among them."""

    base_cells: list[CellId] | CellId | CellBits = field(name="baseCells")
    background_cells: list[CellId] | CellId | CellBits = field(name="backgroundCells")


def bits_or_list(ids: NDArray[np.int32]) -> list[int] | CellBits:
    """Return ids in the form that takes little room: some as a list, many as bits.

    Parameters
    ----------
    ids
        At least 0, in any order.
    """
    first, last = (int(ids.min()), int(ids.max())) if len(ids) else (0, 0)
    if len(ids) < _MANY or last - first >= _MAX_BITS_PER_ID * len(ids):
        listed: list[int] = ids.tolist()
        return listed
    marks = np.zeros(last - first + 1, np.bool_)
    marks[ids - first] = True
    return CellBits(first, np.packbits(marks).tobytes())


def listed_rows(experiment: Experiment, cell_ids: list[int] | int | CellBits | None) -> NDArray[np.int32]:
    """Return the rows of cell ids, ascending, each once; ids that quality control removed are passed over."""
    if isinstance(cell_ids, CellBits):
        ids = cell_ids.ids()
    else:
        listed_ids = [] if cell_ids is None else [cell_ids] if isinstance(cell_ids, int) else cell_ids
        ids = np.array(listed_ids, np.int64)
    rows = experiment.positions(ids)
    listed = np.zeros(experiment.n_cells, np.bool_)
    listed[rows[rows >= 0]] = True
    return np.flatnonzero(listed).astype(np.int32)


def compared_rows(
    experiment: Experiment, base_ids: list[int] | int | CellBits, background_ids: list[int] | int | CellBits
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the rows of both sides; a cell that is on both counts as base.

    Raises
    ------
    EmptySideError
        When a side has no cell in the experiment.
    """
    base = listed_rows(experiment, base_ids)
    background = np.setdiff1d(listed_rows(experiment, background_ids), base, assume_unique=True)
    if not len(base) or not len(background):
        raise EmptySideError.of(first=not len(base))
    return base, background


def check_values(experiment: Experiment) -> None:
    """Refuse to rank values that are missing or infinite.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNSUPPORTED`` naming genes.
    """
    require(rankable(experiment))
