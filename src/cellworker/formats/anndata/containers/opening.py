"""Opening an AnnData file of either kind for reading."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellworker.formats.anndata.containers.hdf5 import open_hdf5
from cellworker.formats.anndata.containers.tree import TreeGroup
from cellworker.formats.anndata.containers.zarr import open_zarr
from cellworker.formats.common.folder_hash import FolderHash
from cellworker.formats.common.kinds import is_zarr

__all__ = ["open_anndata"]


@contextmanager
def open_anndata(
    path: Path, max_bytes: int, threads: int = 1, hashes: FolderHash | None = None, *, maps: bool = False
) -> Iterator[TreeGroup]:
    """Open a file or folder after inspecting everything in it.

    Parameters
    ----------
    path
        An ``.h5ad`` file or the folder of a Zarr store.
    max_bytes
        Max bytes that its arrays may claim together.
    threads
        Threads that decompress.
    hashes
        Gets the files of a Zarr store.
    maps
        Whether arrays of an ``.h5ad`` file may be maps of it. A file that becomes shorter then ends the process.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` when it is damaged or holds content that AnnData does not write.
    """
    if is_zarr(path):
        yield open_zarr(path, max_bytes, threads, hashes)
    else:
        with open_hdf5(path, max_bytes, threads, maps=maps) as root:
            yield root
