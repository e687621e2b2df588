"""A writer of BPCells matrices in every form, and trees of the S4 classes around them."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import zstandard

from cellworker.formats.r.rds.build import doubles, integers, logicals, strings
from cellworker.formats.r.rds.model import RS4, RList, RNull, RVector

MAGIC = {"<u4": b"UINT32v1", "<u8": b"UINT64v1", "<f4": b"FLOATSv1", "<f8": b"DOUBLEv1"}
NUMBERS = {"uint": "<u4", "float": "<f4", "double": "<f8"}


def numbers(values: Any, kind: str) -> bytes:
    return MAGIC[kind] + np.asarray(values).astype(kind).tobytes()


def pack(values: np.ndarray) -> tuple[np.ndarray, int]:
    """128 numbers in as few bits as their largest needs: words of four interleaved lanes, and the bits."""
    bits = int(np.bitwise_or.reduce(values)).bit_length()
    words = np.zeros((bits, 4), np.uint64)
    for k, value in enumerate(values.tolist()):
        lane, at = k % 4, k // 4 * bits
        if bits:
            words[at // 32, lane] |= value << at % 32 & 0xFFFFFFFF
            if at % 32 + bits > 32:
                words[at // 32 + 1, lane] |= value >> 32 - at % 32
    return words.ravel().astype(np.uint32), bits


def packed(values: np.ndarray, *, differences: bool) -> dict[str, bytes]:
    """The parts of a packed vector by the ends of their names."""
    blocks = -(-len(values) // 128)
    filled = np.pad(values.astype(np.uint32), (0, blocks * 128 - len(values)), "edge" if blocks else "constant")
    words, idx = [np.zeros(0, np.uint32)], [0]
    for block in filled.reshape(-1, 128):
        steps = np.diff(block.astype(np.int64), prepend=int(block[0]))
        found, _ = pack(((steps << 1) ^ (steps >> 31)).astype(np.uint32) if differences else block - 1)
        words.append(found)
        idx.append(idx[-1] + len(found))
    return {
        "_data": numbers(np.concatenate(words), "<u4"),
        "_idx": numbers(idx, "<u4"),
        "_idx_offsets": numbers([0, blocks + 1], "<u8"),
        "_starts": numbers(filled[::128], "<u4"),
    }


def matrix_files(
    dense: np.ndarray, *, kind: str = "uint", is_packed: bool = True, version: int = 2, row_major: bool = False
) -> dict[str, bytes]:
    """The files of a matrix (genes x cells)."""
    form = scipy.sparse.csr_matrix if row_major else scipy.sparse.csc_matrix
    matrix = form(dense)
    matrix.sort_indices()
    files = {
        "version": f"{'packed' if is_packed else 'unpacked'}-{kind}-matrix-v{version}\n".encode(),
        "storage_order": b"row\n" if row_major else b"col\n",
        "row_names": b"", "col_names": b"",
        "shape": numbers(dense.shape, "<u4"),
        "idxptr": numbers(matrix.indptr, "<u8" if version == 2 else "<u4"),
    }  # fmt: skip
    if not is_packed:
        return files | {"index": numbers(matrix.indices, "<u4"), "val": numbers(matrix.data, NUMBERS[kind])}
    parts = {f"index{end}": content for end, content in packed(matrix.indices, differences=True).items()}
    if kind == "uint":
        parts |= {f"val{end}": part for end, part in packed(matrix.data, differences=False).items() if end != "_starts"}
    else:
        parts["val"] = numbers(matrix.data, NUMBERS[kind])
    if version == 1:
        parts = {name: content for name, content in parts.items() if not name.endswith("_idx_offsets")}
    return files | parts


class Bp:
    """Folders, archives, and trees of BPCells."""

    files = staticmethod(matrix_files)

    @staticmethod
    def folder(path: Path, files: Mapping[str, bytes]) -> Path:
        path.mkdir(parents=True)
        for name, content in files.items():
            (path / name).write_bytes(content)
        return path

    @staticmethod
    def archive(path: Path, members: Mapping[str, bytes], *, form: int = tarfile.GNU_FORMAT) -> Path:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", format=form) as archive:
            for name, one in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(one)
                archive.addfile(member, io.BytesIO(one))
        path.write_bytes(zstandard.compress(content.getvalue()))
        return path

    @staticmethod
    def node(name: str, shape: tuple[int, int], *, turned: bool = False, **slots: Any) -> RS4:
        """One object of BPCells of that shape (genes x cells)."""
        usual = {
            "dim": doubles(shape), "transpose": logicals([turned]), "dimnames": RList([RNull(), RNull()]),
        }  # fmt: skip
        return RS4(name, "BPCells", {**slots, **usual})

    @classmethod
    def directory(cls, shape: tuple[int, int], path: str = "/gone/matrix_dir", *, turned: bool = False) -> RS4:
        return cls.node(
            "MatrixDir", shape, turned=turned, dir=strings(path), compressed=logicals([True]),
            buffer_size=integers([8192]), type=strings("uint32_t"),
        )  # fmt: skip

    @staticmethod
    def table(values: np.ndarray) -> RVector:
        """A matrix of numbers as R keeps it."""
        values = np.asarray(values, np.float64)
        return RVector(values.ravel(order="F"), "double", {"dim": integers(values.shape)})

    @classmethod
    def scale(
        cls, inner: RS4, shape: tuple[int, int], *, rows: Any = None, columns: Any = None, whole: float | None = None,
        shift: bool = False, turned: bool = False,
    ) -> RS4:  # fmt: skip
        """A TransformScaleShift; its flags are row, col, global x scale, shift."""
        flags = [rows is not None, columns is not None, whole is not None, shift, False, False]
        factors = [np.zeros((0, 0)) if v is None else np.stack([v, np.zeros(len(v))]) for v in (rows, columns)]
        return cls.node(
            "TransformScaleShift", shape, turned=turned, matrix=inner, row_params=cls.table(factors[0]),
            col_params=cls.table(factors[1]), global_params=doubles([] if whole is None else [whole, 0.0]),
            active_transforms=logicals(flags),
        )  # fmt: skip

    @classmethod
    def log_normalised(cls, inner: RS4, counts: np.ndarray, *, turned: bool = False) -> RS4:
        """What NormalizeData puts on the counts (genes x cells)."""
        shape = counts.shape
        totals = np.maximum(counts.sum(axis=0), 1)
        factors = {"rows" if turned else "columns": 1 / totals}
        converted = cls.node("ConvertMatrixType", shape, turned=turned, matrix=inner, type=strings("double"))
        return cls.node(
            "TransformLog1p", shape, turned=turned,
            matrix=cls.scale(converted, shape, **factors, whole=1e4, turned=turned),
        )  # fmt: skip


@pytest.fixture(scope="session")
def bp() -> type[Bp]:
    return Bp
