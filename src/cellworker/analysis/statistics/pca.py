"""Principal components of a sparse or dense matrix, the same for any number of threads.

Up to 3,000 genes, as after a choice of variable ones, the covariance is summed part by part and decomposed; with fewer
cells than genes, the products of all pairs of cells take its place. For more, no such matrix is made: block Lanczos
with full reorthogonalisation (Golub and Underwood 1977) multiplies the matrix by a block of vectors, from both sides.
The vectors have the length of the shorter side, since keeping them orthogonal costs more than the products. Formulas do
the centring, so the matrix stays sparse.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.one_blas_thread import one_blas_thread
from cellworker.native import address, kernel

__all__ = ["Components", "RowParts", "components_of", "principal_components"]

Floats = NDArray[np.float64]
OnProgress = Callable[[float], None]
Result = TypeVar("Result")

_BLOCK = 10  # vectors at a time
_ROWS = 4096  # values of a part; parts are added in order, whichever thread computes them
_MAX_COVARIANCE = 3000  # genes, or cells
_MAX_VALUES = 30_000_000  # max values of few cells as a dense matrix, for the products of all pairs
_DENSE = 0.2  # share of stored values above which a part is multiplied as a dense one
_TOLERANCE = 1e-8  # tolerance of residuals, relative to the largest variance
_EMPTY = 1e-12  # relative to the largest variance: below it a direction has no variance
_CHECK_EVERY = 4  # blocks


@dataclass(frozen=True, slots=True)
class Components:
    """The leading principal components, by falling variance.

    Attributes
    ----------
    scores
        float64 ``(n_cells, k)``: the cells' coordinates.
    loadings
        float64 ``(n_genes, k)``: orthonormal columns, zeros where no variance is left.
    variance
        float64 ``(k,)``: variance along each (n - 1).
    total
        Variance of all genes.
    """

    scores: Floats
    loadings: Floats
    variance: Floats
    total: float


def principal_components(
    matrix: Any,  # noqa: ANN401 an array or one of SciPy's
    k: int,
    *,
    centre: bool = True,
    origin: Floats | None = None,
    seed: int = 0,
    threads: int = 1,
    on_progress: OnProgress | None = None,
) -> Components:
    """Find the components of largest variance.

    The sign of a component is arbitrary. Here the loading of largest absolute value is above 0, as in scanpy
    (scikit-learn from 1.5); Seurat keeps the signs that irlba finds.

    Parameters
    ----------
    matrix
        ``(n_cells, n_genes)``, a NumPy array or compressed rows (SciPy), finite. It is neither copied nor centred.
    k
        Number of components, from 1 to the smaller of both sides.
    centre
        Subtract each gene's mean; otherwise variances are about 0.
    origin
        float64 ``(n_genes,)``: subtracted from each cell instead of the means (see `centre`). Variances are about it.
    seed
        Seed of the vectors that start the search; the result hardly depends on it.
    threads
        Threads for the products; the result does not depend on it, to the last bit.
    on_progress
        Called with the approximate fraction done; may raise to stop.

    Raises
    ------
    ValueError
        If `k` is out of range.
    """
    n, width = matrix.shape
    if not 1 <= k <= min(n, width):
        message = f"cannot find {k} components of {n} x {width} values: 1 to {min(n, width)} are possible"
        raise ValueError(message)
    with one_blas_thread(), ThreadPoolExecutor(max(1, threads)) as pool:
        parts = _InMemory(matrix, pool)
        if n >= width:
            return components_of(parts, k, centre=centre, origin=origin, seed=seed, on_progress=on_progress)
        products = _Products(parts, centre=centre, origin=origin)

        def pulled(block: Floats) -> Floats:
            return products.pulled(parts.pulled(block), block)

        if n <= min(_MAX_COVARIANCE, _ROWS) and n * width <= _MAX_VALUES:
            cells = _decomposed(products.between_cells(), k)
        else:
            cells = _leading(lambda block: products.scores(pulled(block)) / max(1, n - 1), n, k, seed, on_progress)
        # Stay orthonormal where nothing varies and only rounding comes back.
        return _finished(products, np.linalg.qr(pulled(cells))[0], k)


class RowParts(Protocol):
    """A matrix that is processed some rows at a time, perhaps on other machines.

    Functions and arguments can be pickled.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of cells and genes."""

    def total(self, function: Callable[..., tuple[Floats, ...]], *arguments: Floats) -> tuple[Floats, ...]:
        """Call ``function(rows, *arguments)`` with the rows of each part, and return the sum of the results."""

    def joined(self, function: Callable[..., Floats], *arguments: Floats) -> Floats:
        """Call ``function(rows, *arguments)`` with the rows of each part, and return the results stacked by rows."""


def components_of(
    parts: RowParts,
    k: int,
    *,
    centre: bool = True,
    origin: Floats | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Components:
    """Find the components of a matrix in parts; parameters and result are those of `principal_components`."""
    width = parts.shape[1]
    with one_blas_thread():
        products = _Products(parts, centre=centre, origin=origin)
        if width <= _MAX_COVARIANCE:
            return _finished(products, _decomposed(products.whole_covariance(), k), k)
        return _finished(products, _leading(products.covariance, width, k, seed, on_progress), k)


def _finished(products: "_Products", vectors: Floats, k: int) -> Components:
    """Return the components along orthonormal vectors, float64 ``(n_genes, k)``."""
    scores = products.scores(vectors)
    # One more rotation within the subspace: columns of the scores are orthogonal to the last digits.
    variance = np.square(scores).sum(axis=0) / max(1, products.n - 1)
    order = np.argsort(-variance, kind="stable")
    scores, vectors, variance = scores[:, order], vectors[:, order], variance[order]
    largest = np.abs(vectors).argmax(axis=0)
    sign = np.where(vectors[largest, np.arange(k)] < 0, -1.0, 1.0)
    return Components(scores * sign, vectors * sign, variance, products.total)


class _InMemory:
    """Rows of a matrix in memory; the parts and the order of sums depend only on the matrix."""

    def __init__(self, matrix: Any, pool: ThreadPoolExecutor) -> None:  # noqa: ANN401
        self.shape: tuple[int, int] = matrix.shape
        self._matrix = matrix
        self._pool = pool

    def _each(self, function: Callable[..., Result], arguments: tuple[Floats, ...]) -> Iterator[Result]:
        n = self.shape[0]
        return self._pool.map(
            lambda start: function(_rows(self._matrix, start, min(n, start + _ROWS)), *arguments), range(0, n, _ROWS)
        )

    def total(self, function: Callable[..., tuple[Floats, ...]], *arguments: Floats) -> tuple[Floats, ...]:
        """Add up the results of all parts."""
        found = self._each(function, arguments)
        out = tuple(np.zeros_like(array) + array for array in next(found))
        for arrays in found:
            for mine, more in zip(out, arrays, strict=True):
                np.add(mine, more, out=mine)
        return out

    def joined(self, function: Callable[..., Floats], *arguments: Floats) -> Floats:
        """Stack the results of all parts by rows."""
        return np.concatenate(list(self._each(function, arguments)))

    def pulled(self, block: Floats) -> Floats:
        """Return the transposed matrix times a block of vectors over cells, float64 ``(n_genes, b)``."""
        n = self.shape[0]
        starts = range(0, n, _ROWS)
        found = self._pool.map(
            lambda start: np.asarray(
                _rows(self._matrix, start, min(n, start + _ROWS)).T @ block[start : start + _ROWS]
            ),
            starts,
        )
        out = np.zeros((self.shape[1], block.shape[1]))
        for part in found:
            out += part
        return out


class _Products:
    """Multiplies by the centred matrix."""

    def __init__(self, parts: RowParts, *, centre: bool, origin: Floats | None = None) -> None:
        self.n, self.width = parts.shape
        self._parts = parts
        self._sums, squares = parts.total(_moments)
        self._mean = self._sums / self.n if centre else np.zeros(self.width)
        if origin is not None:
            self._mean = np.asarray(origin, np.float64)
        self.total = float((squares - self._crossed(np.multiply)).sum() / max(1, self.n - 1))

    def covariance(self, block: Floats) -> Floats:
        """Return the covariance times a block, float64 ``(n_genes, b)``."""
        out, total = self._parts.total(_product, block, self._mean @ block)
        return np.asarray((out - self._mean[:, None] * total) / max(1, self.n - 1))

    def whole_covariance(self) -> Floats:
        """Return the covariance, float64 ``(n_genes, n_genes)``."""
        (out,) = self._parts.total(_square)
        return np.asarray((out - self._crossed(np.outer)) / max(1, self.n - 1))

    def between_cells(self) -> Floats:
        """Return the products of all pairs of cells divided by n - 1, float64 ``(n_cells, n_cells)``.

        The rows are one part.
        """
        (out,) = self._parts.total(_square_of_cells)
        crossed = self._parts.joined(_image, self._mean[:, None], np.zeros(1))
        out -= crossed
        out -= crossed.T
        out += self._mean @ self._mean
        return np.asarray(out / max(1, self.n - 1))

    def _crossed(self, times: Callable[[Floats, Floats], Floats]) -> Floats:
        """Return the difference between products of the columns and products of the centred columns."""
        sums, origin = self._sums, self._mean
        return np.asarray(times(sums, origin) + times(origin, sums) - self.n * times(origin, origin))

    def pulled(self, product: Floats, block: Floats) -> Floats:
        """Return the transposed centred matrix times a block, from the product of the uncentred matrix."""
        return np.asarray(product - np.outer(self._mean, block.sum(axis=0)))

    def scores(self, block: Floats) -> Floats:
        """Return the centred matrix times a block, float64 ``(n_cells, b)``."""
        return self._parts.joined(_image, block, self._mean @ block)


def _rows(matrix: Any, start: int, stop: int) -> Any:  # noqa: ANN401
    """Return some rows in double precision; compressed rows share their indices where these ascend."""
    if isinstance(matrix, np.ndarray):
        return matrix[start:stop].astype(np.float64, copy=False)
    from scipy.sparse import csr_array  # noqa: PLC0415 heavy

    first, last = int(matrix.indptr[start]), int(matrix.indptr[stop])
    parts = (
        matrix.data[first:last].astype(np.float64),
        matrix.indices[first:last],
        matrix.indptr[start : stop + 1] - first,
    )
    rows = csr_array(parts, shape=(stop - start, matrix.shape[1]), copy=False)
    if not rows.has_canonical_format:
        # SciPy would sort in place, which moves the caller's indices without their values.
        rows = rows.copy()
        rows.sum_duplicates()
    return rows


def _moments(rows: Any) -> tuple[Floats, Floats]:  # noqa: ANN401
    squared = np.square(rows) if isinstance(rows, np.ndarray) else rows.power(2)
    return np.asarray(rows.sum(axis=0), np.float64).ravel(), np.asarray(squared.sum(axis=0), np.float64).ravel()


def _square(rows: Any) -> tuple[Floats]:  # noqa: ANN401
    if isinstance(rows, np.ndarray):
        return (rows.T @ rows,)
    if rows.nnz > _DENSE * rows.shape[0] * rows.shape[1]:
        dense = rows.toarray()
        return (dense.T @ dense,)
    found = _gram(rows) if rows.format == "csr" else None
    return ((rows.T @ rows).toarray() if found is None else found,)


def _gram(rows: Any) -> Floats | None:  # noqa: ANN401
    """Return the transposed rows times the rows; None where columns do not ascend within rows."""
    width = rows.shape[1]
    out = np.zeros((width, width))
    bounds, columns = np.require(rows.indptr, np.int64, ["C", "A"]), np.require(rows.indices, np.int32, ["C", "A"])
    values = np.require(rows.data, np.float64, ["C", "A"])
    odd = kernel("cw_gram")(
        address(bounds, np.int64), address(columns, np.int32), address(values, np.float64), rows.shape[0],
        min(len(columns), len(values)), width, address(out, np.float64, writable=True),
    )  # fmt: skip
    if odd < 0:
        raise MemoryError
    return None if odd else out


def _square_of_cells(rows: Any) -> tuple[Floats]:  # noqa: ANN401
    return _square(rows.T)


def _image(rows: Any, block: Floats, shift: Floats) -> Floats:  # noqa: ANN401
    return np.asarray(rows @ block - shift)


def _product(rows: Any, block: Floats, shift: Floats) -> tuple[Floats, Floats]:  # noqa: ANN401
    image = _image(rows, block, shift)
    return np.asarray(rows.T @ image), image.sum(axis=0)


def _decomposed(symmetric: Floats, k: int) -> Floats:
    from scipy.linalg import eigh  # noqa: PLC0415 heavy

    size = len(symmetric)
    vectors = eigh(symmetric, subset_by_index=[size - k, size - 1], overwrite_a=True)[1]
    return np.asarray(vectors[:, ::-1], np.float64)


def _leading(
    times: Callable[[Floats], Floats], width: int, k: int, seed: int, on_progress: OnProgress | None
) -> Floats:
    """Return the leading eigenvectors of the symmetric matrix that `times` multiplies by, float64 ``(width, k)``."""
    report = on_progress or (lambda fraction: None)  # noqa: ARG005
    random = np.random.Generator(np.random.PCG64(seed))
    block = np.linalg.qr(random.standard_normal((width, min(width, max(_BLOCK, min(k, _BLOCK))))))[0]
    basis, images = np.empty((width, 0)), np.empty((width, 0))
    projected = np.empty((0, 0))
    done = 0
    while True:
        image = times(block)
        corner = basis.T @ image
        projected = np.block([[projected, corner], [corner.T, block.T @ image]])
        basis, images = np.hstack([basis, block]), np.hstack([images, image])
        done += 1
        size = basis.shape[1]
        if size >= width or (size >= k and done % _CHECK_EVERY == 0):
            values, inner = np.linalg.eigh((projected + projected.T) / 2)
            values, inner = values[::-1][:k], inner[:, ::-1][:, :k]
            vectors = basis @ inner
            gap = np.sqrt(np.square(images @ inner - vectors * values).sum(axis=0)).max()
            largest = max(float(values[0]), 0.0)
            if size >= width or gap <= _TOLERANCE * largest:
                return np.asarray(vectors, np.float64)
        report(1 - 0.97**size)
        block = _next(image, basis, random)


def _next(image: Floats, basis: Floats, random: "np.random.Generator") -> Floats:
    """Return new orthonormal directions; random ones where the images have none."""
    columns_left = basis.shape[0] - basis.shape[1]
    block = image[:, :columns_left]
    scale = np.sqrt(np.square(image).sum(axis=0)).max()
    for _ in range(3):
        block = block - basis @ (basis.T @ block)
        lost = np.sqrt(np.square(block).sum(axis=0)) <= _EMPTY * scale
        if lost.any() or not scale:
            fresh = random.standard_normal(block.shape)
            block = np.where(lost | (not scale), fresh - basis @ (basis.T @ fresh), block)
        block = np.linalg.qr(block)[0]
        block = block - basis @ (basis.T @ block)
        block = np.linalg.qr(block)[0]
    return np.asarray(block)
