"""Reads R's files without R: bytes in, plain values out, nothing in them evaluated.

The format is R's own serialisation, versions 2 and 3, in its big-endian form or in the byte order of the machine that
wrote it ("R Internals", section 1.8); `save` puts a line before it and serialises a pairlist of objects. Values are
read by generators that ask for their parts, driven by a loop with a stack of its own: the depth of nesting is a number
that is checked, never the depth of Python's stack.
"""

import gc
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import GeneratorType
from typing import Any

from cellworker.formats.r.rds.altrep import materialise
from cellworker.formats.r.rds.inflate import Codec
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.model import (
    RS4,
    Attributes,
    REnvironment,
    RList,
    RNull,
    RStrings,
    RSymbol,
    RValue,
    RVector,
    Skipped,
)
from cellworker.formats.r.rds.refusals import damaged, not_rds
from cellworker.formats.r.rds.scan import HAS_ATTRIBUTES, HAS_TAG, NUMBERS, Scanner, strings_of
from cellworker.formats.r.rds.skip import PAIRS, Skipper
from cellworker.formats.r.rds.spool import Spool
from cellworker.formats.r.rds.stream import ByteStream
from cellworker.formats.r.rds.text import native_codec

__all__ = [
    "WORKSPACE_LINES",
    "Limits",
    "ObjectReader",
    "RdsFile",
    "Steps",
    "garbage_kept",
    "object_header",
    "read_rds",
    "run_steps",
    "s4_of",
]

Steps = Generator[Any, Any, RValue]
"""Reads one value: yields its parts (or the steps that read them), is sent them back, and returns the value."""

_DEFAULT_LIMITS = Limits()
_ENVIRONMENT = 4
_FIELDS = ".xData"
"""The slot in which R keeps the environment of an object of a reference class."""
_VALUE_OF = ".->"
_SKIPPED = {
    **PAIRS,
    **dict.fromkeys((4, 241, 242, 250, 253), "environment"),
    9: "string",
    20: "expression",
    21: "byte code",
    22: "external pointer",
    23: "weak reference",
    249: "namespace",
    248: "package",
    251: "missing argument",
    252: "unbound value",
}
WORKSPACE_LINES = (b"RDX2\n", b"RDX3\n", b"RDB2\n", b"RDB3\n")
"""What `save` puts before its objects; those with B are in the byte order of the machine."""
_OTHER_FILES = (
    (b"RDA", "it was written by save() as text (ascii = TRUE), which is not read; save it again without that"),
    (b"\x89HDF", "it is an HDF5 file (.h5, .h5ad or .h5seurat)"),
    (b"\x0b\x0e\x0a", "it was written by the qs package (.qs)"),
    (b"B\n", "it holds native binary serialisation (serialize with xdr = FALSE)"),
    (b"A\n", "it holds text serialisation (saveRDS with ascii = TRUE), which is not read"),
)


@dataclass(frozen=True, slots=True)
class RdsFile:
    """The content of a file.

    Attributes
    ----------
    root
        The object.
    version
        Of the serialisation format: 2 or 3.
    sha256
        Of the file's bytes as they are on disk, in hex.
    is_workspace
        Whether `save` wrote the file: the root is then a list of its objects by name.
    """

    root: RValue
    version: int
    sha256: str
    is_workspace: bool = False


def read_rds(
    path: Path,
    spool: Path,
    limits: Limits = _DEFAULT_LIMITS,
    on_bytes: Callable[[int, int], None] | None = None,
    *,
    exact: bool = False,
    choose: Callable[[bytes, int], Codec] | None = None,
) -> RdsFile:
    """Read one file of `saveRDS` or of `save`.

    Parameters
    ----------
    path
        The file: plain or compressed with gzip, bzip2, xz or Zstandard.
    spool
        An existing folder for long vectors; they are maps of files in it, which the owner of the folder deletes.
    limits
        Ceilings beyond which a file is refused.
    on_bytes
        Called with compressed bytes done and in all.
    exact
        Keep the values of sparse matrices as doubles, not as float32.
    choose
        As for `ByteStream`: of a container whose content is the same.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_NOT_FOUND``; ``EXPERIMENT_UNREADABLE`` for a file that is truncated, damaged, hostile or of another
        kind; ``DISK_FULL`` when the spool folder is full.
    """
    stream = ByteStream(path, limits, on_bytes, choose)
    try:
        is_workspace = _workspace_line(stream)
        version, native = object_header(stream, any_order=True)
        with garbage_kept():
            root = ObjectReader(stream, Spool(spool, limit=limits.writing), limits, native, exact=exact).read()
        if is_workspace and not isinstance(root, RList | RNull):
            raise damaged(stream.offset, "a workspace is no list of objects")
        return RdsFile(root, version, stream.finish(), is_workspace)
    finally:
        stream.close()


