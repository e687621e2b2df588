"""Recognises the kind of a file by its content, and says what to do with a kind that is not read.

`kind_of` returns the kind of any path, whatever its name. It reads untrusted files, HDF5
among them, so it is called in the sandboxed child. Each kind that is not read has a sentence that names it and says
how to convert it into one that is read.
"""

import bz2
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import zstandard

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.kinds import FOREIGN, ROOTS, is_hdf5, is_zarr
from cellworker.formats.r.qs.header import MAGIC as QS
from cellworker.formats.r.qs2 import MAGIC as QS2
from cellworker.formats.r.rds.inflate import codec_of
from cellworker.formats.r.rds.reader import WORKSPACE_LINES

__all__ = ["READ", "FileKind", "kind_of", "not_read", "unknown"]

_HEAD: Final = 512
_FEW: Final = 20
_SHOWN: Final = 6
_TAR_MARK, _TAR_AT = b"ustar", 257


class FileKind(StrEnum):
    """Kinds of files, as a sentence calls them."""

    RDS = "an .rds file"
    QS = "a file of R's package qs"
    ANNDATA = "an AnnData file"
    OLD_ANNDATA = "an AnnData file as anndata before 0.7 wrote it (obs and var are compound tables)"
    MUDATA = "a MuData file"
    SPATIALDATA = "a SpatialData store"
    LOOM = "a loom file"
    TENX = "a matrix of 10x Genomics in HDF5"
    H5SEURAT = "an h5Seurat file"
    HDF5 = "an HDF5 file of another kind"
    ZARR = "a Zarr store of another kind"
    ZIPPED_ZARR = "a zipped Zarr store"
    PACKED_HDF5 = "a compressed HDF5 file"
    WORKSPACE = "an R workspace (.rda, .RData)"
    TEXT_WORKSPACE = "an R workspace as text (ascii = TRUE)"
    QS2 = "a file of R's package qs2"
    QDATA = "a qdata file of R's package qs2"
    MATRIX_MARKET = "a matrix in text (Matrix Market)"
    TEXT = "a table of numbers in text"
    ENTRIES = "a list of cells, genes and counts in text"
    FOLDER = "a folder of matrices"
    ZIP = "a zip archive"
    TAR = "a tar archive"
    PARQUET = "a table of Apache Parquet"
    ARROW = "a table of Apache Arrow (Feather)"
    PICKLE = "a pickle of Python"
    SPREADSHEET = "a spreadsheet"
    PICTURE = "a picture"
    PDF = "a PDF document"
    READS = "sequencing reads"
    SNAP = "a snap file of SnapATAC"
    ANNDATASET = "a set of AnnData files (SnapATAC2)"
    MOLECULES = "the molecules of 10x Genomics (molecule_info.h5)"
    LFS = "a pointer of Git LFS and not the file itself"
    WEB_PAGE = "a web page and not the file itself"
    UNKNOWN = "no file of a known kind"


