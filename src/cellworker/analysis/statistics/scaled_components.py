"""Principal components of scaled expression, as Seurat's ScaleData and RunPCA find them, without a dense matrix.

Scaled values are ``min((x - mean) / sd, 10)``. All zeros of a gene have the same scaled value, ``-mean / sd``. So a
sparse matrix of differences from it, with the vector of these values as origin, gives the components of the dense
matrix. As in Seurat, they are about 0, not about the mean after clipping.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cellworker.analysis.statistics.pca import Components, principal_components

__all__ = ["ScaledComponents", "scaled_components"]

Floats = NDArray[np.float64]
Progress = Callable[[float], None]

CLIP = 10.0
"""Largest scaled value (ScaleData's ``scale.max``)."""
_AT_A_TIME = 1 << 21  # stored values: 60 MB of temporary arrays
_SELECTING = 0.5  # share of the time


class Allocate(Protocol):
    """Allocates an array, perhaps mapped from a file."""

    def __call__(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of this shape and type."""
        ...


@dataclass(frozen=True, slots=True)
class ScaledComponents:
    """The components, and the genes that contribute to them.

    Attributes
    ----------
    components
        Scores of all cells; loadings of `genes`.
    genes
        int64 ``(g,)``: positions of the genes, without those that do not vary.
    mean, deviation
        float64 ``(g,)``: mean and deviation by which the genes are scaled.
    """

    components: Components
    genes: NDArray[np.int64]
    mean: Floats
    deviation: Floats

    def project(self, rows: Any) -> Floats:  # noqa: ANN401 SciPy's
        """Return the scores of other cells; `rows` are compressed rows of log-normalised values of `genes`."""
        from scipy.sparse import csr_array  # noqa: PLC0415 heavy

        zeros = -self.mean / self.deviation
        places = rows.indices
        scaled = np.minimum((rows.data - self.mean[places]) / self.deviation[places], CLIP) - zeros[places]
        differences = csr_array((scaled, places, rows.indptr), shape=rows.shape)
        return np.asarray(differences @ self.components.loadings + zeros @ self.components.loadings)


def scaled_components(
    indptr: NDArray[np.int64],
    columns: NDArray[np.int32],
    values: NDArray[Any],
    genes: NDArray[np.int64],
    k: int,
    *,
    n_genes: int,
    allocate: Allocate = np.empty,
    threads: int = 1,
    progress: Progress = lambda fraction: None,  # noqa: ARG005
) -> ScaledComponents:
    """Scale some genes and find their principal components.

    The function reads the matrix twice from start to end, some megabytes at a time, so it may be mapped from a file
    larger than memory. It writes the values of the chosen genes to two arrays of `allocate`.

    Parameters
    ----------
    indptr, columns, values
        Log-normalised expression, compressed rows of cells and genes: int64 ``(n_cells + 1,)``, int32 and any number
        ``(nnz,)``. No entry is there twice.
    genes
        int64: the genes to scale, each once.
    k
        Number of components; fewer where there are fewer cells or genes that vary.
    n_genes
        Width of the matrix.
    allocate
        Allocates the arrays for the chosen genes' values.
    threads
        Threads to use; the result does not depend on it.
    progress
        Called with the fraction done; may raise to stop.

    Raises
    ------
    ValueError
        If there are fewer than two cells, or no gene varies.
    IndexError
        If a gene does not exist.
    """
    n_cells = len(indptr) - 1
    if n_cells < 2:
        raise ValueError("one cell does not vary: at least two are needed")
    place = np.full(n_genes, -1, np.int32)
    place[genes] = np.arange(len(genes), dtype=np.int32)
    matrix = _Chosen(indptr, columns, values, place, len(genes))
    if len(genes) < n_genes:  # all later steps read only these genes
        matrix = matrix.selected(allocate)
    with np.errstate(invalid="ignore", over="ignore"):  # genes with such values are left out
        mean, deviation = matrix.moments(lambda part: progress(_SELECTING * 0.6 * part))
    varies = np.isfinite(deviation) & (deviation > 0)
    if not varies.any():
        raise ValueError("no gene varies")
    kept = np.asarray(genes, np.int64)[varies]
    matrix = matrix.of(varies)
    rest = mean[varies] / deviation[varies]
    differences = matrix.differences(
        mean[varies], deviation[varies], allocate, lambda part: progress(_SELECTING * (0.6 + 0.4 * part))
    )
    found = principal_components(
        differences, min(k, n_cells - 1, len(kept)), origin=rest, threads=threads,
        on_progress=lambda part: progress(_SELECTING + (1 - _SELECTING) * part),
    )  # fmt: skip
    progress(1.0)
    return ScaledComponents(found, kept, mean[varies], deviation[varies])


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Some columns of a matrix; `place` is each gene's position among them, -1 for other genes."""

    indptr: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[Any]
    place: NDArray[np.int32]
    width: int

    def parts(self) -> list[tuple[int, int]]:
        """Split the cells into parts of some megabytes."""
        n = len(self.indptr) - 1
        step = max(1, int(_AT_A_TIME // max(1, len(self.columns) // n)))
        return [(start, min(n, start + step)) for start in range(0, n, step)]

    def part(self, start: int, stop: int) -> tuple[NDArray[np.int32], Floats, NDArray[np.int64]]:
        """Return places and values of the chosen genes in some cells, and the number of values per cell."""
        first, last = int(self.indptr[start]), int(self.indptr[stop])
        columns = np.asarray(self.columns[first:last])
        self._require(columns)
        places = self.place[columns]
        chosen = places >= 0
        running = np.concatenate([[0], np.cumsum(chosen)])
        lengths = np.diff(running[np.asarray(self.indptr[start : stop + 1]) - first])
        return places[chosen], np.asarray(self.values[first:last])[chosen].astype(np.float64), lengths

    def selected(self, allocate: Allocate) -> "_Chosen":
        """Return a matrix of only the chosen genes."""
        n, parts = len(self.indptr) - 1, self.parts()
        there, indptr = self.place >= 0, np.zeros(n + 1, np.int64)
        for start, stop in parts:
            first, last = int(self.indptr[start]), int(self.indptr[stop])
            columns = np.asarray(self.columns[first:last])
            self._require(columns)
            running = np.concatenate([[0], np.cumsum(there[columns])])
            indptr[start + 1 : stop + 1] = np.diff(running[np.asarray(self.indptr[start : stop + 1]) - first])
        np.cumsum(indptr, out=indptr)
        size = (int(indptr[-1]),)
        places, values = allocate(size, np.int32), allocate(size, self.values.dtype)
        for start, stop in parts:
            first, last = int(self.indptr[start]), int(self.indptr[stop])
            found = self.place[self.columns[first:last]]
            chosen, here = found >= 0, slice(int(indptr[start]), int(indptr[stop]))
            places[here], values[here] = found[chosen], np.asarray(self.values[first:last])[chosen]
        return _Chosen(indptr, places, values, np.arange(self.width, dtype=np.int32), self.width)

    def of(self, wanted: NDArray[np.bool_]) -> "_Chosen":
        """Return some of these genes."""
        new = np.where(wanted, np.cumsum(wanted) - 1, -1).astype(np.int32)
        place = np.where(self.place >= 0, new[self.place], -1).astype(np.int32)
        return _Chosen(self.indptr, self.columns, self.values, place, int(np.count_nonzero(wanted)))

    def _require(self, columns: NDArray[np.int32]) -> None:
        if len(columns) and (columns.min() < 0 or columns.max() >= len(self.place)):
            raise IndexError("the matrix holds genes beyond the last one")

    def moments(self, progress: Progress) -> tuple[Floats, Floats]:
        """Return each gene's mean and standard deviation (n - 1), zeros included, in two passes."""
        n, parts = len(self.indptr) - 1, self.parts()
        sums, stored = np.zeros(self.width), np.zeros(self.width, np.int64)
        for number, (start, stop) in enumerate(parts):
            places, values, _ = self.part(start, stop)
            sums += np.bincount(places, values, self.width)
            stored += np.bincount(places, minlength=self.width)
            progress(0.5 * (number + 1) / len(parts))
        mean = sums / n
        squares = (n - stored) * mean**2
        for number, (start, stop) in enumerate(parts):
            places, values, _ = self.part(start, stop)
            squares += np.bincount(places, (values - mean[places]) ** 2, self.width)
            progress(0.5 + 0.5 * (number + 1) / len(parts))
        return mean, np.sqrt(squares / (n - 1))

    def differences(self, mean: Floats, deviation: Floats, allocate: Allocate, progress: Progress) -> Any:  # noqa: ANN401 SciPy's
        """Return scaled and clipped values minus the scaled value of zero, as compressed rows of cells and genes."""
        from scipy.sparse import csr_array  # noqa: PLC0415 heavy

        n, parts = len(self.indptr) - 1, self.parts()
        indptr = np.zeros(n + 1, np.int64)
        for start, stop in parts:
            indptr[start + 1 : stop + 1] = self.part(start, stop)[2]
        np.cumsum(indptr, out=indptr)
        size = int(indptr[-1])
        out, where = allocate((size,), np.float64), allocate((size,), np.int32)
        zeros = -mean / deviation
        for number, (start, stop) in enumerate(parts):
            places, values, _ = self.part(start, stop)
            scaled = np.minimum((values - mean[places]) / deviation[places], CLIP)
            here = slice(int(indptr[start]), int(indptr[stop]))
            out[here], where[here] = scaled - zeros[places], places
            progress((number + 1) / len(parts))
        return csr_array((out, where, indptr), shape=(n, self.width), copy=False)
