"""A sink for each kind of store."""

from pathlib import Path

from cellworker.formats.anndata.containers.sink import EditableSink

__all__ = ["edit_store", "new_store"]


def new_store(path: Path, threads: int, *, zarr: bool) -> EditableSink:
    """Return a sink for a new HDF5 file or a new Zarr folder."""
    if zarr:
        from cellworker.formats.anndata.containers.zarr_out import ZarrSink  # noqa: PLC0415 - each is loaded where it is needed

        return ZarrSink(path, threads)
    from cellworker.formats.anndata.containers.hdf5_out import Hdf5Sink  # noqa: PLC0415

    return Hdf5Sink(path, threads)


def edit_store(path: Path, threads: int) -> EditableSink:
    """Return a sink that changes parts of an existing file or folder."""
    if path.is_dir():
        from cellworker.formats.anndata.containers.zarr_out import ZarrSink  # noqa: PLC0415

        return ZarrSink(path, threads, edit=True)
    from cellworker.formats.anndata.containers.hdf5_out import Hdf5Sink  # noqa: PLC0415

    return Hdf5Sink(path, threads, edit=True)
