"""Skips code and its parts: only their structure is read, so that references keep their numbers."""

from typing import Final

from cellworker.formats.r.rds.model import RSymbol
from cellworker.formats.r.rds.refusals import damaged, refused
from cellworker.formats.r.rds.scan import HAS_ATTRIBUTES, HAS_TAG, NUMBERS, Scanner

__all__ = ["LONE", "PAIRS", "Skipper"]

LONE: Final = frozenset({254, 253, 252, 251, 250, 242, 241})
"""Types that are one word: NULL, the environments that always exist, a missing argument."""
PAIRS: Final = {2: "pairlist", 3: "closure", 5: "promise", 6: "language", 17: "dots"}
"""Types made of attributes, tag, head and tail."""

_LANGUAGE: Final = frozenset({2, 6, 239, 240})
_BYTE_CODE, _REPEAT, _DEFINE = 21, 243, 244
_ITEMS, _CONSTANT_COUNT, _CONSTANTS, _EXPRESSIONS = range(4)

_Work = list[list[int]]


class Skipper(Scanner):
    """Adds passing over items of any type, with a stack of its own instead of recursion."""

    def skip_attributes(self) -> None:
        """Pass over the attributes of a string."""
        self.skip(1)

    def skip(self, count: int) -> None:
        """Pass over `count` items with all that they hold; nothing is evaluated or kept."""
        work: _Work = []
        _push(work, _ITEMS, count)
        self._run(work)

    def skip_opened(self, flags: int) -> None:
        """Pass over the rest of an item whose flag word was taken."""
        work: _Work = []
        self._open(work, flags)
        self._run(work)

    def _run(self, work: _Work) -> None:
        while work:
            top = work[-1]
            top[1] -= 1
            if not top[1]:
                work.pop()  # before the last part is read: the tail of a chain is no level of nesting
            if top[0] == _ITEMS:
                self._open(work, self.flags())
            elif top[0] == _CONSTANT_COUNT:
                _push(work, _CONSTANTS, self._count("byte code"))
            else:
                self._skip_part_of_code(work, constant=top[0] == _CONSTANTS)
            if len(work) > self.limits.max_depth:
                raise self.too_deep()

    def altrep_class(self) -> str:
        """Take the description that opens a compact vector, and return its class.

        Classes that map a file of the machine that reads are refused anywhere in the tree.
        """
        names = [self._altrep_symbol(), self._altrep_symbol()]
        self._altrep_cell()
        if self.flags() & 0xFF != 13 or not len(self.numbers(13)) or self.flags() & 0xFF != 254:
            raise damaged(self.stream.offset, "the description of a compact vector is malformed")
        if names[0].startswith("mmap_"):
            raise self.unknown_altrep(names[0])
        return names[0]

    def unknown_altrep(self, name: str) -> Exception:
        """Return the error for a compact vector that is not read."""
        return refused(
            f"The file holds a vector in the form {name!r}, which points outside the file or needs an R package, and "
            "is not read. In R, make it a plain vector and save the object again with saveRDS()."
        )

    def _altrep_cell(self) -> None:
        flags = self.flags()
        if flags & 0xFF != 2 or flags & (HAS_ATTRIBUTES | HAS_TAG):
            raise damaged(self.stream.offset - 4, "the description of a compact vector is malformed")

    def _altrep_symbol(self) -> str:
        self._altrep_cell()
        flags = self.flags()
        value = self.symbol() if flags & 0xFF == 1 else self.reference(flags) if flags & 0xFF == 255 else None
        if not isinstance(value, RSymbol):
            raise damaged(self.stream.offset, "the description of a compact vector is malformed")
        return value.name

    def _count(self, what: str) -> int:
        count = self.stream.int32()
        if count < 0:
            raise damaged(self.stream.offset - 4, f"{what} has the negative length {count:,}")
        self.stream.expect(4 * count, what)
        return count

    def _open(self, work: _Work, flags: int) -> None:
        kind = flags & 0xFF
        attributes = int(flags & HAS_ATTRIBUTES != 0)
        if kind in NUMBERS:
            self.skip_numbers(kind)
        elif kind in PAIRS:
            attributes += 2 + int(flags & HAS_TAG != 0)
        elif kind == 16:
            self.skip_strings(self.length(8, "a character vector"))
        elif kind in (19, 20):
            attributes += self.length(4, "a list")
        elif kind == 4:
            self.stream.int32()
            self.entered("environment")
            attributes = 4
        elif kind == 238:
            self.altrep_class()
            attributes = 2
        elif kind == _BYTE_CODE:
            _push(work, _ITEMS, attributes)
            attributes = 0
            self._open_code(work)
        else:
            attributes = self._skip_simple(kind, flags, attributes)
        _push(work, _ITEMS, attributes)

    def _skip_simple(self, kind: int, flags: int, attributes: int) -> int:
        """Pass over an item of a rarer type; return how many items of it follow."""
        if kind in LONE:
            return 0
        if kind == 255:
            self.reference(flags)
            return 0
        if kind == 1:
            self.symbol()
            return 0
        if kind in (248, 249):
            self.package("namespace" if kind == 249 else "package")
            return 0
        if kind == 9:
            self.content()
        elif kind == 22:
            self.entered("external pointer")
            attributes += 2
        elif kind == 23:
            self.entered("weak reference")
        elif kind in (7, 8):
            self.stream.skip(self._count("the name of a builtin"))
        elif kind == 247:
            raise refused(
                "The file refers to objects that only the R session which wrote it knew. "
                "Save the object again in R with saveRDS()."
            )
        elif kind != 25:
            raise damaged(self.stream.offset - 4, f"an item of the unknown type {kind} was found")
        return attributes

    def _open_code(self, work: _Work) -> None:
        self._count("byte code")  # of expressions that occur more than once; none is kept
        _push(work, _CONSTANT_COUNT, 1)
        _push(work, _ITEMS, 1)

    def _skip_part_of_code(self, work: _Work, *, constant: bool) -> None:
        """Pass over a constant of byte code, or a part of an expression among them; both open with a type."""
        stream = self.stream
        kind = stream.int32()
        if constant and kind == _BYTE_CODE:
            _push(work, _CONSTANT_COUNT, 1)
            _push(work, _ITEMS, 1)
            return
        if kind == _REPEAT:
            stream.int32()
            return
        if kind == _DEFINE:
            stream.int32()
            kind = stream.int32()
        if kind in _LANGUAGE:
            _push(work, _EXPRESSIONS, 2)
            _push(work, _ITEMS, 2 if kind in (239, 240) else 1)
        else:
            _push(work, _ITEMS, 1)


def _push(work: _Work, operation: int, count: int) -> None:
    if count:
        work.append([operation, count])
