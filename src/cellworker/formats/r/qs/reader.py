"""Reading a `.qs` file without R: bytes in, plain values out, nothing in it evaluated.

The format is that of R's package qs 0.12 to 0.27 (format versions 0 to 3): a header; the object, compressed in blocks
of 512 kB by Zstandard or LZ4, or as one Zstandard stream, or not at all; and a check value. An object is a header of
its kind and length, its content, and its attributes by name. What the package itself leaves to R (pointers, byte code,
environments that every session has, in old files S4 objects too) is inside in R's own serialisation.

Source: the package's repository qsbase/qs, files ``src/qs_common.h`` and ``src/qs_deserialize_common.h``, read for the
facts of the format.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import GeneratorType
from typing import Final

from cellworker.formats.r.qs.blocks import codec
from cellworker.formats.r.qs.header import QsHeader
from cellworker.formats.r.qs.scan import Kind, LeafReader
from cellworker.formats.r.rds.inflate import Codec
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.model import Attributes, RList, RNull, RStrings, RSymbol, RValue, RVector, Skipped
from cellworker.formats.r.rds.reader import ObjectReader, Steps, garbage_kept, object_header, run_steps, s4_of
from cellworker.formats.r.rds.refusals import damaged
from cellworker.formats.r.rds.scan import EMPTY_SLOT, strings_of
from cellworker.formats.r.rds.spool import Spool
from cellworker.formats.r.rds.stream import ByteStream

__all__ = ["QsFile", "read_qs"]

_DEFAULT_LIMITS = Limits()
_NUMBERS: Final = frozenset({Kind.LOGICAL, Kind.INTEGER, Kind.DOUBLE, Kind.COMPLEX, Kind.RAW})
_CODE: Final = {
    Kind.LANGUAGE: "language",
    Kind.CLOSURE: "closure",
    Kind.PROMISE: "promise",
    Kind.DOTS: "dots",
}
_WITHOUT_ATTRIBUTES: Final = frozenset({Kind.NULL, Kind.REFERENCE, Kind.SERIALISED})
_FLAG_BYTES = 4


@dataclass(frozen=True, slots=True)
class QsFile:
    """The content of a file.

    Attributes
    ----------
    root
        The object.
    header
        The file's header.
    sha256
        Of the file's bytes as they are on disk, in hex.
    """

    root: RValue
    header: QsHeader
    sha256: str


def read_qs(
    path: Path,
    spool: Path,
    limits: Limits = _DEFAULT_LIMITS,
    on_bytes: Callable[[int, int], None] | None = None,
    *,
    exact: bool = False,
) -> QsFile:
    """Read one file, of any preset.

    Parameters
    ----------
    path, spool, limits, on_bytes, exact
        As for `cellworker.formats.r.rds.reader.read_rds`.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_NOT_FOUND``; ``EXPERIMENT_UNREADABLE`` for a file that is truncated, damaged (it contradicts its
        check value, say), hostile or of another kind; ``DISK_FULL`` when the spool folder is full.
    """
    headers: list[QsHeader] = []

    def choose(head: bytes, size: int) -> Codec:
        headers.append(QsHeader.parse(head))
        return codec(headers[0], size)

    stream = ByteStream(path, limits, on_bytes, choose)
    try:
        with garbage_kept():
            root = _Reader(stream, headers[0], Spool(spool, limit=limits.writing), limits, exact=exact).read()
        return QsFile(root, headers[0], stream.finish())
    finally:
        stream.close()


class _Reader(LeafReader):
    """Reads one object with everything in it."""

    def __init__(self, stream: ByteStream, header: QsHeader, spool: Spool, limits: Limits, *, exact: bool) -> None:
        super().__init__(stream, header, spool, limits)
        # For objects in R's own form; all objects of the file count against its limits.
        self._objects = ObjectReader(stream, spool, limits, "utf-8", exact=exact)
        self._exact = exact
        self._environments: set[int] = set()

    def read(self) -> RValue:
        """Read the file's object."""
        return run_steps(self._next(), self._objects)

    def _next(self, *, as_floats: bool = False) -> RValue | Steps:
        """Return the next object if it has no parts, or else the steps that read it."""
        self._objects.items(1)
        kind, length = self.header()
        if kind is Kind.S4_FLAG:
            kind, length = self.header()
        if kind is not Kind.ATTRIBUTES:
            return self._bare(kind, length, as_floats=as_floats)
        attributes = length
        self._claim(attributes, "a list of attributes")
        kind, length = self.header()
        if kind in _WITHOUT_ATTRIBUTES:
            raise damaged(self.stream.offset, f"a value that has none ({kind.name.lower()}) comes with attributes")
        return self._with_attributes(self._bare(kind, length, as_floats=as_floats), attributes, kind)

    def _claim(self, parts: int, what: str) -> None:
        self.stream.expect(parts, what)
        self._objects.check_count(parts)

    def _bare(self, kind: Kind, length: int, *, as_floats: bool) -> RValue | Steps:  # noqa: PLR0911 - one per kind
        if kind in _NUMBERS:
            return self.numbers(kind, length, as_floats=as_floats)
        if kind is Kind.CHARACTER:
            self.stream.expect(length, "a character vector")
            self._objects.items(self.string_items(length))
            return self.strings(length)
        if kind is Kind.NULL:
            return RNull()
        if kind is Kind.SYMBOL:
            name = self.string()
            return RNull() if name == EMPTY_SLOT else RSymbol("NA" if name is None else name)
        if kind is Kind.LIST:
            return self._list(length)
        if kind is Kind.S4:
            return s4_of({})
        if kind in (Kind.PAIRLIST, Kind.FLAGGED_PAIRLIST):
            return self._pairlist(length, flagged=kind is Kind.FLAGGED_PAIRLIST)
        if kind in _CODE:
            return self._passed_over(_CODE[kind])
        if kind is Kind.ENVIRONMENT:
            self._environments.add(length)
            return self._passed_over("environment")
        if kind is Kind.REFERENCE and length in self._environments:
            return Skipped("environment")
        if kind is Kind.SERIALISED:
            return self._serialised(length)
        raise damaged(self.stream.offset, f"a {kind.name.lower().replace('_', ' ')} stands where none can")

    def _list(self, length: int) -> Steps:
        self._claim(length, "a list")
        items: list[RValue] = []
        for _ in range(length):
            item = self._next()
            items.append((yield item) if isinstance(item, GeneratorType) else item)  # type: ignore[arg-type]
        return RList(items)

    def _pairlist(self, length: int, *, flagged: bool) -> Steps:
        self._claim(length, "a pairlist")
        tags: list[str] = []
        items: list[RValue] = []
        for _ in range(length):
            if flagged:
                self.stream.skip(_FLAG_BYTES)
            tags.append(self.string() or "")
            item = self._next()
            items.append((yield item) if isinstance(item, GeneratorType) else item)  # type: ignore[arg-type]
        return RList(items, {"names": strings_of([*tags])} if any(tags) else {})

    def _passed_over(self, kind: str) -> Steps:
        """Read the three parts of code or of an environment, and keep none."""
        for _ in range(3):
            part = self._next()
            if isinstance(part, GeneratorType):
                yield part
        return Skipped(kind)

    def _with_attributes(self, value: RValue | Steps, count: int, kind: Kind) -> Steps:
        whole: RValue = (yield value) if isinstance(value, GeneratorType) else value  # type: ignore[assignment]
        attributes: Attributes = {}
        for _ in range(count):
            name = self.string()
            # Doubles of the slot ``x`` are the values of a sparse matrix.
            item = self._next(as_floats=kind is Kind.S4 and name == "x" and not self._exact)
            found = (yield item) if isinstance(item, GeneratorType) else item
            attributes.setdefault(name or "NA", found)  # type: ignore[arg-type]
        if kind is Kind.S4:
            return s4_of(attributes)
        if isinstance(whole, RVector | RStrings):
            whole.attributes = attributes
        elif isinstance(whole, RList):
            whole.attributes |= attributes
        return whole

    def _serialised(self, length: int) -> RValue:
        stream = self.stream
        stream.expect(length, "an object in R's own form")
        end = stream.offset + length
        stream.fill(2)
        if stream.data[stream.pos : stream.pos + 2] != b"X\n":
            raise damaged(stream.offset, "an object in R's own form does not begin as one")
        _, self._objects.native = object_header(stream)
        value = self._objects.read()
        if stream.offset != end:
            raise damaged(stream.offset, f"an object in R's own form does not take the {length:,} bytes that it claims")
        return value