_BEGINS: Final[tuple[tuple[bytes | tuple[bytes, ...], FileKind], ...]] = (
    (QS, FileKind.QS),
    # The formats of R's package qs2, as its header files give them.
    (QS2, FileKind.QS2),
    ((b"\x0b\x0e\x0a\xc2", b"\x0b\x0e\x0a\xcd"), FileKind.QDATA),
    ((b"X\n", b"A\n", b"B\n"), FileKind.RDS),
    (WORKSPACE_LINES, FileKind.WORKSPACE),
    ((b"RDA2\n", b"RDA3\n"), FileKind.TEXT_WORKSPACE),
    (b"\x89HDF\r\n\x1a\n", FileKind.PACKED_HDF5),
    (b"PK\x03\x04", FileKind.ZIP),
    (b"%%MatrixMarket", FileKind.MATRIX_MARKET),
    (b"PAR1", FileKind.PARQUET),
    ((b"ARROW1", b"FEA1"), FileKind.ARROW),
    (tuple(bytes([0x80, version]) for version in range(2, 6)), FileKind.PICKLE),
    ((b"\x89PNG\r\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"GIF8"), FileKind.PICTURE),
    (b"%PDF-", FileKind.PDF),
    ((b"BAM\1", b"CRAM"), FileKind.READS),
    (b"version https://git-lfs", FileKind.LFS),
    ((b"<!DOC", b"<!doc", b"<html", b"<HTML"), FileKind.WEB_PAGE),
)
"""First bytes of the content, after decompression."""

READ: Final = frozenset(
    {
        FileKind.RDS,
        FileKind.QS,
        FileKind.QS2,
        FileKind.WORKSPACE,
        FileKind.H5SEURAT,
        FileKind.ANNDATA,
        FileKind.UNKNOWN,
        *(kind for kind in FileKind if kind.name in FOREIGN),
    }
)
"""Kinds that a reader gets; that of .rds files reports why an unknown file is none."""


def kind_of(path: Path) -> FileKind:
    """Tell the kind of a file, of the folder of a Zarr store, or of a folder of other files."""
    if path.is_dir():
        return _of_store(path) if is_zarr(path) else FileKind.FOLDER
    return _of_hdf5(path) if is_hdf5(path) else _of_bytes(path)


def _of_bytes(path: Path) -> FileKind:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    plain = _inflated(head)
    kind = next((kind for begins, kind in _BEGINS if plain.startswith(begins)), FileKind.UNKNOWN)
    if kind is FileKind.ZIP:
        return _of_zip(path)
    if kind is FileKind.UNKNOWN and (found := _of_text(path, plain)) is not None:
        return found
    if kind is FileKind.UNKNOWN and plain[_TAR_AT : _TAR_AT + len(_TAR_MARK)] == _TAR_MARK:
        return FileKind.TAR
    return kind


def _of_text(path: Path, head: bytes) -> FileKind | None:
    """Tell a matrix in text by its first lines; what begins with bytes that no text holds is none."""
    if not head or any(byte < 9 for byte in head) or (b"\n" not in head and len(head) < _HEAD):
        return None
    from cellworker.formats.foreign.text.dense import layout_of  # noqa: PLC0415 - most files are no text
    from cellworker.formats.foreign.text.entries_table import entries_layout_of  # noqa: PLC0415

    try:
        if entries_layout_of(path) is not None:
            return FileKind.ENTRIES
        return FileKind.TEXT if layout_of(path) is not None else None
    except WorkerError:
        return None


def unknown(path: Path) -> WorkerError | None:
    """Return the error for a file that begins as none of the kinds, by what its name promises; None for a file of R."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if codec_of(head).magic:  # what is wrong is its compression, which the reader of R's files tells
        return None
    promised = next((words for ending, words in _PROMISED if path.name.lower().endswith(ending)), None)
    if promised is None:
        return None
    what = f"{FileKind.UNKNOWN}: {promised}, and this does not begin as one" if head else "the file is empty"
    return WorkerError(ErrorCode.EXPERIMENT_UNREADABLE, f"{path.name}: {what}; copy or download it here again.")


def not_read(kind: FileKind, path: Path) -> WorkerError:
    """Return the error for a file of a kind that is not read: what it is, and what makes a file of it that is."""
    advice = _ADVICE[kind](path)
    return WorkerError(ErrorCode.EXPERIMENT_UNSUPPORTED, f"{path.name}: {kind}, which is not read; {advice}.")


def _inflated(head: bytes) -> bytes:
    """Return the first bytes of the content; `head` itself where it is not compressed."""
    try:
        if head.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(wbits=31).decompress(head, _HEAD)
        if head.startswith(b"BZh"):
            return bz2.BZ2Decompressor().decompress(head, _HEAD)
        if head.startswith(b"\xfd7zXZ\x00"):
            return lzma.LZMADecompressor(memlimit=256 << 20).decompress(head, _HEAD)
        if head.startswith(b"\x28\xb5\x2f\xfd"):
            return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj().decompress(head)[:_HEAD]
    except (OSError, ValueError, zlib.error, lzma.LZMAError, zstandard.ZstdError):
        return b""
    return head


# ---- HDF5 and Zarr ----


class _Members:
    """The content of a root group: the names in it, and of each member the names in it, None for an array."""

    def __init__(self, names: set[str], look: Callable[[str], set[str] | None], encoding: str = "") -> None:
        self.names, self.look, self.encoding = names, look, encoding


def _of_hdf5(path: Path) -> FileKind:
    import h5py  # noqa: PLC0415 - the files of R need none

    def names(group: Any) -> set[str]:  # noqa: ANN401 - h5py has no types
        return {raw.decode("utf-8", "replace") for raw in group}

    def look(name: str) -> set[str] | None:
        raw = name.encode()
        if file.id.links.get_info(raw).type != h5py.h5l.TYPE_HARD:  # another would open another file
            return set()
        item = h5py.h5o.open(file.id, raw)
        return names(item) if isinstance(item, h5py.h5g.GroupID) else None

    try:
        with h5py.File(path, "r", locking=False) as file:
            encoding = file.attrs.get("encoding-type", "")
            return _of_members(_Members(names(file.id), look, str(encoding)), FileKind.HDF5)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, UnicodeError):
        return FileKind.ANNDATA  # its reader says what is broken


def _of_store(path: Path) -> FileKind:
    if not is_zarr(path):
        return FileKind.UNKNOWN

    def names(folder: Path) -> set[str]:
        return {item.name for item in folder.iterdir() if item.is_dir()}

    return _of_members(
        _Members(names(path), lambda name: None if _is_array(path / name) else names(path / name)), FileKind.ZARR
    )


def _is_array(path: Path) -> bool:
    if (path / ".zarray").is_file():
        return True
    try:
        found: Any = json.loads((path / "zarr.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("node_type") == "array"


def _is_set_of_files(root: _Members) -> bool:
    """Tell what SnapATAC2 writes: names of files, and no matrix of its own, which one file made of them has."""
    return "uns" in root.names and "X" not in root.names and "AnnDataSet" in (root.look("uns") or set())


def _of_members(root: _Members, otherwise: FileKind) -> FileKind:
    names = root.names
    if {"obs", "var"} <= names and "mod" not in names:
        otherwise = FileKind.OLD_ANNDATA if None in (root.look("obs"), root.look("var")) else FileKind.ANNDATA
    elif any({"barcodes", "indptr", "shape"} <= (root.look(name) or set()) for name in sorted(names)[:_FEW]):
        otherwise = FileKind.TENX
    told = (
        ("mod" in names or root.encoding.casefold() == "mudata", FileKind.MUDATA),
        ({"matrix", "row_attrs", "col_attrs"} <= names, FileKind.LOOM),
        ("assays" in names and bool({"cell.names", "meta.data"} & names), FileKind.H5SEURAT),
        ("tables" in names and "obs" not in names, FileKind.SPATIALDATA),
        ({"HD", "BD", "FM"} <= names, FileKind.SNAP),
        ("_dataset" in names or root.encoding == "AnnDataSet" or _is_set_of_files(root), FileKind.ANNDATASET),
        ({"barcode_idx", "umi"} <= names, FileKind.MOLECULES),
    )
    return next((kind for holds, kind in told if holds), otherwise)


# ---- what to do ----


def _r(text: str) -> str:
    """Return a string as R reads it."""
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{quoted}'"


def _new(path: Path, ending: str = ".h5ad") -> str:
    """Return a name for the file that is to be made, never the name of the one that is there."""
    stem = path.name.split(".")[0] or "experiment"
    return f"{stem}{ending}" if f"{stem}{ending}" != path.name else f"{stem}-new{ending}"


def _pandas(function: str, path: Path) -> str:
    """Return what makes a table in text of another table."""
    # pandas keeps names that are a table's index apart from its columns: they are written where there are any.
    made = f"t = pandas.{function}({path.name!r}); t.to_csv({_new(path, '.csv')!r}, index=t.index.dtype.kind != 'i')"
    return f"with names of genes or cells in the index or the first column, in Python: {made}"


def _holds(path: Path) -> str:
    """Return what lies at the root of an HDF5 file, in words."""
    import h5py  # noqa: PLC0415

    try:
        with h5py.File(path, "r", locking=False) as file:
            names = sorted(raw.decode("utf-8", "replace") for raw in file.id)
    except (OSError, RuntimeError, ValueError):
        return ""
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"it holds {shown}; " if names else "it is empty; "


def _spatialdata(path: Path) -> str:
    tables = path / "tables"
    names = sorted(item.name for item in tables.iterdir() if item.is_dir()) if tables.is_dir() else []
    if tables.is_dir() and not names:
        return "it holds no table; open the table of one that does"
    shown = ", ".join(f"{path.name}/tables/{name}" for name in (names or ["table"])[:_SHOWN])
    more = ", ..." if len(names) > _SHOWN else ""
    return f"open one of its tables: {shown}{more}" if len(names) > 1 else f"open its table: {shown}"


def _names_in_zip(path: Path) -> list[str]:
    """Return the names in a zip archive; none for one that is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, struct.error):
        return []


def _of_zip(path: Path) -> FileKind:
    names = _names_in_zip(path)
    if any(name.rpartition("/")[2] in ROOTS for name in names):
        return FileKind.ZIPPED_ZARR
    return FileKind.SPREADSHEET if "[Content_Types].xml" in names else FileKind.ZIP


_HDF5_FILE: Final = "is an HDF5 file"
_PROMISED: Final[tuple[tuple[str, str], ...]] = (
    *(
        (ending, f"{name} {_HDF5_FILE}")
        for ending, name in (
            (".h5ad", "an AnnData file"), (".loom", "a loom file"), (".h5mu", "a MuData file"),
            (".h5seurat", "an h5Seurat file"), (".h5", "a matrix of 10x Genomics"), (".hdf5", "it"),
        )
    ),
    *((ending, "a matrix in text begins with %%MatrixMarket") for ending in (".mtx", ".mtx.gz")),
    *(
        (f"{ending}{packed}", "a table of numbers has a line of names, and the same number of fields in all lines")
        for ending in (".csv", ".tsv", ".txt") for packed in ("", ".gz")
    ),
    (".zarr", "a Zarr store is a folder"), (".zip", "a zip archive begins with PK"),
    *((f".{name}", f"a file of R's package {name} begins with its mark") for name in ("qs2", "qs")),
    *((ending, "an R workspace begins with RDX") for ending in (".rda", ".rdata")),
)  # fmt: skip
"""What a name promises, for the sentence about a file that is nothing of the kind: names count for nothing else."""

_ADVICE: Final[dict[FileKind, Callable[[Path], str]]] = {
    FileKind.SPATIALDATA: _spatialdata,
    FileKind.HDF5: lambda path: f"{_holds(path)}an experiment in HDF5 is an AnnData (obs, var, X), a loom file "
    "(matrix, row_attrs, col_attrs), a matrix of 10x (matrix with barcodes, indptr, shape), MuData (mod) or h5Seurat "
    "(assays)",
    FileKind.ZARR: lambda _: "open the store of an AnnData object, which holds obs and var",
    FileKind.PACKED_HDF5: lambda path: f"unpack it (gunzip, bunzip2, unxz or unzstd) and open {path.stem}",
    FileKind.TEXT_WORKSPACE: lambda path: f"in R: saveRDS(get(load({_r(path.name)})[1]), {_r(_new(path, '.rds'))})",
    FileKind.QDATA: lambda path: f"in R: saveRDS(qs2::qd_read({_r(path.name)}), {_r(_new(path, '.rds'))})",
    FileKind.TAR: lambda _: "unpack it (tar xf) and open what is in it",
    FileKind.PARQUET: lambda path: _pandas("read_parquet", path),
    FileKind.ARROW: lambda path: _pandas("read_feather", path),
    FileKind.SPREADSHEET: lambda path: _pandas("read_excel", path),
    FileKind.PICKLE: lambda path: "code may lie in it, and no code is loaded; if you trust it, and it holds an "
    f"AnnData, in Python: pandas.read_pickle({path.name!r}).write_h5ad({_new(path)!r})",
    FileKind.PICTURE: lambda _: "open the experiment that it belongs to",
    FileKind.PDF: lambda _: "open the experiment that it belongs to",
    FileKind.READS: lambda _: "count them first (Cell Ranger, STARsolo, ...), and open the matrix",
    FileKind.SNAP: lambda _: "it holds chromatin by bins; make gene activities in R with SnapATAC (createGmatFromMat), "
    "and save the object with saveRDS()",
    FileKind.ANNDATASET: lambda path: "in Python: "
    f"snapatac2.read_dataset({path.name!r}).to_adata().write_h5ad({_new(path)!r})",
    FileKind.MOLECULES: lambda _: "open the matrix of the same run (filtered_feature_bc_matrix.h5)",
    FileKind.LFS: lambda _: "fetch the file: git lfs pull",
    FileKind.WEB_PAGE: lambda _: "download the file again: a page came in its place",
}  # fmt: skip
