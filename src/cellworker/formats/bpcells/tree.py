"""From the object's tree of operations to a matrix that can be read."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode
from cellworker.formats.bpcells.broken import MatrixError, damaged
from cellworker.formats.bpcells.operations import (
    Bound,
    BpcellsMatrix,
    Change,
    HeldMatrix,
    OnDisk,
    Selected,
    Stacked,
    Transformed,
    capped,
    elementwise,
    scaled,
)
from cellworker.formats.bpcells.outside import Outside
from cellworker.formats.bpcells.stored import StoredMatrix
from cellworker.formats.r.rds.model import RS4, RList, RStrings, RValue, RVector
from cellworker.formats.r.values import describe, dim, slot

__all__ = ["build", "is_bpcells", "is_turned"]

_PACKAGE: Final = "BPCells"
_MAX_LEVELS = 200
_MAX_PARTS = 20_000
_CONVERT = "convert the layer with as(x, 'dgCMatrix') and save the object again"
_TYPES: Final[dict[str, np.dtype[Any]]] = {
    "uint32_t": np.dtype(np.uint32),
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
}
_BY_PLACE: Final = {"TransformMinByRow": "row_params", "TransformMinByCol": "col_params"}


def is_bpcells(value: RValue | None) -> bool:
    """Return whether a layer is a matrix of BPCells."""
    return isinstance(value, RS4) and value.package == _PACKAGE


def is_turned(value: RS4) -> bool:
    """Return whether the object's rows are the columns of what is on disk."""
    flag = slot(value, "transpose")
    return isinstance(flag, RVector) and flag.kind == "logical" and len(flag) == 1 and bool(flag.values[0] == 1)


def build(root: RS4, outside: Outside) -> BpcellsMatrix:
    """Return the matrix that a tree stands for, before it is turned.

    Raises
    ------
    MatrixError
        For a class that is not known, or one that contradicts itself or its matrices.
    WorkerError
        ``EXPERIMENT_UNREADABLE`` for an archive that is damaged or hostile, ``DISK_FULL``.
    """
    return _Builder(outside, turned=is_turned(root)).build(root, 0)


class _Builder:
    def __init__(self, outside: Outside, *, turned: bool) -> None:
        self._outside = outside
        self._turned = turned
        self._parts = 0

    def build(self, value: RValue | None, level: int) -> BpcellsMatrix:
        self._parts += 1
        if level > _MAX_LEVELS or self._parts > _MAX_PARTS:
            raise MatrixError(found="operations nested without end", expected="a matrix of BPCells", advice=_CONVERT)
        if not isinstance(value, RS4) or value.package != _PACKAGE:
            raise damaged(found=f"{describe(value)} inside a matrix of BPCells", expected="another matrix of BPCells")
        if is_turned(value) != self._turned:
            raise damaged(found="parts that lie row after row and others that do not", expected="one direction")
        matrix = self._made(value, level)
        expected = _extent(value, turned=self._turned)
        if expected != (matrix.n_minors, matrix.n_majors):
            raise damaged(
                found=f"{matrix.n_minors:,} x {matrix.n_majors:,} in {value.class_name}", expected=f"{expected}"
            )
        return matrix

    def _made(self, value: RS4, level: int) -> BpcellsMatrix:
        name = value.class_name
        make: Callable[[RS4], BpcellsMatrix] | None = {
            "MatrixDir": self._on_disk,
            "Iterable_dgCMatrix_wrapper": _held,
        }.get(name)
        if make is not None:
            return make(value)
        if name in ("ColBindMatrices", "RowBindMatrices"):
            listed = slot(value, "matrix_list")
            parts = [self.build(item, level + 1) for item in listed.items] if isinstance(listed, RList) else []
            if not parts:
                raise damaged(found=f"{name} of nothing", expected="matrices")
            return Bound(parts) if name == "ColBindMatrices" else Stacked(parts)
        change = _change(value)
        if name not in ("RenameDims", "MatrixSubset") and change is None:
            raise MatrixError(
                found=f"a matrix of BPCells with the operation {name}{_why(value)}",
                expected="an operation that is known",
                advice=_CONVERT,
                code=ErrorCode.EXPERIMENT_UNSUPPORTED,
            )
        inner = self.build(slot(value, "matrix"), level + 1)
        if name == "MatrixSubset":
            minors = _selection(value, "row_selection", 0, inner.n_minors)
            return Selected(inner, minors, _selection(value, "col_selection", 1, inner.n_majors))
        if change is None:
            return inner
        return Transformed(inner, change(inner))

    def _on_disk(self, value: RS4) -> BpcellsMatrix:
        path = slot(value, "dir")
        if not isinstance(path, RStrings) or len(path) != 1:
            raise damaged(found="a MatrixDir without a folder", expected="one folder")
        stored = StoredMatrix(self._outside.matrix(path[0] or ""))
        if stored.row_major != self._turned:
            order = ("row", "col")[self._turned]
            raise damaged(found=f"a folder in {order} order", expected="the order that the object tells")
        return OnDisk(stored)


