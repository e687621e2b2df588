"""Writing R's serialisation format (`saveRDS`), streaming: arrays larger than memory go through in pieces."""

import bz2
import lzma
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.r.rds.model import RS4, Attributes, RList, RNull, RStrings, RSymbol, RValue, RVector, Skipped

__all__ = ["ByteSink", "Compression", "ItemWriter", "References", "write_rds"]

Compression = Literal["gzip", "bzip2", "xz", "none"]

_CHUNK = 1 << 18
"""Elements converted at a time: 2 MB of doubles."""
_NULL_SLOT = "\x01NULL\x01"
_MAX_SHORT_LENGTH = 2**31 - 1
_MAX_PACKED_REFERENCE = _MAX_SHORT_LENGTH >> 8

_NULL, _REFERENCE = 254, 255
_SYMBOL, _PAIRLIST, _CHARSXP, _STRINGS, _LIST, _S4 = 1, 2, 9, 16, 19, 25
_OBJECT, _HAS_ATTRIBUTES, _HAS_TAG = 0x100, 0x200, 0x400
_S4_BIT = 0x10 << 12
_ASCII, _UTF8 = 64 << 12, 8 << 12

_VECTORS: dict[str, tuple[int, str]] = {
    "logical": (10, ">i4"),
    "integer": (13, ">i4"),
    "double": (14, ">f8"),
    "complex": (15, ">c16"),
    "raw": (24, "|u1"),
}


def write_rds(
    root: RValue,
    target: Path | BinaryIO,
    *,
    compression: Compression = "gzip",
    level: int | None = None,
    version: Literal[2, 3] = 3,
) -> None:
    """Write an object as R's `saveRDS` does (big-endian "XDR" form).

    Files are byte for byte the same each time: the gzip header carries no time.

    Parameters
    ----------
    root
        The object. `RVector` arrays may be maps of files and of any number type; they are converted piece by piece, so
        that memory stays at a few megabytes. A two-dimensional array is written column after column, as R stores
        matrices.
    target
        A path (overwritten in place: write to a temporary name and rename where that matters) or an open binary file.
    compression
        "gzip" is what R writes by default; R reads all four.
    level
        gzip: 0 to 9, of which 1 to 3 are done by ISA-L where it is installed (several times faster; its 1 to 3 are its
        own scale), default 6 as in R; bzip2: 1 to 9, default 9; xz: 0 to 9, default 6.
    version
        3 is R's default since 3.6; 2 is read by R since 1.4.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNSUPPORTED`` for what the reader had to skip (code, environments): it cannot be written back.
    OSError
        If the file cannot be written.

    Notes
    -----
    The format is described in "R Internals", section 1.8, and in algorithms.md 12.2.
    """
    with _destination(target) as file, _compressed(file, compression, level) as sink:
        writer = ItemWriter(sink, References())
        writer.header(version)
        writer.item(root)


class ByteSink(Protocol):
    """A destination of bytes."""

    def write(self, data: Any, /) -> Any:  # noqa: ANN401
        """Take bytes; memory views among them are of content that does not change."""
        ...


class References:
    """Written items that later items refer to by number, counted from 1."""

    def __init__(self) -> None:
        self._count = 0
        self._symbols: dict[str, int] = {}

    def enter(self, symbol: str | None = None) -> int:
        """Enter a symbol by its name, or something else; return its number."""
        self._count += 1
        if symbol is not None:
            self._symbols.setdefault(symbol, self._count)
        return self._count

    def number_of(self, symbol: str) -> int | None:
        """Return the number of a symbol that was entered."""
        return self._symbols.get(symbol)


