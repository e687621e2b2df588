"""CSV rows against the same table written by plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.analysis.text.csv_text import CsvRows


def plain_python(dense, ids):
    """The table that is wanted: float32 dense ``(n_columns, n_genes)``."""
    lines = []
    for number, (gene, column) in enumerate(zip(ids, dense.T, strict=True), start=1):
        cells = [np.format_float_positional(x, unique=True, trim="-") if x else "0" for x in column]
        lines.append(",".join([str(number), gene, *cells]) + "\n")
    return "".join(lines)


def rows_of(dense, ids, columns=None):
    indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(dense, axis=0))]).astype(np.int64)
    cells = np.concatenate([np.flatnonzero(column) for column in dense.T] or [[]]).astype(np.int32)
    values = np.concatenate([column[column != 0] for column in dense.T] or [[]]).astype(np.float32)
    if columns is None:
        columns = np.arange(len(dense), dtype=np.int32)
    return CsvRows(indptr, cells, values, ids, columns, int(columns.max(initial=-1)) + 1)


@given(st.integers(1, 200), st.integers(1, 5), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_rows_are_what_plain_python_writes(n_columns, n_genes, density, seed):
    random = np.random.default_rng(seed)
    dense = np.where(random.random((n_columns, n_genes)) < density, random.gamma(2, 1.3, (n_columns, n_genes)), 0)
    dense = np.maximum(dense, 1e-4 * (dense > 0)).astype(np.float32)
    ids = [f"ENSG{i}" for i in range(n_genes)]
    rows = rows_of(dense, ids)
    assert bytes(rows.text(0, n_genes)).decode() == plain_python(dense, ids)
    parts = [bytes(rows.text(first, last)) for first, last in rows.blocks(300)]
    assert b"".join(parts) == bytes(rows.text(0, n_genes))


def test_cells_can_be_left_out_and_moved():
    dense = np.array([[1, 0], [0, 2.5], [3, 0]], np.float32)
    rows = rows_of(dense, ["a", "b"], np.array([1, -1, 0], np.int32))
    assert bytes(rows.text(0, 2)) == b"1,a,3,1\n2,b,0,0\n"


def test_missing_and_infinite_values_have_rs_names():
    rows = CsvRows(
        np.array([0, 3]), np.arange(3, dtype=np.int32), np.array([-np.inf, np.inf, np.nan], np.float32), ["g"],
        np.arange(4, dtype=np.int32), 4,
    )  # fmt: skip
    assert bytes(rows.text(0, 1)) == b"1,g,-Inf,Inf,NA,0\n"


def test_gene_ids_may_be_anything_that_is_text():
    rows = rows_of(np.zeros((1, 3), np.float32), ["β-actin", "", "x" * 5000])
    assert bytes(rows.text(0, 3)).decode() == f"1,β-actin,0\n2,,0\n3,{'x' * 5000},0\n"


def test_a_block_holds_at_least_one_gene():
    rows = rows_of(np.ones((50, 3), np.float32), ["a", "b", "c"])
    assert rows.blocks(1) == [(0, 1), (1, 2), (2, 3)]
    assert rows.blocks(1 << 20) == [(0, 3)]


def test_a_damaged_matrix_is_an_error_and_not_a_crash():
    three = np.arange(3, dtype=np.int32)
    one = np.ones(1, np.float32)
    with pytest.raises(ValueError, match="cells that do not exist"):
        CsvRows(np.array([0, 1]), np.array([3], np.int32), one, ["a"], three, 3).text(0, 1)
    with pytest.raises(ValueError, match="indptr"):
        CsvRows(np.array([0, 2]), np.array([0], np.int32), one, ["a"], three, 3)
    with pytest.raises(ValueError, match="columns that do not exist"):
        CsvRows(np.array([0, 1]), np.array([0], np.int32), one, ["a"], three, 2)
    with pytest.raises(ValueError, match="differ in length"):
        CsvRows(np.array([0, 1]), np.array([0], np.int32), one, ["a", "b"], three, 3)
    with pytest.raises(ValueError, match="no such genes"):
        rows_of(np.ones((2, 1), np.float32), ["a"]).text(0, 2)
