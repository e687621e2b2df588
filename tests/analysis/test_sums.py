"""Counts summed over groups of cells."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from cellworker.analysis.statistics.sums import count_sums, group_sums


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


COUNTED = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64"]


@given(st.integers(0, 2**32 - 1), st.sampled_from(COUNTED), st.sampled_from(["int32", "int64", "dense"]))
def test_counts_of_every_type_and_order_are_summed_exactly(seed, dtype, layout):
    """Genes of a cell stand in any order and are repeated; cells of no group are left out."""
    random = np.random.default_rng(seed)
    lengths, width = random.integers(0, 12, 30), 7
    genes, values = random.integers(0, width, lengths.sum()), random.integers(0, 5, lengths.sum()).astype(dtype)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    dense = np.zeros((30, width), dtype)
    np.add.at(dense, (np.repeat(np.arange(30), lengths), genes), values)
    group = random.integers(-1, 3, 30)
    given = dense if layout == "dense" else (bounds.astype(np.int32), genes.astype(layout), values)
    got = count_sums(given, group, n_groups=3, n_genes=width, threads=2)
    np.testing.assert_array_equal(got, [dense[group == k].sum(axis=0, dtype=np.int64) for k in range(3)])


def test_counts_of_many_cells_are_those_of_the_other_sums_to_the_bit():
    """Large enough that the order of additions shows."""
    random = np.random.default_rng(0)
    values = random.integers(2**50, 2**52, 9000).astype(np.float64)
    matrix = np.arange(9001), np.zeros(9000, np.int32), values
    group = random.integers(-1, 2, 9000)
    rows = np.flatnonzero(group >= 0)
    expected = group_sums(*matrix, rows, group[rows], n_groups=2, n_genes=1)
    for threads in (1, 3):
        found = count_sums(matrix, group, n_groups=2, n_genes=1, threads=threads)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("at", [0, 5000, 8999])
@pytest.mark.parametrize(
    ("part", "dtype", "value"),
    [
        (2, "float32", 0.5), (2, "float32", -1), (2, "float32", np.nan), (2, "float32", np.inf), (2, "float64", -0.25),
        (2, "float64", 2.000000001), (2, "int32", -1), (2, "int8", -128), (1, "int32", 1), (1, "int32", -1),
        (1, "int64", 2**32), (0, "int64", -1), (0, "int64", 10**6), (0, "int64", 2**63 - 1),
    ],
)  # fmt: skip
def test_what_is_no_count_or_does_not_fit_is_found_in_cells_of_no_group_too(at, part, dtype, value):
    matrix = [np.arange(9001), np.zeros(9000, np.int32), np.ones(9000, np.float32)]
    assert count_sums(tuple(matrix), np.full(9000, -1), n_groups=1, n_genes=1).tolist() == [[0.0]]
    matrix[part] = matrix[part].astype(dtype)
    matrix[part][at] = value
    assert count_sums(tuple(matrix), np.full(9000, -1), n_groups=1, n_genes=1, threads=2) is None
    if part == 2:
        assert count_sums(matrix[2][:, None], np.full(9000, -1), n_groups=1, n_genes=1) is None


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((2, 3), ">i4"), np.zeros((2, 3), np.float16), np.zeros((2, 3), bool), np.zeros((3, 2)).T,
        np.zeros((2, 4)), (np.zeros(3, np.int64), np.zeros(0, np.uint16), np.zeros(0)),
        (np.zeros(3, np.int64), np.zeros(1, np.int32), np.zeros(0)),
    ],
)  # fmt: skip
def test_other_types_and_layouts_are_left_to_the_caller(matrix):
    assert count_sums(matrix, np.zeros(2, int), n_groups=1, n_genes=3) is None


@pytest.mark.parametrize("group", [[0], [0, 0, 0], [0, 1]])
def test_groups_that_do_not_fit_never_reach_the_kernel(group):
    with pytest.raises(IndexError, match="group"):
        count_sums(np.zeros((2, 3)), np.array(group), n_groups=1, n_genes=3)
