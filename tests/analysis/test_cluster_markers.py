"""The table of marker genes that a language model is shown."""

import numpy as np
import pytest
from scipy import sparse, stats

from cellworker.analysis.annotation.cluster_markers import marker_table


def gene_major(dense):
    matrix = sparse.csc_matrix(np.asarray(dense, np.float32))
    cells, values = matrix.indices.astype(np.int32), matrix.data.astype(np.float32)
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        order = np.argsort(values[start:stop], kind="stable")
        cells[start:stop], values[start:stop] = cells[start:stop][order], values[start:stop][order]
    return matrix.indptr.astype(np.int64), cells, values


def sets(codes):
    return [np.flatnonzero(codes == k).astype(np.int32) for k in (*range(codes.max() + 1), -1)]


def expected(dense, codes):
    """The rows by the formulas, gene by gene."""
    rows = []
    dense = np.asarray(dense, np.float32).astype(float)
    for k in range(codes.max() + 1):
        inside, listed_out, out = codes == k, (codes >= 0) & (codes != k), codes != k
        for gene in range(dense.shape[1]):
            x = dense[:, gene]
            p = stats.mannwhitneyu(x[inside], x[listed_out], method="asymptotic").pvalue
            in_, out_ = (x[inside] > 0).mean(), (x[listed_out] > 0).mean()
            fold = np.log2((np.expm1(x[inside]).sum() + 1) / inside.sum())
            fold -= np.log2((np.expm1(x[out]).sum() + 1) / out.sum())
            if p < 0.01 and max(in_, out_) >= 0.01 and fold >= 0.1:
                rows.append((k, gene, p, min(1.0, p * dense.shape[1]), fold, in_, out_))
    return sorted(rows, key=lambda row: (row[0], row[2], -row[4]))


def rows_of(table):
    columns = (
        table.cluster, table.gene, table.p_values.values, table.p_values.times(table.n_genes).values,
        table.log2_fold_change, table.fraction_in, table.fraction_out,
    )  # fmt: skip
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_the_table_is_what_the_formulas_say(seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, 3, 150)
    dense = rng.poisson(0.5 + (rng.random((150, 60)) < 0.2) * (codes[:, None] + 1)) * rng.random((150, 60))
    dense[:, :20] += (codes[:, None] == 1) * rng.random((150, 20))
    dense[:, 59] = 0
    *clusters, others = sets(codes)
    got = rows_of(marker_table(gene_major(dense), clusters, others, 150))
    want = expected(dense, codes)
    assert len(want) > 5
    assert [row[:2] for row in got] == [row[:2] for row in want]
    np.testing.assert_allclose(np.array(got), np.array(want), rtol=1e-9)


def test_a_case_by_hand():
    # Two clusters of eight cells and two cells outside; the first gene only in the first cluster, log(1 + 3) each.
    codes = np.array([0] * 8 + [1] * 8 + [-1] * 2)
    dense = np.zeros((18, 2), np.float32)
    dense[:8, 0] = np.log(4)
    dense[:, 1] = 1
    *clusters, others = sets(codes)
    (row,) = rows_of(marker_table(gene_major(dense), clusters, others, 18))
    assert row[:2] == (0, 0)
    # log2((8 * 3 + 1) / 8) - log2((0 + 1) / 10): the cells outside count as out.
    assert row[4] == pytest.approx(np.log2(25 / 8) - np.log2(1 / 10))
    assert row[5:] == (1.0, 0.0)
    assert row[3] == pytest.approx(2 * row[2])


def test_threads_change_nothing():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, 400)
    dense = rng.poisson(0.3 * (codes[:, None] + 1), (400, 300)) * rng.random((400, 300))
    *clusters, others = sets(codes)
    data = gene_major(dense)
    assert rows_of(marker_table(data, clusters, others, 400)) == rows_of(
        marker_table(data, clusters, others, 400, threads=3)
    )


def test_where_nothing_differs_there_is_no_row():
    codes = np.array([0, 1] * 10)
    *clusters, others = sets(codes)
    table = marker_table(gene_major(np.ones((20, 3))), clusters, others, 20)
    assert rows_of(table) == []