@contextmanager
def garbage_kept() -> Iterator[None]:
    """Keep the collector from walking the growing tree, which has no cycles, over and over: a third of the time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _workspace_line(stream: ByteStream) -> bool:
    """Take the line that `save` puts before its objects, where there is one."""
    stream.fill(2)
    found = stream.data[stream.pos : stream.pos + 2] == WORKSPACE_LINES[0][:2]
    if found:
        stream.fill(len(WORKSPACE_LINES[0]))
        found = stream.data[stream.pos : stream.pos + len(WORKSPACE_LINES[0])] in WORKSPACE_LINES
    if found:
        stream.take(len(WORKSPACE_LINES[0]))
    return found


def object_header(stream: ByteStream, *, any_order: bool = False) -> tuple[int, str]:
    """Take what opens a serialised object; return its version and the Python codec of its unmarked strings.

    `any_order` lets through the byte order of the machine that wrote it, and sets the stream to it.
    """
    stream.fill(2)
    magic = stream.take(2)
    if magic == b"B\n" and any_order:
        stream.fill(4)
        # The version, 2 or 3, has its only byte other than 0 first or last.
        stream.order = "little" if stream.data[stream.pos] else "big"
    elif magic != b"X\n":
        start = magic + stream.data[stream.pos : stream.pos + 6]
        what = next(
            (sentence for prefix, sentence in _OTHER_FILES if start.startswith(prefix)), "it does not begin as one"
        )
        raise not_rds(what)
    version, _writer, _minimal = stream.int32(), stream.int32(), stream.int32()
    if version == 2:
        return version, "utf-8"
    if version != 3:
        what = f"its format version is {version}, where R writes 2 or 3"
        raise not_rds(what)
    size = stream.int32()
    if not 0 <= size <= 63:
        raise damaged(stream.offset - 4, "the name of its encoding is malformed")
    return version, native_codec(stream.take(size, "the header").decode("ascii", "replace"))


class ObjectReader(Skipper):
    """Reads one item with everything in it.

    Parameters
    ----------
    stream, spool, limits, native
        As for `Scanner`.
    exact
        Keep the values of sparse matrices as doubles, not as float32.
    """

    def __init__(self, stream: ByteStream, spool: Spool, limits: Limits, native: str, *, exact: bool = False) -> None:
        super().__init__(stream, spool, limits, native)
        self._exact = exact

    def read(self) -> RValue:
        """Read the next object, the stream's only one as a rule."""
        self.references.clear()
        return self.read_item()

    def read_item(self) -> RValue:
        """Read the next item of an object, with what it shares with those before it."""
        return run_steps(self._item(), self)

    def _item(self, *, as_floats: bool = False) -> RValue | Steps:
        """Return the next item if it has no parts, or else the generator that reads it."""
        return self._opened(self.flags(), as_floats=as_floats)

    def _opened(self, flags: int, *, as_floats: bool) -> RValue | Steps:  # noqa: PLR0911 - one branch per type
        kind = flags & 0xFF
        if kind in NUMBERS:
            vector = self.numbers(kind, as_floats=as_floats)
            return self._with_attributes(vector) if flags & HAS_ATTRIBUTES else vector
        if kind == 16:
            strings = self.strings(self.length(8, "a character vector"))
            return self._with_attributes(strings) if flags & HAS_ATTRIBUTES else strings
        if kind == 255:
            return self.reference(flags)
        if kind == 1:
            return self.symbol()
        if kind == 19:
            return self._list(flags)
        if kind == 2:
            return self._pairlist(flags)
        if kind == 25:
            return self._s4(flags)
        if kind == 238:
            return self._altrep(as_floats=as_floats)
        if kind == 254:
            return RNull()
        self.skip_opened(flags)
        return Skipped(_SKIPPED.get(kind, "builtin"))

    def _with_attributes(self, value: RVector | RStrings) -> Steps:
        value.attributes = yield self._attributes()
        return value

    def _list(self, flags: int) -> Steps:
        items: list[RValue] = []
        for _ in range(self.length(4, "a list")):
            item = self._item()
            items.append((yield item) if isinstance(item, GeneratorType) else item)  # type: ignore[arg-type]
        return RList(items, (yield self._attributes()) if flags & HAS_ATTRIBUTES else {})

    def _s4(self, flags: int) -> Steps:
        return s4_of((yield self._attributes(slots=True)) if flags & HAS_ATTRIBUTES else {})

    def _altrep(self, *, as_floats: bool) -> Steps:
        name = self.altrep_class()
        flags = self.flags()
        state: RValue
        if name.startswith("wrap_") and flags & 0xFF == 2:
            cells, _ = yield from self._cells(flags, lambda position, _tag: as_floats and position == 0)
            state = RList([value for _, value in cells])
        else:
            opened = self._opened(flags, as_floats=False)
            state = (yield opened) if isinstance(opened, GeneratorType) else opened  # type: ignore[assignment]
        value = materialise(self, name, state, as_floats=as_floats)
        if value is None:
            raise self.unknown_altrep(name)
        attributes: Attributes = yield self._attributes()
        if isinstance(value, RVector | RStrings | RList):
            value.attributes = attributes
        return value

    def _pairlist(self, flags: int) -> Steps:
        cells, attributes = yield from self._cells(flags, _never)
        if any(tag for tag, _ in cells):
            attributes["names"] = strings_of([tag for tag, _ in cells])
        return RList([value for _, value in cells], attributes)

    def _attributes(self, *, slots: bool = False) -> Generator[Any, Any, Attributes]:
        """Read a pairlist of attributes, or of slots: doubles of the slot ``x`` of an S4 object become float32."""
        flags = self.flags()
        if flags & 0xFF == 254:
            return {}
        if flags & 0xFF != 2:
            raise damaged(self.stream.offset - 4, f"attributes of the type {flags & 0xFF} were found")
        cells, _ = yield from self._cells(flags, _is_sparse_values if slots and not self._exact else _never)
        attributes: Attributes = {}
        for tag, value in cells:
            attributes.setdefault(tag, value)
        return attributes

    def _cells(
        self, flags: int, as_floats: Callable[[int, str], bool]
    ) -> Generator[Any, Any, tuple[list[tuple[str, RValue]], Attributes]]:
        """Read the cells of a pairlist whose first flag word was taken, and the attributes of the first cell."""
        cells: list[tuple[str, RValue]] = []
        attributes: Attributes = {}
        while flags & 0xFF == 2:
            if flags & HAS_ATTRIBUTES:
                found: Attributes = yield self._attributes()
                attributes = attributes if cells else found
            tag = ""
            if flags & HAS_TAG:
                name = yield from self._part()
                tag = name.name if isinstance(name, RSymbol) else ""
            item = self._field_holder() if tag == _FIELDS else self._item(as_floats=as_floats(len(cells), tag))
            cells.append((tag, (yield item) if isinstance(item, GeneratorType) else item))  # type: ignore[arg-type]
            flags = self.flags()
        if flags & 0xFF != 254:  # a chain may end in a value instead of NULL
            last = self._opened(flags, as_floats=False)
            cells.append(("", (yield last) if isinstance(last, GeneratorType) else last))  # type: ignore[arg-type]
        return cells, attributes

    def _field_holder(self) -> RValue | Steps:
        """Read the environment of an object of a reference class; anything else as usual."""
        flags = self.flags()
        return self._environment() if flags & 0xFF == _ENVIRONMENT else self._opened(flags, as_floats=False)

    def _environment(self) -> Steps:
        """Keep what the fields hold: a field of a declared class is a function, its value is under another name."""
        self.stream.int32()
        self.entered("environment")
        self.skip(1)
        frame = yield from self._part()
        table = yield from self._part()
        self.skip(1)
        found: Attributes = {}
        for cells in (frame, *(table.items if isinstance(table, RList) else ())):
            for name, value in cells.pairs() if isinstance(cells, RList) else ():
                if name.startswith(_VALUE_OF):
                    found[name.removeprefix(_VALUE_OF)] = value
                elif name and not name.startswith("."):  # what else begins with a dot is R's own
                    found.setdefault(name, value)
        return REnvironment("environment", found)

    def _part(self) -> Steps:
        item = self._item()
        return (yield item) if isinstance(item, GeneratorType) else item  # type: ignore[return-value]


def run_steps(value: RValue | Steps, scanner: Scanner) -> RValue:
    """Carry out the steps that read a value, with a stack of its own as deep as the scanner's limits allow."""
    stack: list[Steps] = []
    current: Any = value
    while True:
        if isinstance(current, GeneratorType):
            if len(stack) >= scanner.limits.max_depth:
                raise scanner.too_deep()
            stack.append(current)
            current = None
        elif not stack:
            return current  # type: ignore[no-any-return]
        try:
            current = stack[-1].send(current)
        except StopIteration as finished:
            stack.pop()
            current = finished.value


def s4_of(slots: Attributes) -> RS4:
    """Return the S4 object of these slots, of which ``class`` is taken out."""
    declared = slots.pop("class", None)
    if not isinstance(declared, RStrings) or not len(declared):
        return RS4("", "", slots)
    package = declared.attributes.get("package")
    return RS4(declared[0] or "", (package[0] or "") if isinstance(package, RStrings) and len(package) else "", slots)


def _never(_position: int, _tag: str) -> bool:
    return False


def _is_sparse_values(_position: int, tag: str) -> bool:
    return tag == "x"
