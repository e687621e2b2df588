"""The leaves of R's serialisation format: lengths, symbols, references, strings and vectors of numbers."""

from collections.abc import Callable
from itertools import accumulate
from typing import Any, Final

import numpy as np

from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.model import RNull, RStrings, RSymbol, RVector, Skipped
from cellworker.formats.r.rds.refusals import damaged, refused
from cellworker.formats.r.rds.spool import Spool, SpoolLayout, convert
from cellworker.formats.r.rds.stream import ByteStream
from cellworker.formats.r.rds.text import decode, is_utf8
from cellworker.native import address, kernel

__all__ = [
    "EMPTY_SLOT",
    "HAS_ATTRIBUTES",
    "HAS_TAG",
    "NA_STRING",
    "NUMBERS",
    "Scanner",
    "plain_strings",
    "strings_in_runs",
    "strings_of",
]

HAS_ATTRIBUTES: Final = 0x200
HAS_TAG: Final = 0x400
NA_STRING: Final = -1

_CHAR = 9
EMPTY_SLOT = "\x01NULL\x01"
_FEW_STRINGS = 6
_ITEMS_OF_ANY_FILE = 1_000_000
_STRING_BATCH = 1 << 20
_LONGEST_RUN = 1024

_BOTH = {
    order: {
        10: ("logical", SpoolLayout.of(f"{mark}i4", "=i4")),
        13: ("integer", SpoolLayout.of(f"{mark}i4", "=i4")),
        14: ("double", SpoolLayout.of(f"{mark}f8", "=f8")),
        15: ("complex", SpoolLayout.of(f"{mark}c16", "=c16")),
        24: ("raw", SpoolLayout.of("u1", "u1")),
    }
    for order, mark in (("big", ">"), ("little", "<"))
}
_FLOATS = {"big": SpoolLayout.of(">f8", "=f4"), "little": SpoolLayout.of("<f8", "=f4")}
NUMBERS: Final = frozenset(_BOTH["big"])
"""R's type numbers of vectors of numbers."""

_strings = kernel("cw_rds_strings")
_skip_strings = kernel("cw_rds_skip_strings")


