"""From R's matrices (package Matrix's sparse classes, or dense) to rows of cells, in bounded memory."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode
from cellworker.experiment.draft import SparseDraft
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.exact_values import ExactValues
from cellworker.formats.common.matrices.sparse import blocks, check_bounds, transpose
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.r.rds.model import RS4, RStrings, RValue, RVector
from cellworker.formats.r.values import NA_INTEGER, describe, dim, dimnames, is_absent, slot

__all__ = ["Layer", "dense_values", "read_layer"]

_BLOCK = 1 << 22
_COMPRESSED = {"dgCMatrix", "lgCMatrix", "ngCMatrix", "Graph"}
_TRIPLET = {"dgTMatrix", "lgTMatrix", "ngTMatrix"}


@dataclass(frozen=True, slots=True)
class Layer:
    """A matrix of an assay, cell after cell, with the names that it carries itself (Assay5 layers carry none)."""

    matrix: SparseDraft
    genes: RStrings | None
    cells: RStrings | None


def read_layer(value: RValue | None, field: str, findings: Findings, scratch: Scratch) -> Layer | None:
    """Read one matrix; None when it is absent or has no cells or no genes (how Seurat writes an empty layer).

    Parameters
    ----------
    value
        genes x cells: ``dgCMatrix`` and its kin, ``dgTMatrix``, ``dgRMatrix``, ``dgeMatrix``, or a dense R matrix.

    Raises
    ------
    PartBrokenError
        When it is none of these, or contradicts itself.
    """
    if is_absent(value):
        return None
    shape = dim(value)
    if shape is None or not isinstance(value, (RS4, RVector)):
        advice = "store it as a dgCMatrix"
        raise findings.broken(field, found=describe(value), expected="a sparse or dense matrix", advice=advice)
    if min(shape) == 0:
        return None
    genes, cells = dimnames(value)
    for names, length, what in ((genes, shape[0], "row"), (cells, shape[1], "column")):
        if names is not None and len(names) != length:
            advice = "the file is damaged; save the object again"
            raise findings.broken(field, found=f"{len(names)} {what} names", expected=f"{length}", advice=advice)
    if isinstance(value, RS4):
        matrix = _sparse(value, shape, field, findings, scratch)
    else:
        matrix = _from_dense(dense_values(value, shape, field, findings), scratch)
    return Layer(matrix, genes, cells)


def dense_values(value: RVector, shape: tuple[int, int], field: str, findings: Findings) -> NDArray[Any]:
    """View a dense R matrix (column-major, genes x cells) as an array ``(n_cells, n_genes)``; nothing is copied."""
    if value.kind not in {"integer", "double", "logical"} or len(value) != shape[0] * shape[1]:
        found = f"{len(value)} {value.kind} values for {shape[0]} x {shape[1]}"
        raise findings.broken(
            field, found=found, expected="one number per gene and cell", advice="save the object again"
        )
    return value.values.reshape(shape[1], shape[0])


def _sparse(value: RS4, shape: tuple[int, int], field: str, findings: Findings, scratch: Scratch) -> SparseDraft:
    name, n_genes, n_cells = value.class_name, *shape
    if name in _COMPRESSED:
        indptr = _pointers(value, n_cells, field, findings)
        genes = _integers(value, "i", int(indptr[-1]), field, findings)
        return SparseDraft(indptr, genes, _values(value, len(genes), field, findings, scratch), n_genes)
    if name == "dgRMatrix":
        indptr = _pointers(value, n_genes, field, findings)
        cells = _integers(value, "j", int(indptr[-1]), field, findings)
        by_gene = SparseDraft(indptr, cells, _values(value, len(cells), field, findings, scratch), n_cells)
        return transpose(by_gene, field, findings)
    if name in _TRIPLET:
        return _from_triplets(value, shape, field, findings, scratch)
    if name == "dgeMatrix":
        x = slot(value, "x")
        if isinstance(x, RVector) and x.kind == "double" and len(x) == n_genes * n_cells:
            return _from_dense(x.values.reshape(n_cells, n_genes), scratch)
    advice = f"convert it with as({field.replace(' ', '$')}, 'dgCMatrix') and save the object again"
    raise findings.broken(
        field, found=f"a matrix of class {name}", expected="a dgCMatrix or an R matrix", advice=advice,
        code=ErrorCode.EXPERIMENT_UNSUPPORTED,
    )  # fmt: skip


def _pointers(value: RS4, n: int, field: str, findings: Findings) -> NDArray[np.int64]:
    p = slot(value, "p")
    if isinstance(p, RVector) and p.kind in {"integer", "double"} and len(p) == n + 1:
        if p.kind == "double" and not np.all(np.abs(p.values) < 2.0**53):
            pointers = np.array([-1], np.int64)
        else:
            pointers = np.ascontiguousarray(p.values, np.int64)
        if pointers[0] == 0 and not np.any(pointers[1:] < pointers[:-1]):
            return pointers
        found = "pointers that do not rise from 0"
    else:
        found = f"{len(p) if isinstance(p, RVector) else 'no'} pointers"
    advice = "the file is damaged; save the object again"
    raise findings.broken(field=f"{field}, slot p", found=found, expected=f"{n + 1} rising pointers", advice=advice)


def _integers(value: RS4, name: str, length: int, field: str, findings: Findings) -> NDArray[np.int32]:
    found = slot(value, name)
    if not isinstance(found, RVector) or found.kind != "integer" or len(found) != length:
        advice = "the file is damaged; save the object again"
        raise findings.broken(
            field=f"{field}, slot {name}", found=describe(found), expected=f"{length} integers", advice=advice
        )
    return found.values


def _values(value: RS4, length: int, field: str, findings: Findings, scratch: Scratch) -> NDArray[Any]:
    if value.class_name.startswith("n"):
        ones = scratch.empty((length,), np.float32)
        ones[:] = 1
        return ones
    x = slot(value, "x")
    if not isinstance(x, RVector) or x.kind not in {"double", "logical"} or len(x) != length:
        advice = "the file is damaged; save the object again"
        raise findings.broken(field=f"{field}, slot x", found=describe(x), expected=f"{length} numbers", advice=advice)
    return _single(x.values, scratch)


def _single(values: NDArray[Any], scratch: Scratch) -> NDArray[Any]:
    if values.dtype == np.float32:
        return values
    out = ExactValues(len(values), scratch)
    for start, end in blocks(len(values)):
        out.put(slice(start, end), _with_missing(values[start:end]))
    return out.values


def _with_missing(values: NDArray[Any]) -> NDArray[Any]:
    """Return R's integers with NaN for NA; doubles as they are."""
    if values.dtype != np.int32 or not np.any(values == NA_INTEGER):
        return values
    return np.where(values == NA_INTEGER, np.nan, values.astype(np.float64))