@contextmanager
def _destination(target: Path | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(target, Path):
        with target.open("wb") as file:
            yield file
    else:
        yield target


@contextmanager
def _compressed(file: BinaryIO, compression: Compression, level: int | None) -> Iterator[ByteSink]:
    if compression == "none":
        yield file
    elif compression == "gzip":
        deflater = _Gzip(file, 6 if level is None else level)
        yield deflater
        deflater.finish()
    elif compression == "bzip2":
        with bz2.open(file, "wb", compresslevel=9 if level is None else level) as stream:
            yield stream
    else:
        with lzma.open(file, "wb", preset=level) as stream:
            yield stream


class _Gzip:
    """A gzip stream without a file name or a time in its header."""

    def __init__(self, file: BinaryIO, level: int) -> None:
        self._file = file
        self._deflater = _deflater(level)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._file.write(self._deflater.compress(data))

    def finish(self) -> None:
        self._file.write(self._deflater.flush())


def _deflater(level: int) -> Any:  # noqa: ANN401
    if 1 <= level <= 3:
        try:
            from isal import isal_zlib  # noqa: PLC0415
        except ImportError:
            pass
        else:
            return isal_zlib.compressobj(level, wbits=31)
    return zlib.compressobj(level, wbits=31)


class ItemWriter:
    """Writes values as serialised items.

    Parameters
    ----------
    sink
        Where they go.
    references
        References written to the sink before, by other writers too.
    """

    def __init__(self, sink: ByteSink, references: References) -> None:
        self._sink = sink
        self._references = references

    def header(self, version: int) -> None:
        """Write what precedes the object of a file."""
        # The middle number is the R that wrote the file, the last the oldest R that can read it.
        if version == 2:
            self._sink.write(b"X\n" + struct.pack(">iii", 2, 0x00040202, 0x00020300))
        else:
            self._sink.write(b"X\n" + struct.pack(">iiii", 3, 0x00040202, 0x00030500, 5) + b"UTF-8")

    def item(self, value: RValue) -> None:
        """Write a value with all that it holds."""
        if isinstance(value, RVector):
            self._vector(value)
        elif isinstance(value, RStrings):
            self._start(_STRINGS, value.attributes, len(value))
            self._strings(value)
            self.attributes(value.attributes)
        elif isinstance(value, RList):
            self._start(_LIST, value.attributes, len(value))
            for element in value.items:
                self.item(element)
            self.attributes(value.attributes)
        elif isinstance(value, RS4):
            self._s4(value)
        elif isinstance(value, RSymbol):
            self.symbol(value.name)
        elif isinstance(value, RNull):
            self._int(_NULL)
        else:
            _refuse(value)

    def reference(self, number: int) -> None:
        """Refer to something that was written before."""
        if number <= _MAX_PACKED_REFERENCE:
            self._int(number << 8 | _REFERENCE)
        else:
            self._int(_REFERENCE, number)

    def word(self, value: int) -> None:
        """Write one word: the flags that open an item, or close a pairlist."""
        self._int(value)

    def written(self, content: bytes) -> None:
        """Write an item that is serialised already."""
        self._sink.write(content)

    def opening(self, flags: int, length: int) -> None:
        """Write what opens a vector: one word for the length, or three."""
        if length > _MAX_SHORT_LENGTH:
            self._sink.write(struct.pack(">iiII", flags, -1, length >> 32, length & 0xFFFFFFFF))
        else:
            self._int(flags, length)

    def _int(self, *values: int) -> None:
        self._sink.write(struct.pack(f">{len(values)}i", *values))

    def _start(self, kind: int, attributes: Attributes, length: int) -> None:
        flags = kind | (_HAS_ATTRIBUTES if attributes else 0)
        class_attribute = attributes.get("class")
        if class_attribute is not None:
            flags |= _OBJECT
            # An S4 class that extends a basic type (LogMap, for one) is known by the package of its class.
            if isinstance(class_attribute, RStrings) and "package" in class_attribute.attributes:
                flags |= _S4_BIT
        self.opening(flags, length)

    def _vector(self, value: RVector) -> None:
        kind, dtype = _VECTORS[value.kind]
        self._start(kind, value.attributes, value.values.size)
        for piece in _pieces(value.values):
            if value.kind == "integer" and piece.dtype.itemsize > 4 and np.abs(piece).max() > _MAX_SHORT_LENGTH:
                message = "R's integers have 32 bits: these values do not fit"
                raise OverflowError(message)
            self._sink.write(piece.astype(dtype).tobytes())
        self.attributes(value.attributes)

    def _strings(self, value: RStrings) -> None:
        text = np.frombuffer(value.text, np.uint8)
        for start in range(0, len(value), _CHUNK):
            offsets = value.offsets[start : start + _CHUNK + 1]
            missing = None if value.missing is None else value.missing[start : start + _CHUNK]
            self._sink.write(_encode_strings(text[offsets[0] : offsets[-1]], offsets - offsets[0], missing))

    def _s4(self, value: RS4) -> None:
        self._int(_S4 | _OBJECT | _HAS_ATTRIBUTES | _S4_BIT)
        for name, slot in value.slots.items():
            self.tagged(name, RSymbol(_NULL_SLOT) if isinstance(slot, RNull) else slot)
        package: Attributes = {"package": _one_string(value.package)} if value.package else {}
        self.tagged("class", _one_string(value.class_name, package))
        self._int(_NULL)

    def attributes(self, attributes: Attributes) -> None:
        """Write the pairlist of attributes, none where there are none."""
        if attributes:
            for name, value in attributes.items():
                self.tagged(name, value)
            self._int(_NULL)

    def tagged(self, name: str, value: RValue) -> None:
        """Write one cell of a pairlist: an attribute with its name."""
        self._int(_PAIRLIST | _HAS_TAG)
        self.symbol(name)
        self.item(value)

    def symbol(self, name: str) -> None:
        """Write a symbol, in full the first time."""
        known = self._references.number_of(name)
        if known is not None:
            self.reference(known)
            return
        self._references.enter(name)
        self._int(_SYMBOL)
        content = name.encode()
        self._int(_CHARSXP | (_ASCII if content.isascii() else _UTF8), len(content))
        self._sink.write(content)


def _pieces(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Walk over an array in R's order (first index fastest), a bounded number of elements at a time."""
    if values.ndim == 1:
        for start in range(0, len(values), _CHUNK):
            yield values[start : start + _CHUNK]
    elif values.size:
        columns = max(1, _CHUNK // values.shape[0])
        for start in range(0, values.shape[1], columns):
            yield values[:, start : start + columns].T.reshape(-1)


def _encode_strings(text: NDArray[np.uint8], offsets: NDArray[np.int64], missing: NDArray[np.bool_] | None) -> bytes:
    """Lay out strings as R does: flags, length, bytes of each; `offsets` run from 0 to the length of `text`."""
    n = len(offsets) - 1
    lengths = np.diff(offsets)
    beyond_ascii = np.concatenate(([0], np.cumsum(text >= 0x80)))
    headers = np.empty((n, 2), ">i4")
    is_ascii = beyond_ascii[offsets[1:]] == beyond_ascii[offsets[:-1]]
    headers[:, 0] = np.where(is_ascii, _CHARSXP | _ASCII, _CHARSXP | _UTF8)
    headers[:, 1] = lengths
    if missing is not None and missing.any():
        if lengths[missing].any():
            message = "a missing string must have no text"
            raise ValueError(message)
        headers[missing] = (_CHARSXP, -1)
    out = np.empty(8 * n + len(text), np.uint8)
    is_text = np.ones(len(out), np.bool_)
    positions = (offsets[:-1] + 8 * np.arange(n))[:, None] + np.arange(8)
    is_text[positions] = False
    out[positions] = headers.view(np.uint8).reshape(n, 8)
    out[is_text] = text
    return out.tobytes()


def _one_string(text: str, attributes: Attributes | None = None) -> RStrings:
    content = text.encode()
    return RStrings(content, np.array([0, len(content)], np.int64), attributes=attributes or {})


def _refuse(value: Skipped) -> None:
    message = f"the object holds {value.kind}, which was not read and so cannot be written; remove it in R first"
    raise WorkerError(ErrorCode.EXPERIMENT_UNSUPPORTED, message)
