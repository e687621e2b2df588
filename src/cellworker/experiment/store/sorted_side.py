"""Makes the gene-major side of a store from the cell-major side in its file."""

import mmap
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.matrices.gene_sorter import GeneSorter
from cellworker.analysis.matrices.levels import ToldValues
from cellworker.analysis.matrices.sorting import Packed, RowSplitter
from cellworker.experiment.store.blocks import Meter, StoreFile, cut, in_threads
from cellworker.experiment.store.index import ArrayPlace
from cellworker.experiment.store.levels import by_cell, by_cell_name
from cellworker.experiment.store.spent_pages import give_back

__all__ = ["BUFFER_BYTES", "SORT_COST", "entry_bytes", "split_work", "temporary_bytes", "write_sorted"]

BUFFER_BYTES = 1 << 26
"""Default memory of the buffers of all threads together."""

# A block of genes should fit in the caches, a cell's slice of it in some cache lines, and all threads' buffers in the
# budget.
_MIN_BLOCK = 1 << 21
_ENTRIES_PER_CELL = 48
_BYTES_PER_ENTRY = 8
_PIECE = 1 << 16  # entries that are sorted and written at a time: they stay in the caches

# Every block reads all cells: larger matrices (in bytes of genes, and of counts or values), which may not stay in
# memory, are split first.
_RESIDENT = 1 << 31
_SHELF = 1 << 25
_SPLIT_ROWS = 1 << 22
_SPLIT_COST = 2
SORT_COST = 8
"""Of the meter, for a value: sorting takes three fifths of a store's time, where every other pass counts 1."""
_ALIGNED = 8  # bytes: NumPy and the kernels take no number at an odd place


def temporary_bytes(nnz: int, entry_bytes: int) -> int:
    """Estimate the bytes of the temporary file of `write_sorted` for a number of values, of so many bytes each."""
    return entry_bytes * nnz if nnz * entry_bytes > _RESIDENT else 0


def split_work(nnz: int, entry_bytes: int) -> int:
    """Return how much `write_sorted` adds to the meter, beside its sorting, for a number of values."""
    return _SPLIT_COST * nnz if nnz * entry_bytes > _RESIDENT else 0


def entry_bytes(places: Mapping[str, ArrayPlace]) -> int:
    """Return the bytes of a value on the cell-major side of a store: its gene, and itself or its count."""
    name = by_cell_name(places)
    return sum(np.dtype(places[f"{name}/{part}"].dtype).itemsize for part in ("indices", "data"))


