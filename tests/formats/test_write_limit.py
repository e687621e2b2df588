"""What reading a file would write to the disk is counted before it is written, whatever way the file asks for it."""

import os
from contextlib import contextmanager
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
import zarr
from scipy import sparse

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.write_limit import WriteLimit, size_of
from cellworker.formats.opening import loading
from cellworker.formats.opening.loading import load
from cellworker.sample import sample_path
from cellworker.settings import Settings

ALWAYS = 64 << 20


def written_in(folder: Path) -> int:
    """Bytes that the files below a folder take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def refused(source: Path, folder: Path) -> str:
    folder.mkdir()
    with pytest.raises(WorkerError) as caught:
        load(
            str(source), str(folder), max_bytes=1 << 39, max_ratio=Settings().load_max_ratio, threads=1,
            progress=lambda what, part=None: None,
        )  # fmt: skip
    assert caught.value.code is ErrorCode.EXPERIMENT_UNREADABLE
    allowed = ALWAYS + int(Settings().load_max_ratio * size_of(source))
    assert written_in(folder) <= allowed
    assert "LOAD_MAX_RATIO" in caught.value.message
    return caught.value.message


def test_the_limit_follows_from_the_file_and_the_settings():
    limit = WriteLimit(1000, 250.0, 1 << 40)
    limit.claim(ALWAYS + 250_000)
    with pytest.raises(WorkerError, match="a file of 1 kB may write 67"):
        limit.claim(1)
    limit = WriteLimit(1000, 250.0, 1 << 20)
    with pytest.raises(WorkerError, match="LOAD_MAX_GB"):
        limit.claim((1 << 20) + 1)
    limit = WriteLimit(0, 250.0, 1 << 40)
    limit.admit(1000)
    limit.claim(ALWAYS + 250_000)


def small(n_cells: int = 3000, n_genes: int = 4000) -> anndata.AnnData:
    counts = sparse.csr_matrix((np.ones(1, np.float32), ([0], [0])), (n_cells, n_genes))
    found = anndata.AnnData(counts)
    found.obs_names = [f"cell{i}" for i in range(n_cells)]
    found.var_names = [f"gene{i}" for i in range(n_genes)]
    return found


def test_chunks_of_an_h5ad_that_hold_one_number_are_refused(tmp_path):
    path = tmp_path / "a.h5ad"
    small().write_h5ad(path)
    with h5py.File(path, "a") as file:
        del file["X"]
        made = file.create_dataset("X", (3000, 4000), "f4", chunks=(500, 4000), compression="gzip", fillvalue=1.0)
        made[:] = 1.0
        made.attrs["encoding-type"], made.attrs["encoding-version"] = "array", "0.2.0"
    assert path.stat().st_size < 2 << 20
    refused(path, tmp_path / "spool")


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
def test_chunks_that_a_zarr_store_does_not_have_are_refused(tmp_path):
    path = tmp_path / "a.zarr"
    small().write_zarr(path)
    group = zarr.open_group(path, mode="a")
    del group["X"]
    made = group.create_array("X", shape=(3000, 4000), chunks=(500, 4000), dtype="f4", fill_value=1.0)
    made.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    refused(path, tmp_path / "spool")


def test_a_file_that_goes_while_its_folder_is_listed_hides_no_other(tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / name).write_bytes(b"12345")
    scandir = os.scandir

    @contextmanager
    def listed(folder):
        with scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        (tmp_path / "a").unlink()
        yield found

    monkeypatch.setattr(os, "scandir", listed)
    assert size_of(tmp_path) == 10


def test_all_that_is_written_was_counted_and_an_honest_file_is_far_from_the_limit(tmp_path, monkeypatch):
    limits: list[WriteLimit] = []

    def kept(*args):
        limits.append(WriteLimit(*args))
        return limits[-1]

    monkeypatch.setattr(loading, "WriteLimit", kept)
    source, folder = sample_path() / "r.rds", tmp_path / "spool"
    folder.mkdir()
    load(
        str(source), str(folder), max_bytes=1 << 39, max_ratio=250.0, threads=1,
        progress=lambda what, part=None: None,
    )  # fmt: skip
    (limit,) = limits
    claimed = limit._claimed
    index = 1 << 20  # the store's index, which is not counted
    assert written_in(folder) <= claimed + index
    assert claimed < limit.allowed
    assert claimed / source.stat().st_size < 100
