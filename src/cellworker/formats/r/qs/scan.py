"""The leaves of the format: headers of objects, strings, and vectors of numbers."""

from collections.abc import Iterator
from enum import IntEnum, auto
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellworker.formats.r.qs.header import QsHeader
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.model import RStrings, RVector
from cellworker.formats.r.rds.refusals import damaged
from cellworker.formats.r.rds.scan import plain_strings, strings_in_runs
from cellworker.formats.r.rds.spool import Spool
from cellworker.formats.r.rds.stream import ByteStream
from cellworker.formats.r.rds.text import BYTES, LATIN1, UTF8, decode
from cellworker.native import address, kernel

__all__ = ["Kind", "LeafReader"]


class Kind(IntEnum):
    """The kind of an object, from its header."""

    NULL = 0
    LIST = auto()
    DOUBLE = auto()
    INTEGER = auto()
    LOGICAL = auto()
    CHARACTER = auto()
    COMPLEX = auto()
    RAW = auto()
    SYMBOL = auto()
    ATTRIBUTES = auto()
    SERIALISED = auto()
    S4_FLAG = auto()
    S4 = auto()
    PAIRLIST = auto()
    LANGUAGE = auto()
    CLOSURE = auto()
    PROMISE = auto()
    DOTS = auto()
    ENVIRONMENT = auto()
    REFERENCE = auto()
    FLAGGED_PAIRLIST = auto()


# The kind, and the bytes that its length takes.
_HEADERS: Final = {
    0x00: (Kind.NULL, 0), 0x1D: (Kind.SYMBOL, 0),
    0x01: (Kind.LIST, 1), 0x02: (Kind.LIST, 2), 0x03: (Kind.LIST, 4), 0x04: (Kind.LIST, 8),
    0x05: (Kind.DOUBLE, 1), 0x06: (Kind.DOUBLE, 2), 0x07: (Kind.DOUBLE, 4), 0x08: (Kind.DOUBLE, 8),
    0x09: (Kind.INTEGER, 1), 0x0A: (Kind.INTEGER, 2), 0x0B: (Kind.INTEGER, 4), 0x0C: (Kind.INTEGER, 8),
    0x0D: (Kind.LOGICAL, 1), 0x0E: (Kind.LOGICAL, 2), 0x0F: (Kind.LOGICAL, 4), 0x10: (Kind.LOGICAL, 8),
    0x11: (Kind.CHARACTER, 1), 0x12: (Kind.CHARACTER, 2), 0x13: (Kind.CHARACTER, 4), 0x14: (Kind.CHARACTER, 8),
    0x15: (Kind.COMPLEX, 4), 0x16: (Kind.COMPLEX, 8), 0x17: (Kind.RAW, 4), 0x18: (Kind.RAW, 8),
    0x19: (Kind.SERIALISED, 4), 0x1A: (Kind.SERIALISED, 8), 0x1E: (Kind.ATTRIBUTES, 1), 0x1F: (Kind.ATTRIBUTES, 4),
}  # fmt: skip
_SHORT_HEADERS: Final = {
    0x20: Kind.LIST, 0x40: Kind.DOUBLE, 0x60: Kind.INTEGER, 0x80: Kind.LOGICAL, 0xA0: Kind.CHARACTER,
    0xE0: Kind.ATTRIBUTES,
}  # fmt: skip
_EXTENSION: Final = 0x1C
# In 0x11 to 0x15 the four bytes hold flags of R's own, except for a pairlist, whose flags come with each cell.
_EXTENDED: Final = {
    0x01: (Kind.S4, 0), 0x02: (Kind.S4_FLAG, 0), 0x03: (Kind.PAIRLIST, 4), 0x04: (Kind.LANGUAGE, 0),
    0x05: (Kind.CLOSURE, 0), 0x06: (Kind.PROMISE, 0), 0x07: (Kind.DOTS, 0), 0x08: (Kind.ENVIRONMENT, 4),
    0x09: (Kind.ENVIRONMENT, 4), 0x10: (Kind.REFERENCE, 4), 0x11: (Kind.FLAGGED_PAIRLIST, 4), 0x12: (Kind.LANGUAGE, 4),
    0x13: (Kind.CLOSURE, 4), 0x14: (Kind.PROMISE, 4), 0x15: (Kind.DOTS, 4),
}  # fmt: skip


class _Numbers(NamedTuple):
    """A type of vector: its name, its dtype, the bytes of what is shuffled, and its place in `Header.shuffled`."""

    name: str
    dtype: str
    word: int
    place: int | None


_NUMBERS: Final = {
    Kind.LOGICAL: _Numbers("logical", "i4", 4, 0),
    Kind.INTEGER: _Numbers("integer", "i4", 4, 1),
    Kind.DOUBLE: _Numbers("double", "f8", 8, 2),
    Kind.COMPLEX: _Numbers("complex", "c16", 8, 3),
    Kind.RAW: _Numbers("raw", "u1", 1, None),
}
_PLANES_IN_MEMORY = 64 << 20
_BLOCK = 1 << 17
_STRINGS_PER_ITEM = 8
_MISSING, _SHORT = 15, 0x20
_LEVELS = {0x00: 0, 0x40: UTF8, 0x80: LATIN1, 0xC0: BYTES}