class Scanner:
    """Reads what has no parts of its own, and keeps the table that references point into.

    Parameters
    ----------
    stream
        The file after its header.
    spool
        Where long vectors go.
    limits
        Ceilings.
    native
        Python codec of strings without a mark.
    """

    def __init__(self, stream: ByteStream, spool: Spool, limits: Limits, native: str) -> None:
        self.stream = stream
        self.spool = spool
        self.limits = limits
        self.references: list[RSymbol | RNull | Skipped] = []
        self.native = native
        self._int32 = stream.int32
        self._items_left = self._items = min(
            limits.max_items, max(_ITEMS_OF_ANY_FILE, limits.max_items_per_byte * stream.size)
        )
        self._sequence_left = limits.max_sequence

    def flags(self) -> int:
        """Take the flag word that opens every item."""
        self._items_left -= 1
        if self._items_left < 0:
            self.items(0)
        return self._int32()

    def items(self, count: int) -> None:
        """Count values that were read or skipped: both take memory."""
        self._items_left -= count
        self.check_count(0)

    def check_count(self, count: int) -> None:
        """Refuse a claim of more values than the file may have."""
        if count > self._items_left:
            sentence = f"The object has more than {self._items:,} parts, as no experiment in a file of this size has."
            raise refused(sentence)

    def length(self, item_bytes: int, what: str) -> int:
        """Take a vector's length, one or three words, and check it against the bytes that can follow."""
        stream = self.stream
        length = stream.int32()
        if length < 0:
            if length != -1:
                raise damaged(stream.offset - 4, f"{what} has the negative length {length:,}")
            high, low = stream.int32(), stream.int32()
            if not 0 <= high <= 65_536:
                raise damaged(stream.offset - 8, f"{what} has an impossible length")
            length = (high << 32) + (low & 0xFFFFFFFF)
        stream.expect(length * item_bytes, what)
        return length

    def sequence(self, count: int) -> None:
        """Count the elements of a compact sequence, which cost the file nothing, short ones too."""
        if self.limits.writing is not None:
            self.limits.writing.claim(4 * count)
        self._sequence_left -= count
        if self._sequence_left < 0:
            limit = f"{self.limits.max_sequence:,}"
            sentence = f"The file claims compact sequences of more than {limit} numbers, as no experiment has."
            raise refused(sentence)

    def too_deep(self) -> Exception:
        """Return the error for nesting beyond the limit."""
        return refused(
            f"The object in the file is nested too deeply, more than {self.limits.max_depth:,} levels, as "
            "no Seurat object is; it cannot be opened."
        )

    # ---- symbols and references ----

    def symbol(self) -> RSymbol | RNull:
        """Take a symbol's name and enter it into the table."""
        name = self.string()
        symbol = RNull() if name == EMPTY_SLOT else RSymbol(name if name is not None else "NA")
        self.references.append(symbol)
        return symbol

    def reference(self, flags: int) -> RSymbol | RNull | Skipped:
        """Return what a reference points to."""
        return self.referred(flags >> 8 or self.stream.int32())

    def referred(self, index: int) -> RSymbol | RNull | Skipped:
        """Return an entry of the table, counted from 1."""
        if not 0 < index <= len(self.references):
            raise damaged(
                self.stream.offset, f"a reference points to number {index:,} of {len(self.references):,} names"
            )
        return self.references[index - 1]

    def package(self, kind: str) -> Skipped:
        """Take the name of a package or namespace and enter it into the table."""
        if self.stream.int32() != 0:
            raise damaged(self.stream.offset, f"a {kind} has names")
        count = self.length(8, f"the name of a {kind}")
        self.skip_strings(count)
        return self.entered(kind)

    def entered(self, kind: str) -> Skipped:
        """Enter something that is skipped into the table."""
        skipped = Skipped(kind)
        self.references.append(skipped)
        return skipped

    # ---- strings ----

    def string(self) -> str | None:
        """Take one string, its flag word included; None for NA."""
        flags = self.stream.int32()
        if flags & 0xFF != _CHAR:
            raise damaged(self.stream.offset - 4, f"a string was expected, an item of type {flags & 0xFF} was found")
        content = self.content()
        if flags & HAS_ATTRIBUTES:
            self.skip_attributes()
        if content is None:
            return None
        if content.isascii():
            return content.decode("ascii")
        return decode(content, flags >> 12, self.native)

    def skip_attributes(self) -> None:
        """Pass over one item; `skip.py` puts it in, since it needs this module."""
        raise NotImplementedError

    def content(self) -> bytes | None:
        """Take the bytes of one string after its flag word; None for NA."""
        length = self.stream.int32()
        if length == NA_STRING:
            return None
        if length < 0:
            raise damaged(self.stream.offset - 4, f"a string has the negative length {length:,}")
        content = self.stream.take(length, "a string")
        if 0 in content:
            raise damaged(self.stream.offset, "a string holds a zero byte")
        return content

    def strings(self, count: int) -> RStrings:
        """Take `count` strings."""
        if count <= _FEW_STRINGS:
            return strings_of([self.string() for _ in range(count)])
        return strings_in_runs(count, self._plain_strings, self.string)

    def _plain_strings(self, count: int) -> tuple[RStrings, bool]:
        """Take up to `count` strings from the bytes at hand; say whether one follows that has to be read on its own."""
        stream = self.stream
        how = is_utf8(self.native), stream.order == "little"
        return plain_strings(stream, min(count, (len(stream.data) - stream.pos) // 8), _strings, *how)

    def skip_strings(self, count: int) -> None:
        """Pass over `count` strings."""
        stream = self.stream
        state = np.zeros(1, np.int64)
        left = count
        while left:
            available = len(stream.data) - stream.pos
            source = np.frombuffer(stream.data, np.uint8)[stream.pos :]
            done = _skip_strings(
                address(source, np.uint8), available, left, stream.order == "little",
                address(state, np.int64, writable=True),
            )  # fmt: skip
            stream.pos += int(state[0])
            left -= done
            if left:
                self.string()
                left -= 1

    # ---- numbers ----

    def numbers(self, kind: int, *, as_floats: bool = False) -> RVector:
        """Take a vector of numbers, its length included.

        Parameters
        ----------
        kind
            R's type number.
        as_floats
            Keep doubles as float32, however few there are.
        """
        name, layout = _BOTH[self.stream.order][kind]
        if as_floats and kind == 14:
            layout = _FLOATS[self.stream.order]
        width = layout.stored.itemsize
        count = self.length(width, f"a vector of type {name}")
        if count * width < self.limits.spool_bytes:
            return RVector(convert(self.stream.take(count * width), layout), name)
        return RVector(self.spool.keep(self.stream.pieces(count * width, width), count, layout), name)

    def skip_numbers(self, kind: int) -> None:
        """Pass over a vector of numbers, its length included."""
        name, layout = _BOTH[self.stream.order][kind]
        width = layout.stored.itemsize
        self.stream.skip(self.length(width, f"a vector of type {name}") * width)


def strings_of(strings: list[str | None]) -> RStrings:
    """Return a character vector of the given strings, None for NA."""
    contents = [b"" if one is None else one.encode("utf-8", "replace") for one in strings]
    offsets = np.array([0, *accumulate(map(len, contents))], np.int64)
    missing = np.array([one is None for one in strings]) if None in strings else None
    return RStrings(b"".join(contents), offsets, missing)


def plain_strings(stream: ByteStream, count: int, kernel: Any, *how: bool) -> tuple[RStrings, bool]:  # noqa: ANN401
    """Take up to `count` strings by a kernel, from the bytes at hand; see `strings_in_runs` for what is returned."""
    available, batch = len(stream.data) - stream.pos, min(count, _STRING_BATCH)
    source = np.frombuffer(stream.data, np.uint8)[stream.pos :]
    text, missing = np.empty(available, np.uint8), np.empty(batch, np.uint8)
    offsets, state = np.zeros(batch + 1, np.int64), np.zeros(2, np.int64)
    done = kernel(
        address(source, np.uint8), available, batch, *how, address(text, np.uint8, writable=True),
        address(offsets[1:], np.int64, writable=True), address(missing, np.uint8, writable=True),
        address(state, np.int64, writable=True),
    )  # fmt: skip
    stream.pos += int(state[0])
    strings = RStrings(text[: state[1]].tobytes(), offsets[: done + 1], missing[:done].view(np.bool_))
    return strings, done < batch or not batch


def strings_in_runs(
    count: int, plain: Callable[[int], tuple[RStrings, bool]], single: Callable[[], str | None]
) -> RStrings:
    """Take `count` strings: plain ones many at a time, others one by one.

    Parameters
    ----------
    count
        Number of strings that follow in the file.
    plain
        Takes up to a number of plain strings; returns them, and whether it stopped before one that is not plain.
    single
        Takes one string of any kind.
    """
    pieces: list[RStrings] = []
    left, run = count, 1
    while left:
        piece, stopped = plain(left)
        pieces.append(piece)
        left -= len(piece)
        if stopped and left:
            # A string that has to be converted is mostly followed by more of them, so these runs double.
            run = 1 if len(piece) > _LONGEST_RUN else min(2 * run, _LONGEST_RUN)
            here = min(run, left)
            pieces.append(strings_of([single() for _ in range(here)]))
            left -= here
    return _joined(pieces) if pieces else strings_of([])


def _joined(pieces: list[RStrings]) -> RStrings:
    """Return all strings of several vectors in one."""
    offsets = [np.zeros(1, np.int64)]
    end = 0
    for piece in pieces:
        offsets.append(piece.offsets[1:] + end)
        end += len(piece.text)
    missing = np.concatenate(
        [np.zeros(len(piece), np.bool_) if piece.missing is None else piece.missing for piece in pieces]
    )
    return RStrings(
        b"".join(piece.text for piece in pieces), np.concatenate(offsets), missing if missing.any() else None
    )
