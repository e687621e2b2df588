"""How a file splits the counts of its cells."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["CountLayers"]


@dataclass(frozen=True, slots=True)
class CountLayers:
    """How a file splits the counts by cells, as Seurat 5 does by sample. The layers are served as one matrix.

    Attributes
    ----------
    runs
        Pairs of a layer's number and the number of consecutive cells in it, in the order of the cells; -1 is no layer.
    not_in_all
        Positions of the genes that at least one layer lacks.
    """

    runs: list[list[int]]
    not_in_all: list[int]

    @classmethod
    def of(cls, layers: NDArray[np.integer[Any]], not_in_all: NDArray[np.integer[Any]]) -> Self:
        """Build from each cell's layer."""
        starts = np.flatnonzero(np.diff(layers, prepend=-2))
        lengths = np.diff(np.append(starts, len(layers)))
        runs = np.stack([layers[starts], lengths], axis=1).tolist()
        return cls([list(run) for run in runs], [int(gene) for gene in not_in_all])

    def by_cell(self) -> NDArray[np.int64]:
        """Return each cell's layer, int64 ``(n_cells,)``."""
        runs = np.array(self.runs, np.int64).reshape(-1, 2)
        return np.repeat(runs[:, 0], runs[:, 1])