def _from_dense(values: NDArray[Any], scratch: Scratch) -> SparseDraft:
    n_cells, n_genes = values.shape
    step = max(1, _BLOCK // n_genes)
    indptr = np.zeros(n_cells + 1, np.int64)
    for start, end in blocks(n_cells, step):
        indptr[start + 1 : end + 1] = np.count_nonzero(values[start:end], axis=1)
    np.cumsum(indptr, out=indptr)
    genes = scratch.empty((int(indptr[-1]),), np.int32)
    kept = ExactValues(int(indptr[-1]), scratch)
    for start, end in blocks(n_cells, step):
        block = values[start:end]
        rows, columns = np.nonzero(block)
        where = slice(int(indptr[start]), int(indptr[end]))
        genes[where] = columns
        kept.put(where, _with_missing(block[rows, columns]))
    return SparseDraft(indptr, genes, kept.values, n_genes)


def _from_triplets(value: RS4, shape: tuple[int, int], field: str, findings: Findings, scratch: Scratch) -> SparseDraft:
    i = slot(value, "i")
    length = len(i) if isinstance(i, RVector) else 0
    genes = _integers(value, "i", length, field, findings)
    cells = _integers(value, "j", length, field, findings)
    x = _values(value, length, field, findings, scratch)
    check_bounds(genes, shape[0], f"{field}, slot i", findings)
    check_bounds(cells, shape[1], f"{field}, slot j", findings)
    order = np.lexsort((genes, cells))
    genes, cells, x = genes[order], cells[order], x[order]
    # Package Matrix defines repeated entries of a triplet matrix as their sum.
    first = np.flatnonzero(np.r_[True, (np.diff(cells) != 0) | (np.diff(genes) != 0)]) if length else order
    summed = np.add.reduceat(x, first) if length else x
    indptr = np.zeros(shape[1] + 1, np.int64)
    np.cumsum(np.bincount(cells[first], minlength=shape[1]), out=indptr[1:])
    return SparseDraft(indptr, genes[first], _single(summed.astype(np.float64), scratch), shape[0])
