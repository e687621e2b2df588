"""How much genes vary: the same digits as the sums of numpy, whatever the values are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellworker.experiment.draft import SparseDraft
from cellworker.formats.common.cells.measuring import Matrices
from cellworker.formats.common.findings import Findings, PartBrokenError
from cellworker.formats.common.matrices import variances
from cellworker.formats.common.matrices.normalise import log_normalise
from cellworker.formats.common.matrices.variances import gene_variances
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.common.stages import MEASURING_CELLS, MEASURING_GENES, NORMALISING, heard

N_GENES = 7


def matrix(genes: np.ndarray, values: np.ndarray) -> SparseDraft:
    return SparseDraft(np.array([0, len(genes)], np.int64), genes, values, N_GENES)


@given(
    values=arrays(np.float32, st.integers(0, 60), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)),
    genes=st.randoms(use_true_random=False),
)
def test_the_sums_are_numpys_to_the_last_bit(values, genes):
    columns = np.array([genes.randrange(N_GENES) for _ in values], np.int32)
    sums, squares = variances._moments(columns, values, N_GENES)
    wide = values.astype(np.float64)
    with np.errstate(all="ignore"):
        expected = np.bincount(columns, wide, N_GENES), np.bincount(columns, wide * wide, N_GENES)
    np.testing.assert_array_equal(sums, expected[0])
    np.testing.assert_array_equal(squares, expected[1])


def test_every_pass_over_a_matrix_is_heard():
    counts = matrix(np.arange(7, dtype=np.int32), np.ones(7, np.float32))
    found: list[tuple[str, float]] = []
    with heard(lambda stage, fraction: found.append((stage, fraction))):
        data = log_normalise(counts, "counts", Findings(), Scratch())
        Matrices(counts, data, np.zeros(N_GENES, bool)).compute("nCount_RNA", 1)
        gene_variances(data, Findings())
    assert found == [(stage, 0.0) for stage in (NORMALISING, MEASURING_CELLS, MEASURING_GENES)]
    gene_variances(data, Findings())
    assert len(found) == 3, "whoever does not listen any more is told nothing"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_the_variance_is_that_of_all_cells(dtype):
    dense = np.random.default_rng(1).poisson(1.0, (50, N_GENES))
    rows, genes = np.nonzero(dense)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=50))])
    data = SparseDraft(indptr, genes.astype(np.int32), dense[rows, genes].astype(dtype), N_GENES)
    np.testing.assert_allclose(gene_variances(data, Findings()), dense.var(axis=0, ddof=1))


@pytest.mark.parametrize("gene", [-1, N_GENES])
def test_a_gene_that_is_not_there_is_refused(gene):
    findings = Findings()
    with pytest.raises(PartBrokenError):
        gene_variances(matrix(np.array([0, gene], np.int32), np.ones(2, np.float32)), findings)
    assert f"index {gene}" in findings.problems[0].found
    with pytest.raises(ValueError, match="outside 0 to 6"):
        variances._moments(np.array([0, gene], np.int32), np.ones(2, np.float32), N_GENES)
