"""One matrix as BPCells writes it: its files understood, and any of its columns decoded.

Versions 1 and 2; values that are whole numbers (uint32), float32 or float64; packed to as few bits as possible or not.
"Major" is the direction of storage on disk: a matrix in column order has columns as majors.

Source: algorithms.md 12.5, and the headers ``matrixIterators/StoredMatrix.h`` and ``arrayIO/bp128.h`` of the package
bpcells 0.3, read for the facts of the format.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode
from cellworker.formats.bpcells.broken import MatrixError, damaged
from cellworker.formats.bpcells.outside import MatrixFiles
from cellworker.native import address, kernel

__all__ = ["MajorSlice", "StoredMatrix", "gathered"]

_MAGIC: Final[dict[bytes, np.dtype[Any]]] = {
    b"UINT32v1": np.dtype("<u4"),
    b"UINT64v1": np.dtype("<u8"),
    b"FLOATSv1": np.dtype("<f4"),
    b"DOUBLEv1": np.dtype("<f8"),
}
_VERSION: Final = re.compile(r"(packed|unpacked)-(uint|float|double)-matrix-v(\d+)")
_VALUES: Final[dict[str, np.dtype[Any]]] = {
    "uint": np.dtype("<u4"),
    "float": np.dtype("<f4"),
    "double": np.dtype("<f8"),
}
_BLOCK = 128
_TEXT_BYTES = 100
_NO_OFFSETS = np.array([0, 2**64 - 1], np.uint64)

_unpack = kernel("cw_bpcells_unpack")


@dataclass(frozen=True, slots=True)
class MajorSlice:
    """Some majors of a matrix, one after another.

    Attributes
    ----------
    lengths
        Number of values of each major, int64 ``(k,)``.
    minors
        Place of each value within its major, int64; ascending in what BPCells writes, but not checked here.
    values
        float64.
    """

    lengths: NDArray[np.int64]
    minors: NDArray[np.int64]
    values: NDArray[np.float64]


def gathered(from_: NDArray[np.int64], to: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions ``from_[0] .. to[0] - 1, from_[1] .. to[1] - 1, ...``."""
    lengths = to - from_
    begins = np.cumsum(lengths) - lengths
    positions: NDArray[np.int64] = np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(from_ - begins, lengths)
    return positions


@dataclass(frozen=True, slots=True)
class _Packed:
    """A vector of whole numbers in blocks of 128."""

    name: str
    words: NDArray[np.uint32]
    idx: NDArray[np.uint32]
    offsets: NDArray[np.uint64]
    starts: NDArray[np.uint32] | None

    def take(self, from_: NDArray[np.int64], to: NDArray[np.int64]) -> NDArray[np.uint32]:
        out = np.empty(int((to - from_).sum()), np.uint32)
        broken = _unpack(
            address(self.words, np.uint32), len(self.words), address(self.idx, np.uint32), len(self.idx) - 1,
            address(self.offsets, np.uint64), len(self.offsets),
            None if self.starts is None else address(self.starts, np.uint32), address(from_, np.int64),
            address(to, np.int64), len(from_), address(out, np.uint32, writable=True),
        )  # fmt: skip
        if broken:
            raise damaged(
                found=f"a block in {self.name} that cannot be (number {-broken - 1:,})", expected="packed numbers"
            )
        return out


