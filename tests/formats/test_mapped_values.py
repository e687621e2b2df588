"""Values of an uncompressed .h5ad file are used where they lie in it; large arrays are written through their file."""

import os
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.anndata.containers import hdf5
from cellworker.formats.anndata.containers.hdf5 import open_hdf5
from cellworker.formats.common import scratch as scratches
from cellworker.formats.common.scratch import Scratch, fill
from cellworker.formats.opening.loading import load
from cellworker.formats.opening.open import open_source
from cellworker.formats.opening.sandbox import run_sandboxed
from cellworker.settings import Settings

CELLS, GENES = 500, 60


@pytest.fixture(scope="module", params=["csr", "csc", "zeros and disorder", "int64", "gzip"])
def source(request, tmp_path_factory) -> Path:
    """Counts in a layer and their logarithms in X; the parameter is what a reader must look at."""
    made = sparse.random(CELLS, GENES, 0.4, "csr", np.float32, random_state=np.random.default_rng(4))
    made.data = np.ceil(made.data * 5)
    data = made.copy()
    data.data = np.log1p(made.data * np.repeat(1e4 / made.sum(axis=1).A1, np.diff(made.indptr)).astype(np.float32))
    if request.param == "csc":
        made, data = made.tocsc(), data.tocsc()
    elif request.param == "int64":
        made = made.astype(np.int64)
    elif request.param == "zeros and disorder":
        for matrix in (made, data):
            matrix.data[::7] = 0
            for row in range(CELLS):
                part = slice(*matrix.indptr[row : row + 2])
                for numbers in (matrix.indices, matrix.data):
                    numbers[part] = numbers[part][::-1].copy()
            matrix.has_sorted_indices = False
    found = anndata.AnnData(data, layers={"counts": made})
    found.obs_names = [f"cell{i}" for i in range(CELLS)]
    found.var_names = [f"gene{i}" for i in range(GENES)]
    path = tmp_path_factory.mktemp("mapped") / "a.h5ad"
    found.write_h5ad(path, compression="gzip" if request.param == "gzip" else None)
    return path


def test_the_store_is_the_same_whether_values_are_mapped_or_copied(source, tmp_path):
    """A process of its own maps values of the file, one that does other work too copies them."""
    settings = Settings.from_environment({"MAKE_MISSING": "false", "STORE_DIR": str(tmp_path / "stores")})
    mapped, experiment = open_source(source, settings)
    assert len(experiment.cell_ids) == CELLS
    folder = tmp_path / "spool"
    folder.mkdir()
    load(
        str(source), str(folder), max_bytes=1 << 40, max_ratio=250.0, threads=2, choice={"make": False},
        progress=lambda stage, part=None: None,
    )  # fmt: skip
    (copied,) = folder.glob("*.h5ad")
    assert mapped.read_bytes() == copied.read_bytes()


def written(path: Path, userblock: int = 0) -> dict[str, np.ndarray]:
    """Write arrays that lie in a file in several ways; returns those that can be mapped."""
    numbers = np.arange(1000, dtype=np.float32)
    with h5py.File(path, "w", userblock_size=userblock) as file:
        file["plain"] = numbers
        file["wide"] = np.arange(1000.0)
        file["table"] = numbers.reshape(20, 50)
        file["foreign order"] = numbers.astype(">f4")
        file["text"] = np.array(["a", "b"], h5py.string_dtype())
        file.create_dataset("in pieces", data=numbers, chunks=(100,))
        file.create_dataset("compressed", data=numbers, compression="gzip")
        file.create_dataset("never written", (1000,), np.float32)
        file.create_dataset("compact", data=numbers[:10], dcpl=_compact())
        file["empty"] = np.zeros(0, np.float32)
        file["single"] = np.float32(3)
    return {"plain": numbers, "wide": np.arange(1000.0), "table": numbers.reshape(20, 50)}


def _compact():
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.COMPACT)
    return layout


