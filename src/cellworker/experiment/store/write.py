"""Writes a store: the parts of an experiment, in the order in which their sizes become known."""

import errno
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.draft import ExperimentDraft
from cellworker.experiment.model import Column
from cellworker.experiment.store.blocks import Meter, StoreFile
from cellworker.experiment.store.index import VERSION, append_index
from cellworker.experiment.store.layout import PaddedTexts, StoreLayout
from cellworker.experiment.store.levels import FoundLevels
from cellworker.experiment.store.rows import Claim, GiveBack, ScannedRows, keep, same_pattern, scan, write_rows
from cellworker.experiment.store.shapes import check_shapes
from cellworker.experiment.store.sorted_side import (
    BUFFER_BYTES,
    SORT_COST,
    entry_bytes,
    split_work,
    temporary_bytes,
    write_sorted,
)
from cellworker.experiment.store.sync_folder import sync_folder
from cellworker.native.heap import return_free_memory
from cellworker.progress import Progress

__all__ = ["write"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_ROWS = 1 << 22
_NARROW = 1 << 16  # max genes whose numbers fit in two bytes


def write(
    draft: ExperimentDraft,
    path: Path,
    *,
    key: str,
    threads: int,
    progress: Progress | None,
    claim: Claim | None,
    give_back: GiveBack | None = None,
    buffer_bytes: int = BUFFER_BYTES,
    by_gene: bool = True,
) -> None:
    """Write an experiment to `path`; see `cellworker.experiment.store.store.write_store`."""
    check_shapes(draft)
    threads = max(1, threads)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        _write(draft, temporary, key, threads, progress, claim, give_back, buffer_bytes, by_gene=by_gene)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        # h5py gives the error number only in its message.
        if error.errno in _FULL or any(f"errno = {code}," in str(error) for code in _FULL):
            advice = "free some space on its disk, or choose another with STORE_DIR"
            raise WorkerError(ErrorCode.DISK_FULL, f"there is no room for the store {path.name}: {advice}") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _write(  # noqa: PLR0917
    draft: ExperimentDraft,
    path: Path,
    key: str,
    threads: int,
    progress: Progress | None,
    claim: Claim | None,
    give_back: GiveBack | None,
    buffer_bytes: int,
    *,
    by_gene: bool,
) -> None:
    n_cells, n_genes = len(draft.cell_ids), len(draft.genes)
    entries = len(draft.data.values)
    counted = len(draft.counts.values) if draft.counts is not None else 0
    linked = sum(len(graph.values) for graph in draft.graphs.values())
    # Checking, levels and sorting; the checksums of the finished file cost as much as one pass over the entries.
    # What the bytes of an entry will be is not known before its counts are.
    narrow = (2 if n_genes <= _NARROW else 4) + (1 if counted else 4)
    meter = Meter(progress, (3 + SORT_COST) * entries + split_work(entries, narrow) + 2 * counted + 2 * linked)

    data = scan("the normalised data", draft.data, (n_cells, n_genes), threads, meter, per_column=True)
    counts = None
    if draft.counts is not None:
        counts = scan("the counts", draft.counts, (n_cells, n_genes), threads, meter)
    graphs = {
        name: scan(f"the graph {name}", graph, (n_cells, n_cells), threads, meter)
        for name, graph in draft.graphs.items()
    }
    shared = counts is not None and same_pattern(data, counts, threads)
    with ExitStack() as stack:
        levels = None
        kind = _smallest_dtype(counts) if counts is not None else None
        if counts is not None and kind is not None and shared and kind.kind == "u":
            found = stack.enter_context(
                FoundLevels(data, counts, kind, folder=path.parent, threads=threads, meter=meter)
            )
            levels = found if found.complete else None
        matrices = _Matrices(data, counts, graphs, levels, kind, shared=shared, by_gene=by_gene)
        with StoreLayout(path) as layout:
            contents = _lay_out(layout, draft, matrices)
            contents |= {"key": key, "n_cells": n_cells, "n_genes": n_genes}
            layout.plain("uns/cellworker", {"store_version": VERSION, "key": key})
        _fill(draft, path, layout, matrices, contents, threads, meter, claim, give_back, buffer_bytes)


def _fill(  # noqa: PLR0917
    draft: ExperimentDraft,
    path: Path,
    layout: StoreLayout,
    matrices: "_Matrices",
    contents: dict[str, Any],
    threads: int,
    meter: Meter,
    claim: Claim | None,
    give_back: GiveBack | None,
    buffer_bytes: int,
) -> None:
    """Write the contents to their places."""
    places, data = layout.places, matrices.data
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        # So far the file has its length but hardly any content.
        written = matrices.written()
        scaled = [draft.scaled_values] if draft.scaled_values is not None else []
        spent_by_levels: list[NDArray[Any]] = []
        if matrices.levels is not None:
            spent_by_levels = _unread(data, _read_by([rows for _, rows in written], None) + scaled)
        spent = []
        for number, (_, rows) in enumerate(written):
            later = _read_by([other for _, other in written[number + 1 :]], data if matrices.shared else None)
            spent.append(_unread(rows, later + scaled))
        if claim is not None:
            beside = temporary_bytes(data.nnz, entry_bytes(places)) if matrices.by_gene else 0
            # Columns that two matrices share stand in the lists of both, and are freed once.
            freed = {array.ctypes.data: array for array in chain(spent_by_levels, *spent)}
            claim(os.fstat(descriptor).st_size + beside, beside, list(freed.values()))
        if give_back is None:
            _reserve(descriptor)
        give_back = give_back or keep
        file = StoreFile(descriptor)
        for name in list(layout.pending):  # copies of the draft's arrays, freed before the sort needs memory
            _put_pending(file, places[name].offset, layout.pending.pop(name))
        if matrices.levels is not None:
            matrices.levels.write(file, places)
            for array in spent_by_levels:
                give_back(array)
        for (name, rows), unread in zip(written, spent, strict=True):
            write_rows(
                file, rows, places, name, threads=threads, meter=meter,
                indices=not (matrices.shared and name == "by_cell"), spent=unread, give_back=give_back,
            )  # fmt: skip
        if draft.scaled_values is not None and "scaled" in places:
            _put_dense(file, places["scaled"].offset, draft.scaled_values)
        assert data.per_column is not None
        with ThreadPoolExecutor(1) as background:
            # Start writing to the disk while the processor sorts.
            flushed = background.submit(os.fsync, descriptor)
            if matrices.by_gene:
                return_free_memory()  # the sort's buffers do not come on top of it
                write_sorted(
                    file, path.parent, places, data.per_column, threads=threads, meter=meter, buffer_bytes=buffer_bytes
                )
            meter.until("writing to the disk", flushed)
        share = data.nnz / max(1, os.fstat(descriptor).st_size)
        append_index(descriptor, places, contents, threads, lambda n_bytes: meter.add("checking", int(n_bytes * share)))
        with ThreadPoolExecutor(1) as background:
            meter.until("writing to the disk", background.submit(os.fsync, descriptor))
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Matrices:
    """Facts about the matrices of a draft."""

    data: ScannedRows
    counts: ScannedRows | None
    graphs: dict[str, ScannedRows]
    levels: FoundLevels | None
    """The values that counts stand for, where counts determine the normalised values."""
    counts_dtype: np.dtype[Any] | None
    """The type that counts have in the store."""
    shared: bool
    """Whether values and counts have non-zeros at the same places."""
    by_gene: bool
    """Whether the store gets the gene-major side."""

    def written(self) -> list[tuple[str, ScannedRows]]:
        """Return the cell-major matrices to write, by their names in the store."""
        counts = [("counts", self.counts)] if self.counts is not None else []
        values = [("by_cell", self.data)] if self.levels is None else []
        return counts + values + [(f"graph{number}", graph) for number, graph in enumerate(self.graphs.values())]


def _read_by(matrices: list[ScannedRows], written: ScannedRows | None) -> list[NDArray[Any]]:
    """Return the arrays of a draft that writing matrices reads; the columns of `written` are already in the file."""
    columns = [rows.draft.columns for rows in matrices if rows.needs_columns or rows is not written]
    return [*columns, *(rows.draft.values for rows in matrices)]


def _unread(rows: ScannedRows, later: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the arrays of a matrix that no later write reads."""
    own = rows.draft.columns, rows.draft.values
    return [array for array in own if not any(np.may_share_memory(array, other) for other in later)]


def _lay_out(layout: StoreLayout, draft: ExperimentDraft, matrices: _Matrices) -> dict[str, Any]:
    """Make the skeleton of the file, and return the contents of the index beside the places."""
    n_cells, n_genes = len(draft.cell_ids), len(draft.genes)
    for where in ("obsm", "varm", "obsp", "varp", "layers", "uns"):
        layout.group(where)
    layout.group("uns/cellworker")

    metadata = [(name, f"metadata{i}", column) for i, (name, column) in enumerate(draft.metadata.items())]
    columns: list[tuple[str, str, Column]] = [("cell_ids", "cells_id", np.ascontiguousarray(draft.cell_ids, np.int32))]
    columns += [(place, name, column) for name, place, column in metadata]
    if draft.identities is not None:
        columns.append(("identities", "seurat_identity", draft.identities))
    layout.table("obs", ("barcodes", draft.barcodes), columns)
    layout.table(
        "var",
        ("gene_ids", draft.genes.ids),
        [
            ("gene_names", "name", draft.genes.names),
            ("gene_original_names", "original_name", draft.genes.original_names),
        ],
    )
    if draft.dispersions is not None:
        table = draft.dispersions
        values = np.ascontiguousarray(table.dispersions, np.float64)
        titled: list[tuple[str, str, Any]] = [
            ("dispersion_names", "name", table.names),
            ("dispersions", "dispersion", values),
        ]
        layout.table("uns/gene_dispersion", ("dispersion_ids", table.ids), titled)

    reductions = []
    for number, (name, reduction) in enumerate(draft.reductions.items()):
        place = f"reduction{number}"
        layout.put(place, layout.free_name("obsm", f"X_{name}"), np.ascontiguousarray(reduction.values, np.float64))
        reductions.append((name, place, reduction.key))
    images = []
    for number, (name, image) in enumerate(draft.images.items()):
        place, where = f"image{number}", f"uns/images/{number}"
        if not number:
            layout.group("uns/images")
        layout.plain(where, {"name": name, "scale": image.scale})
        layout.put(f"{place}/cells", f"{where}/cells", np.ascontiguousarray(image.cells, np.int32))
        layout.put(f"{place}/points", f"{where}/points", np.ascontiguousarray(image.points, np.float64))
        if image.pixels is not None:
            layout.put(f"{place}/pixels", f"{where}/pixels", np.ascontiguousarray(image.pixels, np.uint8))
        images.append((name, place, image.scale))
    stored = _lay_out_stored(layout, draft)
    if draft.scaled_values is not None and draft.scaled_genes is not None:
        layout.array("scaled", layout.free_name("obsm", "scaled"), draft.scaled_values.shape, np.float32)
        layout.put("scaled_genes", "uns/cellworker/scaled_genes", np.ascontiguousarray(draft.scaled_genes, np.int32))

    data, counts, graphs = matrices.data, matrices.counts, matrices.graphs
    _lay_out_expression(layout, matrices, (n_cells, n_genes))
    for number, (name, graph) in enumerate(graphs.items()):
        where = layout.free_name("obsp", name)
        layout.sparse(f"graph{number}", where, form="csr", shape=(n_cells, n_cells), nnz=graph.nnz, dtype=np.float32)

    contents: dict[str, Any] = {
        "metadata": [(name, place) for name, place, _ in metadata],
        "reductions": reductions,
        "images": images,
        "stored": stored,
        "graphs": [(name, f"graph{number}") for number, name in enumerate(graphs)],
        "misc": asdict(draft.misc),
        "origin": asdict(draft.origin),
        "extra": draft.extra,
        "data_summary": asdict(data.summary),
        "counts_summary": asdict(counts.summary) if counts is not None else None,
    }
    layout.plain("uns/misc", contents["misc"])
    layout.plain("uns/origin", {name: fact for name, fact in contents["origin"].items() if name != "count_layers"})
    # Two lists, not a mapping: an HDF5 object for each of 20,000 names takes as long as all the rest.
    names = {"places": [place for _, place, _ in metadata], "names": [name for name, _, _ in metadata]}
    layout.plain("uns/cellworker/metadata", names)
    layout.plain("uns/cellworker/reductions", {place: name for name, place, _ in reductions})
    layout.plain("uns/cellworker/reduction_keys", {place: prefix for _, place, prefix in reductions})
    layout.plain("uns/cellworker/graphs", {place: name for name, place in contents["graphs"]})
    return contents


def _lay_out_expression(layout: StoreLayout, matrices: _Matrices, shape: tuple[int, int]) -> None:
    data, counts, levels = matrices.data, matrices.counts, matrices.levels
    genes = np.uint16 if shape[1] <= _NARROW else np.int32
    if matrices.by_gene:
        layout.sparse("sorted", "X", form="csc", shape=shape, nnz=data.nnz, dtype=np.float32)
    if counts is not None:
        assert matrices.counts_dtype is not None
        layout.sparse(
            "counts", "layers/counts", form="csr", shape=shape, nnz=counts.nnz, dtype=matrices.counts_dtype,
            indices=genes,
        )  # fmt: skip
    if levels is None:
        share = ("counts", "layers/counts") if matrices.shared else None
        layout.sparse(
            "by_cell", "layers/by_cell", form="csr", shape=shape, nnz=data.nnz, dtype=np.float32, indices=genes,
            share=share,
        )  # fmt: skip
        return
    layout.group("uns/cellworker/levels")
    sizes = {"first": (shape[0] + 1, np.dtype(np.int64)), "counts": (levels.size, levels.dtype)}
    for part, (size, kind) in {**sizes, "values": (levels.size, np.dtype(np.float32))}.items():
        layout.array(f"levels/{part}", f"uns/cellworker/levels/{part}", (size,), kind)


def _lay_out_stored(layout: StoreLayout, draft: ExperimentDraft) -> list[list[Any]]:
    """Reserve space for the file's stored results, and return the index's entry of each."""
    told = []
    for number, (name, table) in enumerate(draft.stored.items()):
        if not number:
            layout.group("uns/cellworker/stored")
        places = [(title, f"stored{number}/{i}") for i, title in enumerate(table.columns)]
        columns = [(place, title, table.columns[title]) for title, place in places]
        index = (f"stored{number}/index", [str(row) for row in range(table.n_rows)])
        layout.table(f"uns/cellworker/stored/{number}", index, columns)
        told.append([name, table.source, table.kind, places, table.parameters])
    return told


def _smallest_dtype(counts: ScannedRows) -> np.dtype[Any]:
    """Return the smallest type that holds every count exactly."""
    found = counts.summary
    wide = counts.draft.values.dtype
    if wide != np.float32 and (found.fractional or found.negative or found.nan or found.largest >= 2**32):
        return wide
    if found.fractional or found.negative or found.infinite or found.nan or found.largest >= 2**32:
        return np.dtype(np.float32)
    kinds = (np.uint8, np.uint16, np.uint32)
    return next(np.dtype(kind) for kind in kinds if found.largest <= np.iinfo(kind).max)


def _reserve(descriptor: int) -> None:
    """Claim the disk space now, so that a full disk is detected before the work."""
    if not hasattr(os, "posix_fallocate"):  # macOS, where a write fails on a full disk
        return
    try:
        os.posix_fallocate(descriptor, 0, os.fstat(descriptor).st_size)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:  # a file system that cannot reserve space
            raise


def _put_pending(file: StoreFile, offset: int, content: NDArray[Any] | PaddedTexts) -> None:
    for piece in content.pieces() if isinstance(content, PaddedTexts) else (content,):
        file.put(offset, piece)
        offset += piece.nbytes


def _put_dense(file: StoreFile, offset: int, values: NDArray[np.float32]) -> None:
    step = max(1, _ROWS // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        block = np.ascontiguousarray(values[start : start + step], np.float32)
        file.put(offset + start * values.shape[1] * 4, block)