class StoredMatrix:
    """A matrix on disk.

    Parameters
    ----------
    source
        Its files.

    Attributes
    ----------
    row_major
        Whether it is stored row after row.
    n_majors, n_minors
        Its extent along and across that direction.

    Raises
    ------
    MatrixError
        When a file is missing, damaged, or of a form that BPCells does not write.
    """

    def __init__(self, source: MatrixFiles) -> None:
        self._source = source
        packed, self.type, version = self._version()
        order = self._text("storage_order")
        if order not in ("col", "row"):
            raise damaged(found=f"{source.name}/storage_order {order!r}", expected="col or row")
        self.row_major = order == "row"
        shape = [int(n) for n in self._array("shape", np.dtype("<u4"), 2)]
        self.n_minors, self.n_majors = shape[::-1] if self.row_major else shape
        pointers = self._array("idxptr", np.dtype("<u4" if version == 1 else "<u8"), self.n_majors + 1)
        if pointers[0] != 0 or np.any(pointers[1:] < pointers[:-1]) or pointers[-1] >= 2**62:
            raise damaged(found=f"{source.name}/idxptr that does not rise from 0", expected="rising positions")
        self._pointers = pointers.astype(np.int64)
        n = int(self._pointers[-1])
        if n and int(np.diff(self._pointers).max()) > self.n_minors:
            raise damaged(
                found=f"{source.name}/idxptr with more values than fit", expected=f"up to {self.n_minors:,} at a time"
            )
        values = _VALUES[self.type]
        self._minors = self._packed("index", n, version) if packed else self._array("index", np.dtype("<u4"), n)
        self._values = (
            self._packed("val", n, version) if packed and self.type == "uint" else self._array("val", values, n)
        )

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of values of each major."""
        return np.diff(self._pointers)

    def take(self, majors: NDArray[np.int64]) -> MajorSlice:
        """Decode majors, in any order."""
        from_, to = self._pointers[majors], self._pointers[majors + 1]
        minors = _taken(self._minors, from_, to).astype(np.int64)
        if len(minors) and int(minors.max()) >= self.n_minors:
            found = f"index {int(minors.max()):,} in {self._source.name}"
            raise damaged(found, f"0 to {self.n_minors - 1:,}")
        return MajorSlice(to - from_, minors, _taken(self._values, from_, to).astype(np.float64))

    # ---- files ----

    def _file(self, name: str) -> NDArray[np.uint8]:
        found = self._source.files.get(name)
        if found is None:
            raise damaged(found=f"no file {self._source.name}/{name}", expected="a whole matrix folder")
        return found

    def _text(self, name: str) -> str:
        content = self._file(name)[:_TEXT_BYTES].tobytes().decode("utf-8", "replace")
        return content.split("\n", 1)[0].strip()

    def _version(self) -> tuple[bool, str, int]:
        text = self._text("version")
        found = _VERSION.fullmatch(text)
        if found is None or int(found[3]) not in (1, 2):
            raise MatrixError(
                found=f"a matrix of the form {text[:60]!r}",
                expected="a matrix of BPCells, version 1 or 2",
                advice="write it again with write_matrix_dir() of BPCells 0.3",
                code=ErrorCode.EXPERIMENT_UNSUPPORTED,
            )
        return found[1] == "packed", found[2], int(found[3])

    def _array(self, name: str, dtype: np.dtype[Any], length: int | None) -> NDArray[Any]:
        """Return a file's numbers; a map stays one."""
        content = self._file(name)
        kind = _MAGIC.get(content[:8].tobytes())
        if kind is None or kind != dtype or (len(content) - 8) % kind.itemsize:
            raise damaged(
                found=f"{self._source.name}/{name} that does not begin as one", expected=f"{dtype.name} numbers"
            )
        numbers: NDArray[Any] = content[8:].view(kind)
        if length is not None and len(numbers) != length:
            raise damaged(found=f"{len(numbers):,} numbers in {self._source.name}/{name}", expected=f"{length:,}")
        return numbers

    def _packed(self, name: str, n: int, version: int) -> _Packed:
        words, number = np.dtype("<u4"), -(-n // _BLOCK)
        idx = self._array(f"{name}_idx", words, None)
        if len(idx) != number + 1 and (n or len(idx)):
            raise damaged(found=f"{len(idx):,} numbers in {self._source.name}/{name}_idx", expected=f"{number + 1:,}")
        offsets = _NO_OFFSETS
        if version > 1:
            offsets = self._array(f"{name}_idx_offsets", np.dtype("<u8"), None)
            if len(offsets) < 2 or len(offsets) > 2 + number:
                raise damaged(
                    found=f"{len(offsets):,} numbers in {self._source.name}/{name}_idx_offsets", expected="at least 2"
                )
        starts = self._array("index_starts", words, number) if name == "index" else None
        return _Packed(f"{self._source.name}/{name}", self._array(f"{name}_data", words, None), idx, offsets, starts)


def _taken(stored: "NDArray[Any] | _Packed", from_: NDArray[np.int64], to: NDArray[np.int64]) -> NDArray[Any]:
    if isinstance(stored, _Packed):
        return stored.take(np.ascontiguousarray(from_), np.ascontiguousarray(to))
    if len(from_) and np.array_equal(from_[1:], to[:-1]):
        return stored[int(from_[0]) : int(to[-1])]
    return stored[gathered(from_, to)]