def _extent(value: RS4, *, turned: bool) -> tuple[int, int]:
    found = slot(value, "dim")
    if not isinstance(found, RVector) or found.kind not in ("integer", "double") or len(found) != 2:
        raise damaged(found=f"{describe(found)} as the extent of {value.class_name}", expected="two numbers")
    rows, columns = (int(n) if 0 <= n < 2**62 else -1 for n in found.values)
    return (columns, rows) if turned else (rows, columns)


def _held(value: RS4) -> BpcellsMatrix:
    inner = slot(value, "mat")
    shape = dim(inner)
    i, p, x = (slot(inner, name) for name in ("i", "p", "x"))
    if (
        not isinstance(inner, RS4)
        or inner.class_name != "dgCMatrix"
        or shape is None
        or not (isinstance(i, RVector) and isinstance(p, RVector) and isinstance(x, RVector))
        or (i.kind, p.kind, x.kind) != ("integer", "integer", "double")
        or len(p) != shape[1] + 1
        or p.values[0] != 0
        or bool(np.any(np.diff(p.values) < 0))
        or not (len(i) == len(x) == int(p.values[-1]))
        or (len(i) and not 0 <= int(i.values.min()) <= int(i.values.max()) < shape[0])
    ):
        raise damaged(found=f"{describe(inner)} that contradicts itself", expected="a dgCMatrix")
    return HeldMatrix(p.values.astype(np.int64), i.values, x.values, shape[0])


def _selection(value: RS4, name: str, side: int, extent: int) -> NDArray[np.int64] | None:
    chosen, nothing = slot(value, name), slot(value, "zero_dims")
    if not isinstance(chosen, RVector) or chosen.kind != "integer":
        raise damaged(found=f"{describe(chosen)} as {name}", expected="whole numbers")
    empty = isinstance(nothing, RVector) and len(nothing) == 2 and bool(nothing.values[side] == 1)
    if not len(chosen) and not empty:
        return None
    places = chosen.values.astype(np.int64) - 1
    if len(places) and (places.min() < 0 or places.max() >= extent or len(np.unique(places)) < len(places)):
        raise damaged(
            found=f"{name} that repeats or leaves the matrix", expected=f"different numbers from 1 to {extent:,}"
        )
    return places


def _change(value: RS4) -> Callable[[BpcellsMatrix], Change] | None:
    """Return what makes the change of values that a class stands for; None for a class that is not known."""
    name = value.class_name
    if name == "ConvertMatrixType":
        type_ = slot(value, "type")
        kept = _TYPES.get(type_[0] or "") if isinstance(type_, RStrings) and len(type_) == 1 else None
        return None if kept is None else lambda _: _converted(kept)
    if name == "TransformScaleShift":
        return _scaling(value)
    if name in _BY_PLACE:
        by_row = name == "TransformMinByRow"

        def cut(inner: BpcellsMatrix) -> Change:
            largest = _parameters(value, _BY_PLACE[name], 1, inner.n_minors if by_row else inner.n_majors)[0]
            return capped(largest, None) if by_row else capped(None, largest)

        return cut
    found = elementwise(name, _numbers(value, "global_params"))
    return None if found is None else lambda _: found


def _converted(kept: np.dtype[Any]) -> Change:
    def change(values: NDArray[np.float64], _at: object, _of: object) -> NDArray[np.float64]:
        if kept == np.float64:
            return values
        if kept == np.uint32:
            values = np.clip(np.nan_to_num(values), 0, 2**32 - 1)
        return values.astype(kept).astype(np.float64)

    return change


def _active(value: RS4) -> NDArray[np.bool_] | None:
    flags = slot(value, "active_transforms")
    if not isinstance(flags, RVector) or flags.kind != "logical" or len(flags) != 6:
        return None
    return np.asarray(flags.values == 1).reshape(2, 3)


def _scaling(value: RS4) -> Callable[[BpcellsMatrix], Change] | None:
    active = _active(value)
    if active is None or active[1].any():
        return None

    def make(inner: BpcellsMatrix) -> Change:
        rows = _parameters(value, "row_params", 2, inner.n_minors)[0] if active[0, 0] else None
        columns = _parameters(value, "col_params", 2, inner.n_majors)[0] if active[0, 1] else None
        whole = _numbers(value, "global_params")
        if active[0, 2] and not len(whole):
            raise damaged(found="no global factor", expected="one")
        return scaled(rows, columns, float(whole[0]) if active[0, 2] else None)

    return make


def _why(value: RS4) -> str:
    active = _active(value) if value.class_name == "TransformScaleShift" else None
    return " that adds to zeros, so that none is left out" if active is not None and active[1].any() else ""


def _numbers(value: RS4, name: str) -> NDArray[np.float64]:
    found = slot(value, name)
    if isinstance(found, RVector) and found.kind in ("integer", "double", "logical"):
        return np.asarray(found.values, np.float64)
    return np.zeros(0)


def _parameters(value: RS4, name: str, height: int, extent: int) -> NDArray[np.float64]:
    found = slot(value, name)
    if dim(found) != (height, extent) or len(_numbers(value, name)) != height * extent:
        raise damaged(found=f"{describe(found)} as {name}", expected=f"{height} x {extent:,} numbers")
    return _numbers(value, name).reshape(extent, height).T
