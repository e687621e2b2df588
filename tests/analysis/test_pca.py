"""Principal components against a full decomposition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from cellworker.analysis.one_blas_thread import one_blas_thread
from cellworker.analysis.statistics import pca
from cellworker.analysis.statistics.pca import principal_components


def data(n: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    profiles = np.exp(rng.normal(-1.5, 1, (6, width)))
    return np.log1p(rng.poisson(profiles[rng.integers(0, 6, n)] * rng.uniform(0.5, 2, (n, 1)))).astype(np.float32)


def expected(dense: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    centred = dense.astype(np.float64) - dense.mean(axis=0, dtype=np.float64)
    _, values, vectors = np.linalg.svd(centred, full_matrices=False)
    vectors = vectors[:k]
    largest = np.abs(vectors).argmax(axis=1)
    vectors *= np.sign(vectors[np.arange(k), largest])[:, None]
    return centred @ vectors.T, values[:k] ** 2 / (len(dense) - 1)


@pytest.mark.parametrize("few_genes", [True, False])
def test_components_are_those_of_a_full_decomposition_with_its_signs(few_genes, monkeypatch):
    if not few_genes:
        monkeypatch.setattr(pca, "_MAX_COVARIANCE", 1)
    dense = data(700, 120)
    scores, variance = expected(dense, 12)
    for matrix in (sparse.csr_array(dense), dense):
        found = principal_components(matrix, 12)
        assert np.abs(found.scores - scores).max() < 1e-5 * np.abs(scores).max()
        np.testing.assert_allclose(found.variance, variance, rtol=1e-9)
        np.testing.assert_allclose(found.total, dense.astype(np.float64).var(axis=0, ddof=1).sum(), rtol=1e-12)


@pytest.mark.parametrize("reversed_columns", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.15, 0.5])
def test_few_and_many_stored_values_in_any_order_have_the_components_of_the_dense_matrix(share, reversed_columns):
    """More rows than the kernel takes at a time, and rows without a value."""
    dense = data(1300, 90) * (np.random.default_rng(1).random((1300, 90)) < share)
    matrix = sparse.csr_array(dense)
    if reversed_columns:
        for start, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
            for part in (matrix.indices, matrix.data):
                part[start:end] = part[start:end][::-1].copy()
        matrix.has_sorted_indices = False
    before = matrix.indices.copy()
    found, whole = principal_components(matrix, 10), principal_components(dense, 10)
    np.testing.assert_allclose(found.variance, whole.variance, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.scores, whole.scores, atol=1e-8)
    np.testing.assert_array_equal(matrix.indices, before)


def test_a_gene_that_a_row_names_twice_counts_as_the_sum_of_both():
    dense = data(600, 40)
    row, gene = dense.nonzero()
    twice = (np.concatenate([dense[row, gene] / 4, dense[row, gene] * 3 / 4]), np.tile(gene, 2), np.tile(row, 2))
    order = np.argsort(twice[2], kind="stable")
    bounds = np.concatenate([[0], np.cumsum(np.bincount(twice[2], minlength=600))])
    matrix = sparse.csr_array((twice[0][order], twice[1][order], bounds), shape=dense.shape)
    found, whole = principal_components(matrix, 6), principal_components(dense, 6)
    np.testing.assert_allclose(found.variance, whole.variance, rtol=1e-6)


@pytest.mark.parametrize(
    ("part", "at", "value"), [("indptr", 3, -1), ("indptr", 3, 10**9), ("indices", 0, -1), ("indices", -1, 90)]
)
def test_rows_that_do_not_fit_are_found_before_products_of_them_are_made(part, at, value):
    matrix = sparse.csr_array(data(700, 90))
    getattr(matrix, part)[at] = value
    assert pca._gram(matrix) is None


@pytest.mark.parametrize("few_genes", [True, False])
def test_the_bits_do_not_depend_on_the_threads(few_genes, monkeypatch):
    if not few_genes:
        monkeypatch.setattr(pca, "_MAX_COVARIANCE", 1)
    monkeypatch.setattr(pca, "_ROWS", 64)
    matrix = sparse.csr_array(data(500, 80))
    one, three = (principal_components(matrix, 5, threads=threads) for threads in (1, 3))
    assert one.scores.tobytes() == three.scores.tobytes()
    assert one.loadings.tobytes() == three.loadings.tobytes()


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 5))
def test_any_shape_gives_orthonormal_loadings_and_falling_variances(n, width, seed):
    rng = np.random.default_rng(seed)
    dense = rng.poisson(1.0, (n, width)).astype(np.float32)
    k = min(n, width)
    for limit in (1, 3000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pca, "_MAX_COVARIANCE", limit)
            found = principal_components(sparse.csr_array(dense), k)
        np.testing.assert_allclose(found.loadings.T @ found.loadings, np.eye(k), atol=1e-8)
        assert (np.diff(found.variance) <= 1e-12).all()
        assert found.variance.sum() <= found.total + 1e-9


@pytest.mark.parametrize("rows", [32, 4096])
@pytest.mark.parametrize("centre", [True, False])
def test_few_cells_of_many_genes_have_the_components_of_a_full_decomposition(centre, rows, monkeypatch):
    monkeypatch.setattr(pca, "_ROWS", rows)  # the cells in parts, by Lanczos; or all pairs of them at once
    dense = data(90, 900).astype(np.float64)
    about = dense - dense.mean(axis=0) if centre else dense
    values = np.linalg.svd(about, compute_uv=False)[:15]
    for matrix in (sparse.csr_array(dense), dense):
        found = principal_components(matrix, 15, centre=centre, threads=2)
        np.testing.assert_allclose(found.variance, values**2 / 89, rtol=1e-9)
        np.testing.assert_allclose(found.loadings.T @ found.loadings, np.eye(15), atol=1e-10)
        np.testing.assert_allclose(about @ found.loadings, found.scores, atol=1e-10 * np.abs(found.scores).max())
        assert (np.diff(found.variance) <= 0).all()


def test_more_components_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="1 to 3"):
        principal_components(np.ones((3, 5)), 4)


def test_blas_is_limited_whatever_the_environment_says_later(monkeypatch):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # as Dask does in the process that starts a cluster
    with threadpoolctl.threadpool_limits(2, "blas"), one_blas_thread():
        assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"} == {1}
