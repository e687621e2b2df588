"""Values that counts tell come back to the bit; where counts do not tell them, the store has them beside the counts."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.experiment.test_store import SLOW, dense_of, draft_of, same_bits, sparse, written

from cellworker.analysis.matrices.gene_sorter import GeneSorter
from cellworker.analysis.matrices.levels import MAX_LEVELS, Levels, ToldValues, find_levels
from cellworker.analysis.statistics.sums import group_sums


@SLOW
@given(
    seed=st.integers(0, 2**32 - 1),
    largest=st.sampled_from([1, 3, 255, 256, 65_535, 65_536, 2**24]),
    special=st.sampled_from([1.5, -2.0, np.nan, np.inf, 1e-45]),
    spoilt=st.booleans(),
)
def test_values_come_back_to_the_bit_whatever_the_counts_stand_for(tmp_path, seed, largest, special, spoilt):
    random = np.random.default_rng(seed)
    shape = int(random.integers(1, 9)), int(random.integers(2, 30))
    counts = np.minimum(random.geometric(0.5, shape) ** 3, largest) * (random.random(shape) < 0.7)
    counts[0, :2] = 1, largest
    stands_for = [dict.fromkeys(np.unique(row).tolist(), 0.0) for row in counts]
    for known in stands_for:  # any function at all, another for each cell
        known.update({count: special if random.random() < 0.1 else random.normal() for count in known if count})
    values = np.array(
        [[known[count] for count in row] for known, row in zip(stands_for, counts.tolist(), strict=True)], np.float32
    )
    if spoilt:  # one count stands for two values
        counts[-1], values[-1, -1] = 1, 7.5
        values[-1, :-1] = 2.5
    values[counts > 0] = np.where(values[counts > 0] == 0, 0.5, values[counts > 0])

    experiment = written(tmp_path / "a.h5ad", draft_of(values, counts=sparse(counts)), threads=1)

    assert same_bits(dense_of(experiment.data_by_cell), values)
    assert np.array_equal(dense_of(experiment.counts), counts)
    for gene in range(shape[1]):
        assert same_bits(experiment.data.dense(gene), values[:, gene])
    if spoilt:
        assert isinstance(experiment.data_by_cell.values, np.ndarray)


def test_values_of_another_pattern_or_without_counts_are_kept_as_they_are(tmp_path):
    values = np.random.default_rng(1).normal(size=(20, 9)).astype(np.float32)
    counts = np.ones((20, 9), np.float32)
    counts[3, 3] = 0
    for draft in (draft_of(values), draft_of(values, counts=sparse(counts)), draft_of(values, counts=sparse(values))):
        experiment = written(tmp_path / "a.h5ad", draft)
        assert same_bits(dense_of(experiment.data_by_cell), values)


def test_a_store_of_counts_takes_less_than_twelve_bytes_a_value(tmp_path):
    random = np.random.default_rng(2)
    counts = random.geometric(0.5, (300, 1500)).astype(np.float32)
    values = np.log1p(counts * (1e4 / counts.sum(axis=1, keepdims=True)))
    experiment = written(tmp_path / "a.h5ad", draft_of(values, counts=sparse(counts)))
    assert experiment.n_bytes - 300_000 < 11.5 * counts.size  # the names of cells and genes, and HDF5's own


@pytest.mark.parametrize(("n_genes", "dtype"), [(65_536, np.uint16), (65_537, np.int32)])
def test_numbers_of_genes_are_as_wide_as_they_need_to_be(tmp_path, n_genes, dtype):
    dense = np.zeros((3, n_genes), np.float32)
    dense[:, [0, 255, n_genes - 1]] = [[1, 2, 3], [4, 0, 6], [0, 8, 9]]
    experiment = written(tmp_path / "a.h5ad", draft_of(dense))
    assert experiment.data_by_cell.genes.dtype == dtype
    assert np.array_equal(dense_of(experiment.data_by_cell), dense)
    assert experiment.data.dense(n_genes - 1).tolist() == [3, 6, 9]


@pytest.fixture
def told():
    """Two rows, the first with a gap between its counts."""
    counts = np.array([1, 9, 1, 2, 3], np.uint8)
    levels = Levels(
        np.array([0, 2, 4], np.int64), np.array([1, 9, 2, 3], np.uint8), np.array([0.5, 4.5, 1.5, -1.5], np.float32)
    )
    return ToldValues(np.array([0, 3, 5], np.int64), counts, levels)


def test_parts_of_told_values_are_those_of_the_whole(told):
    whole = [0.5, 4.5, 0.5, 1.5, -1.5]
    assert np.asarray(told).tolist() == whole
    assert (len(told), told.size, told.shape, told.ndim, told.dtype) == (5, 5, (5,), 1, np.float32)
    for part in (slice(1, 4), slice(4, 1), slice(-2, None), slice(None, None, 2), slice(5, 9)):
        assert told[part].tolist() == whole[part]
    assert told[np.array([4, 0, 3, 0])].tolist() == [-1.5, 0.5, 1.5, 0.5]
    for places in ([5], [-1]):
        with pytest.raises(IndexError):
            told[np.array(places)]


def test_sums_of_told_values_are_those_of_the_values(tmp_path):
    random = np.random.default_rng(5)
    counts = random.poisson(1.0, (5000, 12)).astype(np.float32)
    values = np.log1p(counts * random.random((5000, 1)))
    matrix = written(tmp_path / "a.h5ad", draft_of(values, counts=sparse(counts))).data_by_cell
    rows, group = random.permutation(5000)[:4500], random.integers(0, 3, 4500)
    told, plain = (
        group_sums(matrix.indptr, genes, held, rows, group, n_groups=3, n_genes=12, threads=2)
        for genes, held in ((matrix.genes, matrix.values), (matrix.genes.astype(np.int32), np.asarray(matrix.values)))
    )
    assert isinstance(matrix.values, ToldValues)
    assert np.array_equal(told, plain)


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("counts", [1, 8, 2, 3]),  # 9 is not listed
        ("counts", [9, 9, 9, 9]),
        ("counts", [0, 0, 0, 0]),
        ("first", [0, 0, 0]),
        ("first", [2, 4, 2]),
        ("first", [-5, 2, 4]),
        ("first", [0, 2, 1 << 40]),
    ],
)
def test_damaged_levels_are_found_by_readers_and_by_the_sort(told, part, content):
    parts = {name: getattr(told.levels, name) for name in ("first", "counts", "values")}
    parts[part] = np.array(content, parts[part].dtype)
    indptr = np.array([0, 3, 5], np.int64)
    damaged = ToldValues(indptr, told.counts, Levels(**parts))
    with pytest.raises(ValueError, match="the store is damaged"):
        np.asarray(damaged)
    genes = np.array([0, 1, 2, 0, 1], np.uint16)
    with pytest.raises(ValueError, match="counted"):
        GeneSorter((indptr, genes, damaged), np.array([0, 2, 4, 5], np.int64)).until(3)


def test_a_count_of_zero_and_levels_of_another_matrix_are_refused(told):
    with pytest.raises(ValueError, match="damaged"):
        np.asarray(ToldValues(np.array([0, 3, 5], np.int64), np.zeros(5, np.uint8), told.levels))
    with pytest.raises(ValueError, match="not those"):
        ToldValues(np.array([0, 5], np.int64), told.counts, told.levels)
    with pytest.raises(ValueError, match="not those"):
        ToldValues(np.array([0, 3, 5], np.int64), told.counts.astype(np.uint16), told.levels)
    with pytest.raises(ValueError, match="bounds"):
        find_levels(np.array([0, 3], np.int64), np.ones(2, np.uint32), np.ones(2, np.float32))


def test_a_cell_of_too_many_levels_tells_nothing():
    counts = np.random.default_rng(0).permutation(MAX_LEVELS + 1).astype(np.uint32) + 1
    for size in (MAX_LEVELS, MAX_LEVELS + 1):
        bounds, values = np.array([0, size], np.int64), np.arange(size, dtype=np.float32)
        found = find_levels(bounds, counts[:size], values)
        if size > MAX_LEVELS:
            assert found is None
        else:
            assert found is not None
            assert np.array_equal(found[1], np.sort(counts[:size]))
            assert np.array_equal(found[2], values[np.argsort(counts[:size])])


def test_other_tools_read_narrow_numbers_of_genes(tmp_path):
    counts = np.array([[1, 0, 2], [0, 3, 1]], np.float32)
    path = tmp_path / "a.h5ad"
    written(path, draft_of(np.log1p(counts), counts=sparse(counts)))
    with h5py.File(path) as file:
        assert file["layers/counts/indices"][:].tolist() == [0, 2, 1, 2]
        assert file["layers/counts/indices"].dtype == np.uint16
        assert file["X"].attrs["encoding-type"] == "csc_matrix"


@pytest.mark.parametrize("largest", [200, 60_000, 100_000, None])
@pytest.mark.parametrize("n_genes", [40, 65_540])
def test_a_store_is_the_same_whether_its_matrix_is_sorted_at_once_or_in_ranges(tmp_path, monkeypatch, largest, n_genes):
    """The ranges hold genes and counts as narrow as the store does; without counts they hold values."""
    from cellworker.experiment.store import sorted_side

    random = np.random.default_rng(6)
    counts = np.zeros((60, n_genes), np.float32)
    places = random.random((60, 40)) < 0.4
    counts[:, -40:][places] = random.integers(1, largest or 50, int(places.sum()))
    values = np.log1p(counts * random.uniform(0.5, 3, (60, 1)).astype(np.float32))
    draft = draft_of(values, counts=None if largest is None else sparse(counts))
    written(tmp_path / "whole.h5ad", draft)
    monkeypatch.setattr(sorted_side, "_RESIDENT", 0)
    monkeypatch.setattr(sorted_side, "_SHELF", 70)
    monkeypatch.setattr(sorted_side, "_SPLIT_ROWS", 33)
    monkeypatch.setattr(sorted_side, "_PIECE", 9)
    experiment = written(tmp_path / "ranges.h5ad", draft)
    assert (tmp_path / "whole.h5ad").read_bytes() == (tmp_path / "ranges.h5ad").read_bytes()
    for gene in range(n_genes - 40, n_genes):
        assert same_bits(experiment.data.dense(gene), values[:, gene])
