"""The header of a `.qs` file: its compression, which vectors are shuffled, and whether a check value ends it."""

import struct
from dataclasses import dataclass
from enum import IntEnum

from cellworker.errors import WorkerError
from cellworker.formats.r.rds.refusals import refused

__all__ = ["MAGIC", "Algorithm", "QsHeader"]

MAGIC = b"\x0b\x0e\x0a\x0c"
_NEWEST = 3


class Algorithm(IntEnum):
    """The ways of compression that the format numbers."""

    ZSTD = 0
    LZ4 = 1
    LZ4HC = 2
    ZSTD_STREAM = 3
    UNCOMPRESSED = 4


@dataclass(frozen=True, slots=True)
class QsHeader:
    """The first bytes of a file.

    Attributes
    ----------
    size
        Bytes of the header: 20, or 12 in files of qs before 0.18.1, which have no magic number.
    version
        Of the format: 0 to 3.
    algorithm
        Way of compression; LZ4HC differs from LZ4 for writers only.
    shuffled
        Of logical, integer, double and complex vectors: whether their bytes are sorted by significance.
    hashed
        Whether the last four bytes of the file are a check value.
    parts
        Number of compressed blocks; 0 where the writer could not know it. Of the two that are no blocks: bytes.
    """

    size: int
    version: int
    algorithm: Algorithm
    shuffled: tuple[bool, bool, bool, bool]
    hashed: bool
    parts: int

    @classmethod
    def parse(cls, head: bytes) -> "QsHeader":
        """Read the header.

        Parameters
        ----------
        head
            The file's first 20 bytes, or all that there are.

        Raises
        ------
        WorkerError
            ``EXPERIMENT_UNREADABLE`` where it is none, or one that is not read.
        """
        start = 8 if head.startswith(MAGIC) else 0
        if len(head) < start + 12:
            raise _not_qs("it ends within its first bytes")
        version, hashed, form, endian = head[start : start + 4]
        if (not start and (version or hashed > 1)) or endian > 1:
            raise _not_qs(_other(head))
        if endian:
            raise _not_qs("it was written on a machine of the other byte order")
        if version > _NEWEST:
            what = f"its format version is {version}, where qs 0.27 writes {_NEWEST}"
            raise _not_qs(what)
        if form >> 4 not in set(Algorithm):
            what = f"its way of compression, number {form >> 4}, is not known"
            raise _not_qs(what)
        shuffled = (bool(form & 1), bool(form & 2), bool(form & 4), bool(form & 8))
        (parts,) = struct.unpack_from("<Q", head, start + 4)
        return cls(start + 12, version, Algorithm(form >> 4), shuffled, bool(hashed), parts)


def _other(head: bytes) -> str:
    if head.startswith(MAGIC[:3]):
        return "it was written by the qs2 package"
    if head.startswith((b"X\n", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        return "it looks like an .rds file; name it so"
    if head.startswith(b"\x89HDF"):
        return "it is an HDF5 file (.h5, .h5ad or .h5seurat)"
    return "it does not begin as one"


def _not_qs(what: str) -> WorkerError:
    return refused(
        f"The file is not a .qs file that can be read: {what}. In R, save the object with qs::qsave(object, 'r.qs') or "
        "saveRDS(object, 'r.rds')."
    )