@pytest.mark.parametrize("userblock", [0, 1024])
def test_only_arrays_in_one_piece_are_mapped(tmp_path, userblock):
    expected = written(tmp_path / "a.h5", userblock)
    with open_hdf5(tmp_path / "a.h5", 1 << 30, maps=True) as root:
        found = {name: root.get(name).mapped() for name in root.names()}
        for name, array in found.items():
            if array is not None:
                assert not array.flags.writeable
                assert np.array_equal(array, root.get(name).read())
    assert {name for name, array in found.items() if array is not None} == set(expected)
    for name, array in expected.items():
        assert np.array_equal(found[name], array), name
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize("iterates", [True, False])
def test_pieces_that_were_never_written_are_zeros_among_compressed_ones(tmp_path, monkeypatch, iterates):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("a", (1000,), np.int32, chunks=(100,), compression="gzip")
        made[250:420], made[999] = np.arange(170), 7
        expected = made[:]
    monkeypatch.setattr(hdf5, "_ITERATES", iterates)  # not so where HDF5 is older
    with open_hdf5(tmp_path / "a.h5", 1 << 30, threads=2) as root:
        pieces = list(root.get("a").blocks())
    assert [start for start, _ in pieces] == np.cumsum([0, *(len(piece) for _, piece in pieces[:-1])]).tolist()
    assert np.array_equal(np.concatenate([piece for _, piece in pieces]), expected)


def test_nothing_is_mapped_unless_asked_for(tmp_path):
    written(tmp_path / "a.h5")
    with open_hdf5(tmp_path / "a.h5", 1 << 30) as root:
        assert root.get("plain").mapped() is None


CHILD = """
import os
from pathlib import Path
from cellworker.formats.anndata.containers.hdf5 import open_hdf5

def cut_short(path):
    with open_hdf5(Path(path), 1 << 40, maps=True) as root:
        values = root.get("values").mapped()
        os.truncate(path, os.path.getsize(path) // 2)
        return float(values.sum())
"""


def test_a_file_that_becomes_shorter_meanwhile_is_refused_as_changed(tmp_path, monkeypatch):
    (tmp_path / "child_functions_of_maps.py").write_text(CHILD)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["values"] = np.ones(1 << 20, np.float32)
    with pytest.raises(WorkerError, match="became shorter while it was being read") as caught:
        run_sandboxed(
            "child_functions_of_maps:cut_short", {"path": str(path)},
            memory_bytes=1 << 30, timeout_s=60, max_file_bytes=1 << 30,
        )  # fmt: skip
    assert caught.value.code is ErrorCode.EXPERIMENT_OUT_OF_DATE


@given(
    pieces=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 100)), max_size=8),
    kind=st.sampled_from([np.int32, np.float32, np.float64]),
    spooled=st.booleans(),
)
def test_pieces_come_where_they_belong(tmp_path_factory, pieces, kind, spooled):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratches, "_IN_MEMORY", 0 if spooled else 1 << 30)
        made = Scratch(tmp_path_factory.mktemp("fill")).empty((1000,), kind)
    made[:] = 7
    expected = np.full(1000, 7, kind)
    for number, (start, length) in enumerate(pieces):
        piece = np.arange(length) * 3 + number
        expected[start : start + length] = piece
        fill(made, start, piece)
    assert np.array_equal(made, expected)


def test_a_piece_beyond_the_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(scratches, "_IN_MEMORY", 0)
    made = Scratch(tmp_path).empty((10,), np.int32)
    with pytest.raises(ValueError, match="broadcast"):
        fill(made, 8, np.arange(3))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells which files without a name are open")
def test_the_file_under_an_array_is_closed_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(scratches, "_IN_MEMORY", 0)

    def is_open() -> bool:
        return any(str(tmp_path) in os.readlink(f"/proc/self/fd/{fd}") for fd in _descriptors())  # noqa: PTH115

    made = Scratch(tmp_path).empty((10,), np.int32)
    fill(made, 0, np.arange(3))
    assert is_open()
    del made
    assert not is_open()


def _descriptors() -> list[str]:
    return [item.name for item in Path("/proc/self/fd").iterdir() if os.path.lexists(item)]
