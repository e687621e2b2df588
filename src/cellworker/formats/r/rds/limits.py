"""Limits on an `.rds` file, beyond which it is refused."""

from dataclasses import dataclass
from typing import Final

from cellworker.formats.common.write_limit import WriteLimit

__all__ = ["OPENED_BEFORE", "Limits"]

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that no real experiment reaches.

    Attributes
    ----------
    max_inflated_bytes
        Bytes after decompression.
    max_ratio
        Inflated bytes per compressed byte, looked at once more than 1 GiB has been inflated. A dense matrix of
        raw counts compresses about 30 times, a file made to fill memory a thousand times and more.
    max_depth
        Levels of nesting: a list in a list, an environment in an environment. The cells of a pairlist are beside
        each other and do not count.
    max_items
        Values of any kind; the elements of a vector of numbers or strings are none.
    max_items_per_byte
        Values per byte of the compressed file, looked at beyond a million: a billion NULLs compress to nothing.
    max_sequence
        Elements that all compact sequences (``1:n`` costs a few bytes for any ``n``) may have in total.
    spool_bytes
        Vectors of this many bytes and more go to files.
    writing
        Counts what goes to files; None counts nothing, for objects that were read under limits before.
    """

    max_inflated_bytes: int = 512 * _GIB
    max_ratio: float = 250.0
    max_depth: int = 5_000
    max_items: int = 50_000_000
    max_items_per_byte: int = 2
    max_sequence: int = 1 << 28
    spool_bytes: int = 1 << 20
    writing: WriteLimit | None = None


OPENED_BEFORE: Final = Limits(max_inflated_bytes=1 << 50)
"""For files that are read again: the user's limit was checked when the experiment was opened."""
