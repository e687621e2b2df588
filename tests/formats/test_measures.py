"""Numbers per cell come from a valid column, or from the counts, and never from values below 0."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellworker.experiment.draft import SparseDraft
from cellworker.experiment.model import Categorical, Genes
from cellworker.formats.common.cells.measures import ROLES, add_measures
from cellworker.formats.common.cells.measuring import Matrices, mitochondrial_genes
from cellworker.formats.common.findings import Findings

N_CELLS, N_GENES = 40, 12
GENES = Genes([f"g{i}" for i in range(N_GENES)], *2 * [["MT-1", "mt-2", *(f"G{i}" for i in range(N_GENES - 2))]])
DEPTH = np.random.default_rng(6).random((N_CELLS, 1)) * 9 + 1
COUNTS = np.floor(np.random.default_rng(5).poisson(2.0, (N_CELLS, N_GENES)) * DEPTH)
TOTAL, DETECTED = COUNTS.sum(axis=1), (COUNTS > 0).sum(axis=1)
SHARE = 100 * COUNTS[:, :2].sum(axis=1) / TOTAL
SCALED = (COUNTS - COUNTS.mean(axis=0)) / COUNTS.std(axis=0)
MADE_FROM_SCALED = SCALED.sum(axis=1)


def sparse(dense: np.ndarray) -> SparseDraft:
    rows, columns = np.nonzero(dense)
    indptr = np.searchsorted(rows, np.arange(len(dense) + 1)).astype(np.int64)
    return SparseDraft(indptr, columns.astype(np.int32), dense[rows, columns].astype(np.float32), dense.shape[1])


def log_values() -> np.ndarray:
    return np.log1p(COUNTS / TOTAL[:, None] * 1e4)


def add(columns, *, counts=COUNTS, data=None, **options):
    findings, metadata = Findings(), dict(columns)
    matrices = Matrices(
        None if counts is None else sparse(counts), None if data is None else sparse(data), mitochondrial_genes(GENES)
    )
    chosen = add_measures(metadata, matrices, N_CELLS, findings, table="obs", **options)
    values = {role: metadata[name] if name else None for role, (name, _) in chosen.items()}
    return values, chosen, findings, metadata


def test_a_total_made_from_scaled_values_is_never_taken():
    columns = {"total_counts": MADE_FROM_SCALED, "n_counts": TOTAL}
    for counts in (COUNTS, None):
        values, chosen, findings, metadata = add(columns, counts=counts)
        np.testing.assert_array_equal(values["nCount_RNA"], TOTAL)
        assert chosen["nCount_RNA"][1].startswith("column n_counts")
        (problem,) = [problem for problem in findings.problems if problem.field == "obs nCount_RNA"]
        assert "total_counts is not taken: values below 0" in problem.advice
        np.testing.assert_array_equal(metadata["total_counts"], MADE_FROM_SCALED)  # the file's own columns stay


@pytest.mark.parametrize(
    ("role", "bad"),
    [
        ("nCount_RNA", MADE_FROM_SCALED), ("nCount_RNA", np.full(N_CELLS, 1e4)), ("nCount_RNA", np.log1p(TOTAL)),
        ("nCount_RNA", np.where(np.arange(N_CELLS) == 3, np.nan, TOTAL)), ("nCount_RNA", TOTAL[::-1].copy()),
        ("nCount_RNA", np.where(np.arange(N_CELLS) == 3, np.inf, TOTAL)), ("nFeature_RNA", np.full(N_CELLS, N_GENES)),
        ("percent.mt", SCALED[:, 0]), ("percent.mt", np.argsort(np.argsort(-SHARE)) / 2),
    ],
)  # fmt: skip
def test_what_does_not_agree_with_the_counts_is_computed_from_them(role, bad):
    truth = {"nCount_RNA": TOTAL, "nFeature_RNA": DETECTED, "percent.mt": SHARE}[role]
    values, chosen, findings, metadata = add({role: bad})
    np.testing.assert_allclose(values[role], truth, rtol=1e-6)
    assert chosen[role][0] == f"{role} (computed)"
    np.testing.assert_array_equal(metadata[role], bad)
    assert any(problem.field == f"obs {role}" for problem in findings.problems)


def test_totals_from_before_genes_were_filtered_are_valid():
    before = TOTAL * 1.3 + 5
    values, *_ = add({"nCount_RNA": before})
    np.testing.assert_array_equal(values["nCount_RNA"], before)


@pytest.mark.parametrize("name", ["percent.mt", "pct_counts_mt", "percent_mito", "percent.mito", "mt_frac"])
@pytest.mark.parametrize("known", [{}, {"counts": None, "data": log_values()}])
def test_shares_are_percentages_whatever_their_unit(name, known):
    for column in (SHARE, SHARE / 100):
        values, *_ = add({name: column}, **known)
        np.testing.assert_allclose(values["percent.mt"], SHARE, rtol=1e-5)


def test_without_counts_a_fraction_is_reported_by_its_name():
    genes_without = {"counts": None, "data": None}
    values, *_ = add({"percent_mito": SHARE / 200}, **genes_without)
    np.testing.assert_allclose(values["percent.mt"], SHARE / 2)
    values, *_ = add({"percent.mt": SHARE / 200}, **genes_without)
    np.testing.assert_allclose(values["percent.mt"], SHARE / 200)


def test_an_invalid_column_without_counts_is_nothing_and_says_why():
    values, chosen, *_ = add({"doublet_scores": -np.ones(N_CELLS), "nCount_RNA": MADE_FROM_SCALED}, counts=None)
    assert values["doublet_scores"] is values["nCount_RNA"] is None
    assert "values below 0" in chosen["doublet_scores"][1]


def test_cells_without_a_score_are_reported():
    scores = np.where(np.arange(N_CELLS) < 3, np.nan, 0.1)
    values, _, findings, _ = add({"scrublet_score": scores})
    np.testing.assert_array_equal(values["doublet_scores"], scores)
    assert any("no number for 3 of 40 cells in scrublet_score" in problem.found for problem in findings.problems)


def test_a_complete_score_comes_before_one_with_gaps():
    gaps = np.where(np.arange(N_CELLS) < 3, np.nan, 0.1)
    values, *_ = add({"doublet_score": gaps, "scDblFinder.score": np.full(N_CELLS, 0.2)})
    assert values["doublet_scores"].tolist() == [0.2] * N_CELLS


def test_the_platforms_own_columns_stay_as_they_are():
    odd = np.where(np.arange(N_CELLS) == 3, np.nan, TOTAL[::-1])
    values, chosen, *_ = add({"nCount_RNA": odd, "percent.mt": SHARE / 100}, keep_own=True)
    np.testing.assert_array_equal(values["nCount_RNA"], odd)
    np.testing.assert_array_equal(values["percent.mt"], SHARE / 100)
    assert chosen["nCount_RNA"][0] == "nCount_RNA"


def test_columns_of_the_served_assay_count():
    values, *_ = add({"nCount_Spatial": TOTAL, "nFeature_Spatial": DETECTED}, assay="Spatial")
    np.testing.assert_array_equal(values["nFeature_RNA"], DETECTED)
    np.testing.assert_array_equal(values["nCount_RNA"], TOTAL)


NAMES = [
    "nCount_RNA", "n_counts", "total_counts", "nUMI", "nFeature_RNA", "n_genes", "n_genes_by_counts", "percent.mt",
    "pct_counts_mt", "percent_mito", "mt_frac", "doublet_scores", "doublet_score", "scDblFinder.score", "leiden",
]  # fmt: skip
COLUMNS = st.one_of(
    hnp.arrays(np.float64, N_CELLS, elements=st.floats(-100, 1e6) | st.just(np.nan)),
    hnp.arrays(np.int64, N_CELLS, elements=st.integers(-5, 10_000)),
    hnp.arrays(np.bool_, N_CELLS),
    st.sampled_from(
        [TOTAL, DETECTED, SHARE, SHARE / 100, MADE_FROM_SCALED, np.zeros(N_CELLS), np.full(N_CELLS, np.nan)]
    ),
    st.just(Categorical(np.zeros(N_CELLS, np.int32), ["a"])),
)


@given(columns=st.dictionaries(st.sampled_from(NAMES), COLUMNS), known=st.booleans())
@settings(deadline=None, max_examples=200)
def test_whatever_the_columns_hold_the_numbers_are_valid(columns, known):
    values, chosen, findings, metadata = add(columns, counts=COUNTS if known else None)
    for role in ROLES:
        found = values[role]
        if found is None:
            assert not known or role == "doublet_scores"  # what can be computed is never missing
            continue
        number = np.asarray(found, np.float64)
        assert not np.any(number < 0)
        assert not np.any(np.isinf(number))
        assert chosen[role][1]
        if np.isnan(number).any():
            assert role == "doublet_scores" or not known
            assert any(f"no number for {np.isnan(number).sum()} of" in problem.found for problem in findings.problems)
        if role == "percent.mt":
            assert np.nanmax(number) <= 100.001
    for name, column in columns.items():
        assert metadata[name] is column
