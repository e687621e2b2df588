"""Matrices of different cells laid into one: every value is in its cell and gene, whatever the order of both."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellworker.errors import WorkerError
from cellworker.experiment.draft import SparseDraft
from cellworker.formats.common.findings import Findings, PartBrokenError
from cellworker.formats.common.matrices import sparse
from cellworker.formats.common.matrices.sparse import assemble
from cellworker.formats.common.scratch import Scratch


def compressed(dense, rng, *, ascending):
    """Return a matrix as compressed rows, the entries of a row in any order where they need not ascend."""
    columns, values, lengths = [], [], []
    for row in dense:
        found = np.flatnonzero(row)
        found = found if ascending else rng.permutation(found)
        columns.append(found)
        values.append(row[found])
        lengths.append(len(found))
    return SparseDraft(
        np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), np.concatenate(columns).astype(np.int32),
        np.concatenate(values).astype(np.float32), dense.shape[1],
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n_parts=st.integers(1, 3), ascending=st.booleans(), in_order=st.booleans(),
    block=st.sampled_from([1, 7, 1 << 22]),
)  # fmt: skip
def test_every_value_lies_in_its_cell_and_gene(seed, n_parts, ascending, in_order, block):
    rng = np.random.default_rng(seed)
    n_genes = int(rng.integers(1, 9))
    sizes = rng.integers(1, 7, n_parts)
    kept = [np.flatnonzero(rng.random(size) < 0.7) for size in sizes]
    places = np.arange(sum(map(len, kept)))
    places = places if in_order else rng.permutation(places)
    whole, parts = np.zeros((len(places), n_genes), np.float32), []
    for size, rows in zip(sizes, kept, strict=True):
        width = int(rng.integers(1, 9))
        dense = (rng.integers(0, 9, (size, width)) * (rng.random((size, width)) < 0.5)).astype(np.float32)
        genes = np.full(width, -1, np.int64)
        some = rng.permutation(width)[: min(width, n_genes)]
        genes[some] = rng.permutation(n_genes)[: len(some)]
        cells = np.full(size, -1, np.int64)
        cells[rows], places = places[: len(rows)], places[len(rows) :]
        whole[np.ix_(cells[rows], genes[some])] = dense[np.ix_(rows, some)]
        parts.append((compressed(dense, rng, ascending=ascending), cells, genes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse, "_BLOCK", block)
        made = assemble(parts, whole.shape, "counts", Findings(), Scratch())
    found = np.zeros_like(whole)
    for row in range(len(whole)):
        inside = slice(made.indptr[row], made.indptr[row + 1])
        assert np.all(np.diff(made.columns[inside]) > 0), "genes of a cell ascend"
        found[row, made.columns[inside]] = made.values[inside]
    np.testing.assert_array_equal(found, whole)


def test_a_gene_beyond_the_last_is_refused():
    matrix = SparseDraft(np.array([0, 1]), np.array([3], np.int32), np.ones(1, np.float32), 3)
    with pytest.raises((WorkerError, PartBrokenError)):
        assemble([(matrix, np.zeros(1, np.int64), np.arange(3))], (1, 3), "counts", Findings(), Scratch())
