"""Seurat's choice of variable genes and its scaled values, against what Seurat made (tests/fixtures/seurat)."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import cell_major, gene_major
from cellworker.analysis.annotation.marker_scores import scaled_cluster_sums
from cellworker.analysis.statistics.variable_genes import gene_variability, joined_ranking
from cellworker.formats.opening.open import open_experiment
from cellworker.settings import Settings

FIXTURES = Path(__file__).parent.parent / "fixtures"
PARTS = ("mean", "variance", "expected", "standardized")


def seurats(name):
    return json.loads(gzip.decompress((FIXTURES / "seurat" / f"{name}.json.gz").read_bytes()))


def measured(counts, threads=2):
    return gene_variability(
        counts.genes, counts.values, n_cells=counts.n_cells, n_genes=counts.n_genes, threads=threads
    )


@pytest.fixture(scope="session")
def opened(tmp_path_factory):
    settings = Settings(store_dir=tmp_path_factory.mktemp("store"))
    return lambda folder: open_experiment(folder, settings).experiment


@pytest.mark.parametrize("kind", ["v4", "v5"])
def test_seurats_numbers_come_out(opened, kind):
    want, got = seurats("pbmcsmall"), measured(opened(FIXTURES / "pbmcsmall" / kind).counts)
    for part in PARTS:
        np.testing.assert_allclose(getattr(got, part), want[part], rtol=1e-10)
    assert got.top(100).tolist() == want["top"]


def test_genes_that_are_rare_constant_or_absent_are_as_in_seurat():
    want = seurats("drawn")
    got = measured(cell_major(np.array(want["counts"]).T))
    for part in PARTS:
        np.testing.assert_allclose(getattr(got, part), want[part], rtol=1e-10)
    assert set(got.top(150).tolist()) == set(want["top"])  # among genes with the same counts Seurat's order is chance
    assert not got.standardized[:8].any()
    assert set(range(5)).isdisjoint(got.ranking().tolist())


@pytest.mark.shared
@pytest.mark.parametrize("name", ["pbmc3k", "multisample"])
def test_the_genes_chosen_are_seurats(opened, shared, name):
    want, got = seurats(name), measured(opened(shared / "data" / "experiments" / name / "v4").counts)
    assert set(got.top(2000).tolist()) == set(want["top"])
    np.testing.assert_allclose(got.standardized[want["top"]], want["standardized"], rtol=1e-11)


def test_genes_of_split_layers_are_those_that_seurat_chooses_for_several_objects():
    for case in seurats("joined"):
        names = np.array(case["names"])
        number = {name: gene for gene, name in enumerate(case["names"])}
        everywhere = np.array([all(gene in own for own in case["own"]) for gene in range(len(names))])
        rankings = [np.array([number[name] for name in ranking]) for ranking in case["rankings"]]
        chosen = joined_ranking(rankings, np.argsort(np.argsort(names)), everywhere, case["n"])
        assert names[chosen].tolist() == case["chosen"]


def test_no_gene_is_chosen_where_layers_share_none():
    rankings = [np.array([0, 1]), np.array([2])]
    assert joined_ranking(rankings, np.arange(3), np.zeros(3, bool), 5).tolist() == []
    assert joined_ranking(rankings, np.arange(3), np.ones(3, bool), 0).tolist() == []


def test_scaled_values_are_seurats():
    want = seurats("drawn")
    counts = np.array(want["counts"], float).T
    data = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    matrix = gene_major(np.where(data != 0, 1, 0))
    values = np.concatenate([data[matrix.gene(gene)[0], gene] for gene in range(data.shape[1])])
    genes, n_cells = np.array(want["scaled_genes"]), len(data)
    got = scaled_cluster_sums((matrix.indptr, matrix.cells, values), genes, np.arange(n_cells), n_cells)
    np.testing.assert_allclose(got.T, want["scaled"], atol=1e-10)
    assert got.max() == 10  # something was cut


COUNTS = st.integers(2, 12).flatmap(
    lambda cells: st.lists(
        st.lists(st.sampled_from([0, 0, 0, 1, 1, 2, 50]), min_size=cells, max_size=cells), min_size=1
    )
)


@given(COUNTS)
def test_any_counts_have_a_ranking(counts):
    dense = np.array(counts).T
    got = measured(cell_major(dense))
    np.testing.assert_allclose(got.variance, dense.var(axis=0, ddof=1), atol=1e-9)
    assert np.isfinite(got.standardized).all()
    assert (got.standardized >= 0).all()
    assert not got.standardized[got.variance == 0].any()
    assert sorted(got.ranking().tolist()) == np.flatnonzero(dense.any(axis=0)).tolist()
    # Genes with the same counts are as variable as each other, to the last bit.
    twice = measured(cell_major(np.hstack([dense, dense])))
    n = dense.shape[1]
    assert twice.standardized[:n].tolist() == twice.standardized[n:].tolist()


def test_neither_threads_nor_the_kind_of_number_matter():
    dense = np.random.default_rng(3).poisson(0.6, (700, 900))
    counts = cell_major(dense)
    one, other = measured(counts, threads=1), measured(counts, threads=3)
    for part in PARTS:
        np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
    whole = gene_variability(counts.genes, counts.values.astype(np.uint8), n_cells=700, n_genes=900)
    np.testing.assert_array_equal(whole.standardized, one.standardized)


def test_progress_is_reported_and_may_stop_it():
    told = []
    counts = cell_major(np.eye(5))
    gene_variability(counts.genes, counts.values, n_cells=5, n_genes=5, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1


def test_what_cannot_be_measured():
    counts = cell_major(np.eye(5))
    with pytest.raises(ValueError, match="at least two"):
        gene_variability(counts.genes, counts.values, n_cells=1, n_genes=5)
    with pytest.raises(ValueError, match="length"):
        gene_variability(counts.genes[1:], counts.values, n_cells=5, n_genes=5)
    with pytest.raises(IndexError):
        gene_variability(counts.genes, counts.values, n_cells=5, n_genes=4)


def test_genes_below_zero_or_without_numbers_are_not_chosen():
    dense = np.random.default_rng(1).poisson(2.0, (30, 12)).astype(np.float32)
    dense[:, 3] = -dense[:, 3]
    dense[4, 7] = np.nan
    got = measured(cell_major(dense))
    assert {3, 7}.isdisjoint(got.top(5).tolist())
    assert np.isfinite(got.standardized).all()