_strings = kernel("cw_qs_strings")
_unshuffle = {name: kernel(f"cw_qs_unshuffle{name}") for name in ("32", "64", "_to_floats")}


class LeafReader:
    """Reads what has no parts of its own.

    Parameters
    ----------
    stream
        The file after its header, decompressed.
    header
        Says which vectors are shuffled.
    spool, limits
        As for `.rds` files.
    """

    def __init__(self, stream: ByteStream, header: QsHeader, spool: Spool, limits: Limits) -> None:
        self.stream = stream
        self._shuffled = header.shuffled
        self._spool = spool
        self._limits = limits

    # ---- headers ----

    def header(self) -> tuple[Kind, int]:
        """Take the header of an object: its kind and its length (or number)."""
        first = self._unsigned(1)
        if first >= _SHORT:
            kind = _SHORT_HEADERS.get(first & 0xE0)
            if kind is None:
                raise self._unknown(first)
            return kind, first & 0x1F
        found = _HEADERS.get(first)
        if first == _EXTENSION:
            first = self._unsigned(1)
            found = _EXTENDED.get(first)
        if found is None:
            raise self._unknown(first)
        return found[0], self._unsigned(found[1])

    def _unknown(self, first: int) -> Exception:
        return damaged(self.stream.offset - 1, f"an object of the unknown type {first} was found")

    def _unsigned(self, width: int) -> int:
        stream = self.stream
        if len(stream.data) - stream.pos < width:
            stream.fill(width)
        value = int.from_bytes(stream.data[stream.pos : stream.pos + width], "little")
        stream.pos += width
        return value

    # ---- strings ----

    def string(self) -> str | None:
        """Take one string; None for NA."""
        head = self._unsigned(1)
        form = head & 0x1F
        if head & _SHORT:
            length = form
        elif form == _MISSING:
            return None
        elif form in (1, 2, 3):
            length = self._unsigned(1 << (form - 1))
        else:
            raise damaged(self.stream.offset - 1, f"a string of the unknown form {form} was found")
        content = self.stream.take(length, "a string")
        if 0 in content:
            raise damaged(self.stream.offset, "a string holds a zero byte")
        return content.decode("ascii") if content.isascii() else decode(content, _LEVELS[head & 0xC0], "utf-8")

    def strings(self, count: int) -> RStrings:
        """Take `count` strings."""
        return strings_in_runs(count, self._plain_strings, self.string)

    def _plain_strings(self, count: int) -> tuple[RStrings, bool]:
        stream = self.stream
        return plain_strings(stream, min(count, len(stream.data) - stream.pos), _strings)

    @staticmethod
    def string_items(count: int) -> int:
        """Return what `count` strings count against the limit of items: one of them may be a single byte."""
        return count // _STRINGS_PER_ITEM

    # ---- numbers ----

    def numbers(self, kind: Kind, count: int, *, as_floats: bool = False) -> RVector:
        """Take a vector of `count` numbers; doubles as float32 where asked."""
        name, stored_as, word, place = _NUMBERS[kind]
        stored = np.dtype(stored_as).newbyteorder("<")
        kept = np.dtype(np.float32) if as_floats and kind is Kind.DOUBLE else np.dtype(stored_as)
        size = count * stored.itemsize
        self.stream.expect(size, f"a vector of type {name}")
        small = size < self._limits.spool_bytes
        if place is None or not self._shuffled[place] or not count:
            if small:
                return RVector(_converted(self.stream.take(size), stored, kept), name)
            pieces = (_converted(piece, stored, kept) for piece in self.stream.pieces(size, stored.itemsize))
            return RVector(self._spool.keep_arrays(pieces, count, kept), name)
        planes = self._planes(size)
        words, kept_word = size // word, np.dtype(np.float64) if kind is Kind.COMPLEX else kept
        blocks = _put_together(planes, words, word, kept_word)
        if small:
            return RVector(np.concatenate(list(blocks)).view(kept), name)
        vector = RVector(self._spool.keep_arrays((block.view(kept) for block in blocks), count, kept), name)
        if isinstance(planes, np.memmap):
            Path(str(planes.filename)).unlink()  # frees half of the disk space
        return vector

    def _planes(self, size: int) -> NDArray[np.uint8]:
        if size <= _PLANES_IN_MEMORY:
            return np.frombuffer(self.stream.take(size), np.uint8)
        pieces = (np.frombuffer(piece, np.uint8) for piece in self.stream.pieces(size, 1))
        return self._spool.keep_arrays(pieces, size, np.dtype(np.uint8))


def _converted(content: bytes | memoryview, stored: np.dtype[Any], kept: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):  # a double beyond float32 becomes infinite, as it would anywhere
        return np.frombuffer(content, stored).astype(kept, copy=False)


def _put_together(planes: NDArray[np.uint8], n: int, width: int, kept: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    name = "32" if width == 4 else "64" if kept.itemsize == 8 else "_to_floats"
    for start in range(0, n, _BLOCK):
        count = min(_BLOCK, n - start)
        out = np.empty(count, kept)
        _unshuffle[name](address(planes, np.uint8), n, start, count, address(out, kept, writable=True))
        yield out
