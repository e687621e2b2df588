"""Statistics and values of genes, read off value-sorted columns, against NumPy on the dense matrix."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellworker.analysis.statistics import expression
from cellworker.analysis.statistics.expression import RowTexts, gather_picked, gene_statistics
from cellworker.analysis.text.number_text import floats_json, ints_json

value = st.one_of(st.just(0.0), st.just(0.0), st.floats(-50, 50, width=32), st.integers(-3, 3))
dense_matrices = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 130), st.integers(1, 4)), elements=value, fill=st.just(0.0)
)


def sorted_columns(dense):
    indptr, cells, values = [0], [], []
    for column in dense.T:
        stored = np.flatnonzero(column)
        order = np.argsort(column[stored], kind="stable")
        cells.append(stored[order])
        values.append(column[stored][order])
        indptr.append(indptr[-1] + len(stored))
    return np.array(indptr, np.int64), np.concatenate(cells).astype(np.int32), np.concatenate(values).astype(np.float32)


def every_gene(dense):
    return np.arange(dense.shape[1], dtype=np.int64)


def numpy_cap(column):
    return next((q for q in (np.quantile(column, p / 100) for p in range(95, 101)) if q != 0), 0.0)


@given(dense_matrices)
def test_statistics_are_numpys(dense):
    indptr, _, values = sorted_columns(dense)
    got = gene_statistics(indptr, values, every_gene(dense), len(dense))
    exact = dense.astype(np.float64)
    scale = np.abs(exact).max() + 1e-30
    np.testing.assert_allclose(got.mean, exact.mean(axis=0), rtol=1e-12, atol=1e-12 * scale)
    np.testing.assert_array_equal(got.minimum, exact.min(axis=0))
    np.testing.assert_allclose(got.cap, [numpy_cap(column) for column in exact.T], rtol=1e-12, atol=1e-12 * scale)
    if len(dense) > 1:
        np.testing.assert_allclose(got.deviation, exact.std(axis=0, ddof=1), rtol=1e-7, atol=1e-9 * scale)


def test_the_worked_examples_of_the_original_hold():
    # algorithms.md, section 4: 200 cells
    columns = [np.arange(1, 61) / 10, np.arange(1, 9) / 2, [1.5, 2.5], [3.25], []]
    dense = np.zeros((200, len(columns)), np.float32)
    for gene, column in enumerate(columns):
        dense[: len(column), gene] = column
    indptr, _, values = sorted_columns(dense)
    got = gene_statistics(indptr, values, every_gene(dense), 200)
    assert got.mean[0] == pytest.approx(0.915, rel=1e-7)
    assert got.deviation[0] == pytest.approx(1.6934028066, rel=1e-7)
    assert got.cap == pytest.approx([5.005, 0.02, 0.015, 3.25, 0.0], rel=1e-6)


def test_a_constant_gene_has_no_deviation_and_one_cell_has_none_to_tell():
    dense = np.full((7, 1), 0.1, np.float32)
    indptr, _, values = sorted_columns(dense)
    assert gene_statistics(indptr, values, every_gene(dense), 7).deviation == pytest.approx([0.0], abs=1e-15)
    indptr, _, values = sorted_columns(dense[:1])
    assert np.isnan(gene_statistics(indptr, values, every_gene(dense), 1).deviation).all()


def test_a_gene_with_nan_has_no_statistics():
    got = gene_statistics(np.array([0, 2, 3]), np.array([1, np.nan, 2], np.float32), np.array([0, 1]), 4)
    assert np.isnan([got.mean[0], got.deviation[0], got.minimum[0], got.cap[0]]).all()
    assert got.mean[1] == 0.5


any_float = st.integers(0, 2**32 - 1).map(lambda bits: np.uint32(bits).view(np.float32))
some_floats = st.lists(any_float | st.sampled_from([1.0, 0.1, 2.5, -3.0, 1e8, 12345678.0]).map(np.float32), max_size=60)


def row_texts(matrix, genes, row_of_cell, n_rows):
    texts, values, rows = RowTexts(*matrix, genes, row_of_cell, n_rows), BytesIO(), BytesIO()
    ptr = texts.write_values(values)
    texts.write_rows(rows)
    return ptr, values.getvalue(), rows.getvalue()


def wanted_texts(wide):
    stored = [np.flatnonzero(column) for column in wide.T]
    values = [column[rows] for rows, column in zip(stored, wide.T, strict=True)]
    ptr = np.cumsum([0, *map(len, stored)])
    return ptr, floats_json(np.concatenate(values)), ints_json(np.concatenate(stored).astype(np.int32))


@pytest.fixture(params=[0, 1, 2], ids=["plain", "avx2", "avx512"])
def widest(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expression, "_WIDEST", request.param)
        yield


@pytest.mark.usefixtures("widest")
@given(dense_matrices, st.sampled_from([0, 1, 70, 5000]), st.randoms(use_true_random=False))
def test_rows_come_out_by_ascending_row(dense, gap, random):
    row_of_cell = np.array(random.sample(range(len(dense) + gap), len(dense)), np.int32)
    wide = np.zeros((len(dense) + gap, dense.shape[1]), np.float32)
    wide[row_of_cell] = dense
    got = row_texts(sorted_columns(dense), every_gene(dense), row_of_cell, len(wide))
    wanted = wanted_texts(wide)
    np.testing.assert_array_equal(got[0], wanted[0])
    assert got[1:] == wanted[1:]


@pytest.mark.usefixtures("widest")
@given(some_floats, some_floats, st.randoms(use_true_random=False))
def test_values_of_any_size_are_written_as_elsewhere(first, second, random):
    dense = np.zeros((max(len(first), len(second), 1), 2), np.float32)
    for column, values in zip(dense.T, (first, second), strict=True):
        column[random.sample(range(len(dense)), len(values))] = values
    got = row_texts(sorted_columns(dense), every_gene(dense), np.arange(len(dense), dtype=np.int32), len(dense))
    assert got[1:] == wanted_texts(dense)[1:]


@pytest.mark.usefixtures("widest")
@pytest.mark.parametrize("scale", [1e-42, 1e-6, 1e-5, 1e-3, 0.02, 0.3, 1, 7, 90, 1e3, 1e6, 1e7, 1e8, 1e10, 1e15, 1e34])
def test_many_values_of_each_magnitude_are_written_as_elsewhere(scale):
    random = np.random.default_rng(5)
    dense = np.concatenate([random.gamma(2, scale, 3000), random.integers(1, 2000, 3000) * scale, [scale, -scale]])
    dense = (dense * random.choice([1, 1, -1], len(dense)))[random.permutation(len(dense))].astype(np.float32)[:, None]
    rows = random.permutation(len(dense) + 200_000)[: len(dense)].astype(np.int32)
    wide = np.zeros((len(dense) + 200_000, 1), np.float32)
    wide[rows] = dense
    got = row_texts(sorted_columns(dense), every_gene(dense), rows, len(wide))
    assert got[1:] == wanted_texts(wide)[1:]


def test_a_gene_with_more_values_than_places_can_number_is_refused(monkeypatch):
    dense = np.ones((5, 1), np.float32)
    monkeypatch.setattr(RowTexts, "MAX_VALUES", 5)
    with pytest.raises(ValueError, match="a gene has 5 values, but no more than 4"):
        RowTexts(*sorted_columns(dense), every_gene(dense), np.arange(5, dtype=np.int32), 5)


def test_rows_without_values_are_empty_arrays():
    matrix = np.array([0, 0, 1, 1]), np.array([0], np.int32), np.ones(1, np.float32)
    rows = np.array([2], np.int32)
    for genes, wanted in (([0, 2], ([0, 0, 0], b"[]", b"[]")), ([0, 1, 2], ([0, 0, 1, 1], b"[1.0]", b"[2]"))):
        ptr, *texts = row_texts(matrix, np.array(genes), rows, 3)
        assert (ptr.tolist(), *texts) == wanted


@given(dense_matrices, st.data())
def test_picked_cells_come_out_in_their_order_repeated_or_missing(dense, data):
    picked = np.array(data.draw(st.lists(st.integers(-1, len(dense) - 1), max_size=200)), np.int32)
    got = gather_picked(*sorted_columns(dense), every_gene(dense), picked, len(dense))
    table = np.where(picked[:, None] >= 0, dense[picked], 0)
    for gene, column in enumerate(table.T):
        part = slice(got.ptr[gene], got.ptr[gene + 1])
        np.testing.assert_array_equal(got.rows[part], np.flatnonzero(column))
        np.testing.assert_array_equal(got.values[part], column[column != 0])


@pytest.mark.parametrize("gather", ["rows", "picked"])
def test_a_damaged_matrix_is_an_error_and_not_a_crash(gather):
    indptr, cells, values = np.array([0, 2]), np.array([0, 7], np.int32), np.ones(2, np.float32)
    gene, places = np.array([0]), np.arange(3, dtype=np.int32)

    def run(indptr, cells, places, gene=gene):
        if gather == "rows":
            return row_texts((indptr, cells, values), gene, places, 3)
        return gather_picked(indptr, cells, values, gene, places, 3)

    if gather == "rows":
        texts = RowTexts(indptr, cells, values, gene, places, 3)
        with pytest.raises(ValueError, match="cells that do not exist"):
            texts.write_rows(BytesIO())
    with pytest.raises(ValueError, match="cells that do not exist"):
        run(indptr, cells, places)
    with pytest.raises(ValueError, match="cells that do not exist"):
        run(indptr, np.array([-1, 0], np.int32), places)
    with pytest.raises(ValueError, match="indptr"):
        run(np.array([0, 9]), cells, places)
    with pytest.raises(ValueError, match="do not exist"):
        run(indptr, cells, places, np.array([1]))
    with pytest.raises(ValueError, match="do not exist"):
        run(indptr, np.zeros(2, np.int32), places + 1)
    with pytest.raises(ValueError, match="length"):
        run(indptr, cells[:1], places)
