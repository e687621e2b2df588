"""The memory-mapped store behind an open experiment: one ordinary ``.h5ad`` file whose arrays are used in place.

Any tool of the field opens the file; `cellworker.experiment.store.layout` describes its layout. cellworker maps it:
processes share the pages, and data larger than memory is paged in on access.
"""

import fcntl
import mmap
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.matrices.sorting import RowSummary
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.count_layers import CountLayers
from cellworker.experiment.draft import ExperimentDraft
from cellworker.experiment.model import (
    Categorical,
    CellMajor,
    Column,
    Dispersions,
    Experiment,
    GeneMajor,
    Genes,
    Graph,
    Misc,
    Origin,
    Reduction,
    ScaledData,
    StoredTable,
    StrangeCounts,
    TissueImage,
)
from cellworker.experiment.store.checksums import first_damage
from cellworker.experiment.store.index import ArrayPlace, StoreIndex, read_index, unreadable
from cellworker.experiment.store.lazy import Lazy
from cellworker.experiment.store.levels import by_cell
from cellworker.experiment.store.page_faults import watch_pages
from cellworker.experiment.store.rows import Claim, GiveBack
from cellworker.progress import Progress

__all__ = ["StoredExperiment", "file_id", "open_store", "write_store"]


def write_store(
    draft: ExperimentDraft,
    path: Path,
    *,
    key: str,
    threads: int = 2,
    progress: Progress | None = None,
    claim: Claim | None = None,
    give_back: GiveBack | None = None,
    buffer_bytes: int = 1 << 27,
    by_gene: bool = True,
) -> None:
    """Write an experiment to one ``.h5ad`` file that `open_store` maps.

    The file appears under its name only when it is complete. Memory beside the draft is about twice `buffer_bytes` for
    any size. The same draft gives the same bytes for any number of threads.

    Parameters
    ----------
    draft
        The reader's output. Sparse matrices are checked only here: columns inside the matrix, and none twice in a row.
    path
        Path of the store; its folder must exist.
    key
        Hash of the source's content, for the store's index.
    threads, progress
        Threads that convert, transpose and sort; called with the progress, may raise to stop: no file is left.
    claim, give_back
        `claim` is called before anything is written, and may raise; `give_back` with each written part of a matrix.
        Without `give_back` the draft keeps its arrays, and all disk space is reserved first.
    buffer_bytes, by_gene
        Memory of the buffers for sorting genes, of all threads together; whether they are sorted: without, no `data`.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` naming the matrix that breaks a rule; ``DISK_FULL``.
    """
    from cellworker.experiment.store.write import write  # noqa: PLC0415 - h5py takes longer to import than a store to open

    write(
        draft, path, key=key, threads=threads, progress=progress, claim=claim, give_back=give_back,
        buffer_bytes=buffer_bytes, by_gene=by_gene,
    )  # fmt: skip


