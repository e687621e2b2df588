"""Counts summed over groups of cells."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from cellworker.analysis.statistics.sums import group_sums


def cell_major(dense):
    rows = sparse.csr_matrix(np.asarray(dense, np.float32))
    return SimpleNamespace(indptr=rows.indptr.astype(np.int64), genes=rows.indices, values=rows.data)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["uint8", "uint16", "uint32", "float32"]))
def test_sums_are_those_of_the_dense_matrix(seed, dtype):
    random = np.random.default_rng(seed)
    dense = random.integers(0, 4, (30, 7))
    counts = cell_major(dense)
    rows, group = random.permutation(30)[:20], random.integers(0, 3, 20)
    got = group_sums(
        counts.indptr, counts.genes, counts.values.astype(dtype), rows, group, n_groups=3, n_genes=7, threads=2
    )
    np.testing.assert_array_equal(got, [dense[rows[group == k]].sum(axis=0) for k in range(3)])


def test_large_counts_do_not_overflow():
    counts = cell_major(np.full((3, 1), 4.0))
    values = np.full(3, 2**32 - 1, np.uint32)
    got = group_sums(counts.indptr, counts.genes, values, np.arange(3), np.zeros(3), n_groups=1, n_genes=1)
    assert got.tolist() == [[3.0 * (2**32 - 1)]]


def test_fractional_sums_do_not_depend_on_the_number_of_threads():
    random = np.random.default_rng(0)
    counts = cell_major(random.random((9000, 3)))
    one, four = (
        group_sums(
            counts.indptr, counts.genes, counts.values, np.arange(9000), np.arange(9000) % 2, n_groups=2, n_genes=3,
            threads=threads,
        )
        for threads in (1, 4)
    )  # fmt: skip
    np.testing.assert_array_equal(one, four)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rows": [0, 3]}, "row or group"),
        ({"rows": [-1, 0]}, "row or group"),
        ({"group": [0, 2]}, "row or group"),
        ({"group": [0]}, "lengths"),
        ({"n_genes": 1}, "genes beyond"),
        ({"indptr": [0, 2, 4, 99], "rows": [2, 2]}, "offsets"),
    ],
)
def test_what_does_not_fit_never_reaches_the_kernel(changed, words):
    counts = cell_major(np.ones((3, 2)))
    given = {"indptr": counts.indptr, "rows": [0, 1], "group": [0, 1], "n_groups": 2, "n_genes": 2} | changed
    with pytest.raises(IndexError, match=words):
        group_sums(
            np.array(given["indptr"], np.int64), counts.genes, counts.values, np.array(given["rows"]),
            np.array(given["group"]), n_groups=given["n_groups"], n_genes=given["n_genes"],
        )  # fmt: skip