def write_sorted(
    file: StoreFile,
    folder: Path,
    places: dict[str, ArrayPlace],
    per_gene: NDArray[np.int64],
    *,
    threads: int,
    meter: Meter,
    buffer_bytes: int = BUFFER_BYTES,
) -> None:
    """Write the gene-major side of a store.

    Parameters
    ----------
    file
        The store's file, which already holds the cell-major side.
    folder
        Folder for a temporary file as large as the cell-major side; used when the matrix is large.
    per_gene
        int64 ``(n_genes,)`` non-zeros of each gene.
    buffer_bytes
        Memory of the buffers of all threads together. A single gene may exceed it.
    """
    bounds = np.zeros(len(per_gene) + 1, np.int64)
    np.cumsum(per_gene, out=bounds[1:])
    file.put(places["sorted/indptr"].offset, bounds)
    if not bounds[-1]:
        return
    pages = mmap.mmap(file.descriptor, 0, access=mmap.ACCESS_READ)
    matrix = by_cell(places, lambda name: places[name].view(pages))
    indptr, genes, _ = matrix
    block = min(max(1, buffer_bytes // _BYTES_PER_ENTRY // threads), max(_MIN_BLOCK, _ENTRIES_PER_CELL * len(indptr)))
    at_cells, at_values = places["sorted/indices"].offset, places["sorted/data"].offset

    def sort(matrix: Packed, first: int, last: int) -> None:
        blocks = [(first + start, first + stop) for start, stop in cut(bounds[first : last + 1], block)]
        share = -(-len(blocks) // (3 * threads))
        strips = [blocks[i : i + share] for i in range(0, len(blocks), share)]

        def worker() -> Callable[[list[tuple[int, int]]], None]:
            sorter = GeneSorter(matrix, bounds)

            def work(strip: list[tuple[int, int]]) -> None:
                sorter.seek(strip[0][0])
                for start, stop in strip:
                    sorter.gather(stop)
                    for begin, end in cut(bounds[start : stop + 1], _PIECE):
                        cells, ordered = sorter.sort(start + begin, start + end)
                        at = int(bounds[start + begin])
                        file.put(at_cells + at * 4, cells)
                        file.put(at_values + at * 4, ordered)
                        meter.add("sorting", SORT_COST * len(cells))

            return work

        in_threads(strips, threads, worker)

    if len(genes) * entry_bytes(places) <= _RESIDENT:
        sort(matrix, 0, len(per_gene))
        return
    for shelf, first, last in _shelves(matrix, bounds, folder, meter):
        sort(shelf, first, last)


def _shelves(
    matrix: Packed, bounds: NDArray[np.int64], folder: Path, meter: Meter
) -> Iterator[tuple[Packed, int, int]]:
    """Split a matrix into ranges of genes, so that the disk is read once and written once.

    Yields each range as a matrix of all cells, packed as the whole is, with its first and last gene.
    """
    indptr, genes, values = matrix
    stored = values.counts if isinstance(values, ToldValues) else values
    n_cells, nnz, gene_bytes, value_bytes = len(indptr) - 1, len(genes), genes.itemsize, stored.itemsize
    ranges = cut(bounds, _SHELF)
    edges = np.array([first for first, _ in ranges] + [len(bounds) - 1], np.int32)
    with tempfile.TemporaryFile(dir=folder) as spool:
        spooled = StoreFile(spool.fileno())
        splitter = RowSplitter(edges)
        filled = bounds[edges[:-1]].copy()
        at_values = -(-gene_bytes * nnz // _ALIGNED) * _ALIGNED
        at_lengths = -(-(at_values + value_bytes * nnz) // _ALIGNED) * _ALIGNED
        for start, stop in cut(indptr, _SPLIT_ROWS):
            entries = slice(int(indptr[start]), int(indptr[stop]))
            rows = indptr[start : stop + 1] - indptr[start], genes[entries], stored[entries]
            lengths, parts, columns, kept = splitter.split(rows, 0, stop - start)
            for shelf in range(len(ranges)):
                part = slice(int(parts[shelf]), int(parts[shelf + 1]))
                spooled.put(gene_bytes * int(filled[shelf]), columns[part])
                spooled.put(at_values + value_bytes * int(filled[shelf]), kept[part])
                spooled.put(at_lengths + 4 * (shelf * n_cells + start), lengths[shelf])
            filled += np.diff(parts)
            meter.add("splitting", _SPLIT_COST * (entries.stop - entries.start))
        del splitter, rows, columns, kept  # and the buffers under them
        pages = mmap.mmap(spool.fileno(), 0)
        for shelf, (first, last) in enumerate(ranges):
            begin, size = int(bounds[first]), int(bounds[last] - bounds[first])
            shelf_bounds = np.zeros(n_cells + 1, np.int64)
            lengths = np.frombuffer(pages, np.int32, n_cells, at_lengths + 4 * shelf * n_cells)
            np.cumsum(lengths, out=shelf_bounds[1:])
            columns = np.frombuffer(pages, genes.dtype, size, gene_bytes * begin)
            own = np.frombuffer(pages, stored.dtype, size, at_values + value_bytes * begin)
            told = ToldValues(shelf_bounds, own, values.levels) if isinstance(values, ToldValues) else own
            yield (shelf_bounds, columns, told), first, last
            for at, width in ((0, gene_bytes), (at_values, value_bytes)):
                give_back(pages, at + width * begin, at + width * (begin + size))
