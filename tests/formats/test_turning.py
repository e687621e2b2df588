"""Matrices of compressed columns are turned straight from their file, and share index arrays where they can."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from cellworker.errors import WorkerError
from cellworker.formats.anndata.containers.hdf5 import open_hdf5
from cellworker.formats.anndata.matrices import matrix_of
from cellworker.formats.anndata.turning import CompressedColumns
from cellworker.formats.common.scratch import Scratch


def write(file, name: str, matrix: sparse.csc_matrix, chunks: tuple[int, int] = (0, 0)) -> None:
    group = file.create_group(name)
    group.attrs.update({"encoding-type": "csc_matrix", "encoding-version": "0.1.0", "shape": matrix.shape})
    group["indptr"] = matrix.indptr
    for part, chunk in zip(("indices", "data"), chunks, strict=True):
        how = {"chunks": (min(chunk, matrix.nnz),), "compression": "gzip"} if chunk and matrix.nnz else {}
        group.create_dataset(part, data=getattr(matrix, part), **how)


def dense(draft) -> np.ndarray:
    return sparse.csr_matrix(
        (draft.values, draft.columns, draft.indptr), (len(draft.indptr) - 1, draft.n_columns)
    ).toarray()


def tell(_: float) -> None:
    pass


@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    density=st.floats(0, 1),
    chunks=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    kind=st.sampled_from([np.float32, np.float64, np.int64, np.uint8]),
    large=st.booleans(),
    maps=st.booleans(),
    seed=st.integers(0, 99),
)
def test_rows_are_those_of_the_columns(tmp_path_factory, shape, density, chunks, kind, large, maps, seed):
    path = tmp_path_factory.mktemp("csc") / "a.h5"
    made = sparse.random(*shape, density, "csc", random_state=np.random.default_rng(seed))
    made.data = np.ceil(made.data * 200)
    if large and kind in (np.int64, np.float64) and made.nnz:
        made.data[0] = 2**24 + 1  # float32 has no such number
    made = made.astype(kind)
    with h5py.File(path, "w") as file:
        write(file, "a", made, chunks)
        write(file, "b", made, chunks[::-1])
    with open_hdf5(path, 1 << 30, maps=maps) as root:
        one, two = matrix_of(root.get("a")), matrix_of(root.get("b"))
        first = one.read(Scratch(), tell)
        second = two.read(Scratch(), tell, [(one, first)])
    assert np.array_equal(dense(first), made.toarray())
    assert np.array_equal(dense(second), made.toarray())
    for draft in (first, second):
        for row in range(shape[0]):
            assert (np.diff(draft.columns[draft.indptr[row] : draft.indptr[row + 1]]) > 0).all()
    if first.values.dtype == np.float32:
        assert second.columns is first.columns


def test_a_matrix_with_other_places_has_its_own_index_arrays(tmp_path):
    one = sparse.csc_matrix(np.array([[1, 0, 2], [0, 3, 0]], np.float32))
    two = sparse.csc_matrix(np.array([[0, 1, 2], [3, 0, 0]], np.float32))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, "a", one)
        write(file, "b", two)
    with open_hdf5(tmp_path / "a.h5", 1 << 30) as root:
        first, second = matrix_of(root.get("a")), matrix_of(root.get("b"))
        read = first.read(Scratch(), tell)
        other = second.read(Scratch(), tell, [(first, read)])
    assert np.array_equal(dense(read), one.toarray())
    assert np.array_equal(dense(other), two.toarray())
    assert other.columns is not read.columns


@pytest.mark.parametrize("index", [-1, 2, 2**31 - 1])
def test_an_index_outside_the_matrix_is_refused(tmp_path, index):
    made = sparse.csc_matrix(np.array([[1, 0, 2], [0, 3, 0]], np.float32))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, "a", made)
        file["a/indices"][1] = index
    with open_hdf5(tmp_path / "a.h5", 1 << 30) as root, pytest.raises(WorkerError, match="index outside 0 to 1"):
        matrix_of(root.get("a")).read(Scratch(), tell)


class Changing:
    """An array that is another at each reading, as of a file that somebody overwrites."""

    def __init__(self, *contents: list[int], dtype: type = np.int32) -> None:
        self._contents = [np.array(content, dtype) for content in contents]
        self.shape, self.dtype = self._contents[0].shape, np.dtype(dtype)

    def blocks(self):
        content = self._contents.pop(0) if len(self._contents) > 1 else self._contents[0]
        yield from ((start, content[start : start + 2]) for start in range(0, len(content), 2))


@pytest.mark.parametrize("later", [[0, 0, 0], [1, 1, 0], [0, 1, 5], [0, -1, 0]])
def test_a_file_whose_indices_change_between_the_two_readings_is_refused(later):
    data = Changing([1, 2, 3], dtype=np.float32)
    columns = CompressedColumns("X", np.array([0, 1, 2, 3]), Changing([0, 1, 0], later), data, 2)
    with pytest.raises(WorkerError, match=r"changed while it was read|index outside"):
        columns.read(Scratch(), tell)