def open_store(path: Path) -> "StoredExperiment":
    """Map a store. This takes about a millisecond for a file of any size: each part is made on first access.

    As long as the result is alive in any process, the file has a shared lock (``flock``), so no process that checks the
    lock removes it to free disk space.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_NOT_FOUND`` when it does not exist; ``EXPERIMENT_UNREADABLE`` when it is cut short, damaged or of
        another version, and must be made again from its source.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise WorkerError(ErrorCode.EXPERIMENT_NOT_FOUND, f"there is no store {path.name}") from None
    try:
        _share(descriptor, path)
        index = read_index(descriptor, path)
        pages = mmap.mmap(descriptor, index.n_bytes, access=mmap.ACCESS_READ)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, ValueError):  # of the map: the file became shorter a moment ago
            raise unreadable(path, "it was cut short while it was opened") from None
        raise
    return StoredExperiment(pages, index, path, descriptor)


def file_id(status: os.stat_result) -> tuple[int, int]:
    """Return the identity of a file: its device and inode."""
    return status.st_dev, status.st_ino


def _share(descriptor: int, path: Path) -> None:
    """Take the shared lock on a store; a process that removes the file briefly holds the exclusive lock."""
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    if not os.fstat(descriptor).st_nlink:
        raise WorkerError(ErrorCode.EXPERIMENT_NOT_FOUND, f"there is no store {path.name} any more")


class StoredExperiment(Experiment):
    """An experiment whose arrays are read-only views of a mapped file.

    Attributes
    ----------
    store
        The file.
    discarded
        Whether damage was found and the file removed.
    """

    store: Path

    def __init__(self, pages: mmap.mmap, index: StoreIndex, path: Path, descriptor: int) -> None:
        self._pages = pages
        self._index = index
        self._contents = index.contents
        self._views: dict[ArrayPlace, NDArray[Any]] = {}
        self._descriptor = descriptor
        # The map holds its own descriptor of the same opening, and so the lock, as long as arrays live.
        weakref.finalize(self, os.close, descriptor)
        self.key = str(index.contents["key"])
        self.store = path
        self.discarded = False
        self._pages_lost: Callable[[], bool] = lambda: False

    @property
    def file_id(self) -> tuple[int, int]:
        """Identifies the mapped file, independent of its name."""
        return file_id(os.fstat(self._descriptor))

    @property
    def is_whole(self) -> bool:
        """Whether the store has its full length and no known damage."""
        if self.discarded or self._pages_lost():
            return False
        try:
            return os.fstat(self._descriptor).st_size == self.n_bytes
        except OSError:  # a network file system whose server no longer has the file
            return False

    def survive_faults(self) -> None:
        """Make access to lost pages mark the store as not whole instead of ending the process. See `watch_pages`."""
        places = {(at.offset, at.size) for name, at in self._index.arrays.items() if name.endswith("/indptr")}
        self._pages_lost = watch_pages(self._pages, self._descriptor, list(places))

    @property
    def is_in_place(self) -> bool:
        """Whether the mapped file is still under its name."""
        try:
            return file_id(self.store.stat()) == self.file_id
        except OSError:
            return False

    def damage(self, stop: threading.Event | None = None) -> str | None:
        """Read the whole file once, and compare it with its checksums.

        Parameters
        ----------
        stop
            Ends the comparison when set.

        Returns
        -------
        The fault in words; None where there is none or the comparison was stopped.
        """
        if not self.is_whole:
            return f"it was cut short: it has not the {self.n_bytes:,} bytes that were written"
        return first_damage(self._descriptor, self._index.data_bytes, self._index.checksums, stop)

    @property
    def source_sha256(self) -> str:
        """SHA-256 of the source file, in hex."""
        return str(self.extra.get("sha256", self.key))

    @property
    def object_name(self) -> str:
        """The name of the object in its file."""
        return str(self.extra.get("object", ""))

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return int(self._contents["n_cells"])

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return int(self._contents["n_genes"])

    @property
    def n_bytes(self) -> int:
        """Size of the file, which is the memory that serving takes when all pages are in use."""
        return len(self._pages)

    @cached_property
    def data(self) -> GeneMajor:  # type: ignore[override]
        """Normalised expression, gene-major, each gene's values ascending."""
        return GeneMajor(*self._sparse("sorted"), n_cells=self.n_cells)

    @cached_property
    def data_by_cell(self) -> CellMajor:  # type: ignore[override]
        """Normalised expression, cell-major; looked up where counts stand for the values."""
        return CellMajor(*by_cell(self._index.arrays, self._array), n_genes=self.n_genes)

    @cached_property
    def counts(self) -> CellMajor | None:  # type: ignore[override]
        """Raw counts, cell-major."""
        return CellMajor(*self._sparse("counts"), n_genes=self.n_genes) if "counts/data" in self._index.arrays else None

    @cached_property
    def scaled(self) -> ScaledData | None:  # type: ignore[override]
        """Scaled expression of some genes."""
        if "scaled" not in self._index.arrays:
            return None
        return ScaledData(self._array("scaled_genes"), self._array("scaled"))

    @cached_property
    def genes(self) -> Genes:  # type: ignore[override]
        """Names of the genes."""
        return Genes(self._strings("gene_ids"), self._strings("gene_names"), self._strings("gene_original_names"))

    @cached_property
    def barcodes(self) -> list[str]:  # type: ignore[override]
        """Barcodes of the cells."""
        return self._strings("barcodes")

    @cached_property
    def cell_ids(self) -> NDArray[np.int32]:  # type: ignore[override]
        """The platform's cell ids."""
        return self._array("cell_ids")

    @cached_property
    def metadata(self) -> Mapping[str, Column]:  # type: ignore[override]
        """Columns of cell metadata, each read on access."""
        return Lazy({name: self._column_reader(place) for name, place in self._contents["metadata"]})

    @cached_property
    def identities(self) -> Categorical | None:  # type: ignore[override]
        """Seurat's active identities."""
        return self._categorical("identities") if "identities/codes" in self._index.arrays else None

    @cached_property
    def reductions(self) -> Mapping[str, Reduction]:  # type: ignore[override]
        """Dimensional reductions, by their exact names."""
        return Lazy({name: self._reduction_reader(place, key) for name, place, key in self._contents["reductions"]})

    @cached_property
    def graphs(self) -> Mapping[str, Graph]:  # type: ignore[override]
        """Cell-cell graphs, by their exact names."""
        return Lazy({name: self._graph_reader(place) for name, place in self._contents["graphs"]})

    @cached_property
    def images(self) -> Mapping[str, TissueImage]:  # type: ignore[override]
        """The cells' places on images of tissues, by the images' exact names."""
        return Lazy({name: self._image_reader(place, scale) for name, place, scale in self._contents["images"]})

    @cached_property
    def stored(self) -> Mapping[str, StoredTable]:  # type: ignore[override]
        """Results that the source file holds."""
        return Lazy(
            {
                name: self._stored_reader(source, kind, places, parameters)
                for name, source, kind, places, parameters in self._contents["stored"]
            }
        )

    @property
    def colors(self) -> Mapping[str, list[str]]:  # type: ignore[override]
        """The file's own colours of the labels of metadata columns."""
        found: Mapping[str, list[str]] = self._contents["extra"].get("colors", {})
        return found

    @cached_property
    def dispersions(self) -> Dispersions | None:  # type: ignore[override]
        """The gene-variability table."""
        if "dispersions" not in self._index.arrays:
            return None
        return Dispersions(
            self._strings("dispersion_names"), self._strings("dispersion_ids"), self._array("dispersions")
        )

    @cached_property
    def misc(self) -> Misc:  # type: ignore[override]
        """The ``misc`` slots."""
        return Misc(**self._contents["misc"])

    @cached_property
    def origin(self) -> Origin:  # type: ignore[override]
        """The source of the experiment."""
        facts = dict(self._contents["origin"])
        layers = facts.pop("count_layers", None)
        return Origin(**facts, count_layers=CountLayers(**layers) if layers else None)

    @property
    def extra(self) -> dict[str, Any]:
        """The reader's further facts, as plain values."""
        return dict(self._contents["extra"])

    @property
    def data_summary(self) -> RowSummary:
        """Facts about the normalised data at the time of writing: the numbers of missing, negative and other values."""
        return RowSummary(**self._contents["data_summary"])

    @property
    def counts_summary(self) -> RowSummary | None:
        """The same of the counts."""
        summary = self._contents["counts_summary"]
        return RowSummary(**summary) if summary else None

    @cached_property
    def strange_counts(self) -> StrangeCounts:
        """The numbers of strange raw counts at the time of writing."""
        found = self.counts_summary
        none = StrangeCounts()
        return none if found is None else StrangeCounts(found.negative, found.nan + found.infinite, found.fractional)

    def _array(self, name: str) -> NDArray[Any]:
        place = self._index.arrays[name]
        if place not in self._views:
            self._views[place] = place.view(self._pages)
        return self._views[place]

    def _sparse(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[Any]]:
        return self._array(f"{name}/indptr"), self._array(f"{name}/indices"), self._array(f"{name}/data")

    def _strings(self, name: str) -> list[str]:
        if f"{name}/text" in self._index.arrays:
            text = self._array(f"{name}/text").tobytes()
            bounds = self._array(f"{name}/bounds").tolist()
            return [text[a:b].decode() for a, b in pairwise(bounds)]
        raw = self._array(name).tolist()
        return b"\0".join(raw).decode().split("\0") if raw else []

    def _categorical(self, name: str) -> Categorical:
        return Categorical(self._array(f"{name}/codes"), self._strings(f"{name}/categories"))

    def _column_reader(self, place: str) -> Callable[[], Column]:
        labels = f"{place}/codes" in self._index.arrays
        return lambda: self._categorical(place) if labels else self._array(place)

    def _reduction_reader(self, place: str, key: str) -> Callable[[], Reduction]:
        return lambda: Reduction(self._array(place), key)

    def _image_reader(self, place: str, scale: float) -> Callable[[], TissueImage]:
        def read() -> TissueImage:
            pixels = self._array(f"{place}/pixels") if f"{place}/pixels" in self._index.arrays else None
            return TissueImage(self._array(f"{place}/cells"), self._array(f"{place}/points"), scale, pixels)

        return read

    def _stored_reader(
        self, source: str, kind: str, places: list[list[str]], parameters: dict[str, str]
    ) -> Callable[[], StoredTable]:
        return lambda: StoredTable(
            source, kind, {title: self._column_reader(place)() for title, place in places}, parameters
        )

    def _graph_reader(self, place: str) -> Callable[[], Graph]:
        return lambda: Graph(*self._sparse(place))
