"""Copies an `.rds` file's object item by item, some of them replaced, all others byte for byte.

What later items refer to by number (symbols, environments, packages, pointers) is numbered in the order met. Whatever
is put in or left out shifts the numbers behind it, so the copy keeps a table of old numbers and new ones: until
something changes they agree and the bytes go through untouched; from then on the references, four bytes each, are
written again.
Vectors go through in pieces of the reader's buffer, at any length. Nothing is evaluated.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.model import RNull, RStrings, RSymbol, RValue, Skipped
from cellworker.formats.r.rds.reader import object_header
from cellworker.formats.r.rds.refusals import damaged
from cellworker.formats.r.rds.scan import HAS_ATTRIBUTES, HAS_TAG, strings_of
from cellworker.formats.r.rds.skip import Skipper
from cellworker.formats.r.rds.spool import Spool
from cellworker.formats.r.rds.stream import ByteStream
from cellworker.formats.r.rds.writer import ByteSink, ItemWriter, References

__all__ = ["Copier", "Editor", "copy_rds"]

Editor = Callable[["Copier"], None]
"""Takes exactly one item from the source, and writes exactly one."""

_WORD: Final = 4
_LIST, _PAIRLIST, _S4 = 19, 2, 25
_LEFT_OUT = 0
_KINDS = {"namespace": 249, "package": 248}

Bytes = Callable[[memoryview], object]


def copy_rds(
    source: Path,
    sink: ByteSink,
    edit: Editor,
    *,
    limits: Limits | None = None,
    on_bytes: Callable[[int, int], None] | None = None,
) -> str:
    """Copy a file's object, without compression; an editor may change it on the way.

    Parameters
    ----------
    source
        The file: plain or compressed with gzip, bzip2, xz or Zstandard.
    sink
        Where the bytes go.
    edit
        Takes the file's object and writes another one. ``Copier.copy`` changes nothing.
    limits
        Ceilings beyond which a file is refused.
    on_bytes
        Called with compressed bytes done and in all.

    Returns
    -------
    The SHA-256 of the source's bytes, in hex: tells whether it is still the file that it was taken for.

    Raises
    ------
    WorkerError
        As `read_rds`; ``EXPERIMENT_UNSUPPORTED`` when what was left out is needed elsewhere.
    """
    limits = limits or Limits()
    stream = _CopiedStream(source, limits, on_bytes, sink.write)
    try:
        _, native = object_header(stream)
        edit(Copier(stream, limits, native, sink))
        stream.flush()
        return stream.finish()
    finally:
        stream.close()


class _CopiedStream(ByteStream):
    """Passes on the bytes that were taken from it, in the order taken."""

    def __init__(self, path: Path, limits: Limits, on_bytes: Callable[[int, int], None] | None, onward: Bytes) -> None:
        self._onward: Bytes | None = onward
        self._passed = 0
        super().__init__(path, limits, on_bytes)

    def fill(self, size: int) -> None:
        """Fill the buffer; taken bytes leave it."""
        self.flush()
        super().fill(size)
        self._passed = self.pos

    def flush(self) -> None:
        """Pass on what was taken so far."""
        if self._passed < self.pos:
            if self._onward is not None:
                self._onward(memoryview(self.data)[self._passed : self.pos])
            self._passed = self.pos

    def withhold(self, size: int) -> None:
        """Pass on what was taken so far except the last bytes, which were taken in one piece."""
        self.pos -= size
        self.flush()
        self.pos += size
        self._passed = self.pos

    @contextmanager
    def turned(self, onward: Bytes | None) -> Iterator[None]:
        """Let what is taken meanwhile go elsewhere, or nowhere."""
        self.flush()
        before, self._onward = self._onward, onward
        try:
            yield
        finally:
            self.flush()
            self._onward = before


class Copier(Skipper):
    """Copies items, or leaves them out, or puts others in; made by `copy_rds` for its editor.

    Attributes
    ----------
    writer
        Writes values of our own. Call `settle` first.
    """

    def __init__(self, stream: _CopiedStream, limits: Limits, native: str, sink: ByteSink) -> None:
        # No vector is kept, so none is ever long enough to go to a file.
        super().__init__(stream, Spool(Path()), replace(limits, spool_bytes=limits.max_inflated_bytes), native)
        self._copied = stream
        self._table = References()
        self.writer = ItemWriter(sink, self._table)
        self._new_numbers: list[int] = []
        self._definitions: dict[int, bytes] = {}
        self._leaving_out = False

    # ---- what editors are made of ----

    def copy(self) -> None:
        """Copy one item with everything in it."""
        self.skip(1)

    def leave_out(self) -> None:
        """Take one item and write nothing."""
        self._leaving_out = True
        with self._copied.turned(None):
            self.skip(1)
        self._leaving_out = False

    def put(self, value: RValue) -> None:
        """Write a value."""
        self.settle()
        self.writer.item(value)

    def replace(self, value: RValue) -> None:
        """Take one item and write a value in its place."""
        self.leave_out()
        self.put(value)

    def settle(self) -> None:
        """Pass on what was taken, so that what is written comes after it."""
        self._copied.flush()

    def slots(self, editors: Mapping[str, Editor]) -> None:
        """Copy an S4 object, slots of these names through their editors."""
        flags = self.flags()
        if flags & 0xFF != _S4 or not flags & HAS_ATTRIBUTES:
            raise damaged(self.stream.offset - _WORD, f"an S4 object was expected, the type {flags & 0xFF} was found")
        self._attributes(editors)

    def elements(self, editors: Mapping[int, Editor]) -> None:
        """Copy a list, elements at these positions through their editors."""
        flags = self.flags()
        _check_list(self, flags)
        for position in range(self.length(_WORD, "a list")):
            editors.get(position, Copier.copy)(self)
        if flags & HAS_ATTRIBUTES:
            self._attributes({})

    def named_list(
        self,
        names: list[str],
        *,
        replaced: Mapping[str, RValue],
        removed: AbstractSet[str],
        added: Mapping[str, RValue],
    ) -> None:
        """Copy a list with other elements.

        Parameters
        ----------
        names
            Its elements' names, as a look at the source before found them.
        replaced
            Elements that take the place of those of the same name.
        removed
            Names of elements that are left out.
        added
            Elements that follow the last one.
        """
        with self._copied.turned(None):
            flags = self.flags()
            _check_list(self, flags)
            count = self.length(_WORD, "a list")
        if count != len(names):
            raise damaged(self.stream.offset, f"a list has {count:,} elements and {len(names):,} names")
        kept = [name for name in names if name not in removed]
        self.writer.opening(flags | HAS_ATTRIBUTES, len(kept) + len(added))
        for name in names:
            if name in removed:
                self.leave_out()
            elif name in replaced:
                self.replace(replaced[name])
            else:
                self.copy()
        for value in added.values():
            self.put(value)
        new_names = strings_of([*kept, *added])
        if flags & HAS_ATTRIBUTES:
            self._attributes({"names": lambda copier: copier.replace(new_names)}, {"names": new_names})
        else:
            self.settle()
            self.writer.attributes({"names": new_names})

    def _attributes(self, editors: Mapping[str, Editor], wanted: Mapping[str, RStrings] | None = None) -> None:
        """Copy a pairlist of attributes or slots, `wanted` ones put in where there are none of their names."""
        lacking = dict(wanted or {})
        while True:
            with self._copied.turned(None):
                flags = self.flags()
            if flags & 0xFF != _PAIRLIST:
                break
            self.writer.word(flags)
            if flags & HAS_ATTRIBUTES:
                self.copy()
            tag = self._tag() if flags & HAS_TAG else ""
            lacking.pop(tag, None)
            editors.get(tag, Copier.copy)(self)
        self.settle()
        for name, value in lacking.items():
            self.writer.tagged(name, value)
        self.writer.word(flags)
        if flags & 0xFF != 254:
            raise damaged(self.stream.offset - _WORD, f"attributes end with the type {flags & 0xFF}")

    def _tag(self) -> str:
        flags = self.flags()
        value = self.symbol() if flags & 0xFF == 1 else self.reference(flags) if flags & 0xFF == 255 else None
        if isinstance(value, RSymbol):
            return value.name
        raise damaged(self.stream.offset, "a tag was expected")

    # ---- the table of references: old numbers and new ones ----

    def symbol(self) -> RSymbol | RNull:
        """Take a symbol; see `Scanner.symbol`."""
        with self._defined(1):
            value = super().symbol()
        # The symbol that marks an empty slot has no name here, and is never written by name.
        self._enter(value.name if isinstance(value, RSymbol) else None)
        return value

    def package(self, kind: str) -> Skipped:
        """Take a package or namespace; see `Scanner.package`."""
        with self._defined(_KINDS[kind]):
            return super().package(kind)

    def entered(self, kind: str) -> Skipped:
        """Enter something that is skipped; see `Scanner.entered`."""
        self._enter(None)
        return super().entered(kind)

    def reference(self, flags: int) -> RSymbol | RNull | Skipped:
        """Take a reference and write it with its new number; see `Scanner.reference`."""
        old = flags >> 8
        if old and old <= len(self._new_numbers) and self._new_numbers[old - 1] == old:
            return self.referred(old)
        self._copied.withhold(_WORD)
        if not old:
            old = self.stream.int32()
            self._copied.withhold(_WORD)
        value = self.referred(old)
        if self._leaving_out:
            return value
        if self._new_numbers[old - 1] == _LEFT_OUT:
            self._define_again(old, value)
        else:
            self.writer.reference(self._new_numbers[old - 1])
        return value

    def _enter(self, symbol: str | None) -> None:
        self._new_numbers.append(_LEFT_OUT if self._leaving_out else self._table.enter(symbol))

    @contextmanager
    def _defined(self, kind: int) -> Iterator[None]:
        """Keep what defines a name, its flag word taken before, when it is left out: it may be referred to later."""
        if not self._leaving_out:
            yield
            return
        content = bytearray(struct.pack(">i", kind))
        number = len(self._new_numbers) + 1
        with self._copied.turned(content.extend):
            yield
        self._definitions[number] = bytes(content)

    def _define_again(self, old: int, value: RSymbol | RNull | Skipped) -> None:
        """Write in full what was defined only in a part that was left out."""
        name = value.name if isinstance(value, RSymbol) else None
        known = self._table.number_of(name) if name is not None else None
        if known is not None:
            self._new_numbers[old - 1] = known
            self.writer.reference(known)
            return
        if old not in self._definitions:
            what = value.kind if isinstance(value, Skipped) else "value"
            raise WorkerError(
                ErrorCode.EXPERIMENT_UNSUPPORTED,
                f"A part of the object that has to be replaced shares an R {what} with another part, so the annotated "
                "object cannot be written. In R, remove the stored umap and tsne (object[['umap']] <- NULL), save the "
                "object again with saveRDS(), and open that.",
            )
        self.writer.written(self._definitions[old])
        self._new_numbers[old - 1] = self._table.enter(name)


def _check_list(copier: Copier, flags: int) -> None:
    if flags & 0xFF != _LIST:
        raise damaged(copier.stream.offset - _WORD, f"a list was expected, the type {flags & 0xFF} was found")
