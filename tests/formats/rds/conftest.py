"""A small writer of R's serialisation format, so that tests can say byte by byte what a file holds."""

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from tests.formats.bytes_reader import reader_of

from cellworker.formats.r.rds.reader import RdsFile, read_rds


def words(*values: int) -> bytes:
    return struct.pack(f">{len(values)}i", *values)


class R:
    """R values as bytes. Keyword arguments are attributes."""

    NULL = words(254)
    OBJECT, ATTRIBUTES, TAG, S4_BIT = 0x100, 0x200, 0x400, 0x10 << 12
    LATIN1, UTF8, BYTES, ASCII = 4 << 12, 8 << 12, 2 << 12, 64 << 12

    @staticmethod
    def char(text: str | bytes | None, mark: int | None = None) -> bytes:
        if text is None:
            return words(9, -1)
        content = text.encode() if isinstance(text, str) else text
        mark = mark if mark is not None else (R.ASCII if content.isascii() else R.UTF8)
        return words(9 | mark, len(content)) + content

    @staticmethod
    def symbol(name: str) -> bytes:
        return words(1) + R.char(name)

    @staticmethod
    def reference(index: int) -> bytes:
        return words(255 | index << 8)

    @staticmethod
    def cells(pairs: Sequence[tuple[str, bytes]], end: bytes = NULL) -> bytes:
        return b"".join((words(2 | R.TAG) + R.symbol(tag) if tag else words(2)) + value for tag, value in pairs) + end

    @staticmethod
    def item(kind: int, payload: bytes, attributes: Mapping[str, bytes] | None = None, flags: int = 0) -> bytes:
        flags |= kind | (R.ATTRIBUTES if attributes else 0)
        return words(flags) + payload + (R.cells(list(attributes.items())) if attributes else b"")

    @staticmethod
    def logicals(values: Sequence[int], **attributes: bytes) -> bytes:
        return R.item(10, words(len(values), *values), attributes)

    @staticmethod
    def ints(values: Sequence[int], **attributes: bytes) -> bytes:
        return R.item(13, words(len(values), *values), attributes)

    @staticmethod
    def doubles(values: Sequence[float], **attributes: bytes) -> bytes:
        return R.item(14, words(len(values)) + struct.pack(f">{len(values)}d", *values), attributes)

    @staticmethod
    def complexes(values: Sequence[complex], **attributes: bytes) -> bytes:
        flat = [part for value in values for part in (value.real, value.imag)]
        return R.item(15, words(len(values)) + struct.pack(f">{len(flat)}d", *flat), attributes)

    @staticmethod
    def raw(content: bytes, **attributes: bytes) -> bytes:
        return R.item(24, words(len(content)) + content, attributes)

    @staticmethod
    def strings(values: Sequence[str | None], **attributes: bytes) -> bytes:
        return R.item(16, words(len(values)) + b"".join(map(R.char, values)), attributes)

    @staticmethod
    def items(values: Sequence[bytes], **attributes: bytes) -> bytes:
        return R.item(19, words(len(values)) + b"".join(values), attributes)

    @staticmethod
    def named(**values: bytes) -> bytes:
        return R.items(list(values.values()), names=R.strings(list(values)))

    @staticmethod
    def s4(class_name: str, package: str, **slots: bytes) -> bytes:
        declared = R.strings([class_name], package=R.strings([package]))
        return R.item(25, b"", {**slots, "class": declared}, R.OBJECT | R.S4_BIT)

    @staticmethod
    def environment(
        frame: bytes = NULL, table: bytes = NULL, enclosure: bytes = words(253), attributes: bytes = NULL
    ) -> bytes:
        return words(4, 0) + enclosure + frame + table + attributes

    @staticmethod
    def altrep(name: str, state: bytes, attributes: bytes = NULL, kind: int = 13) -> bytes:
        info = R.cells([("", R.symbol(name)), ("", R.symbol("base")), ("", R.ints([kind]))])
        return words(238) + info + state + attributes

    @staticmethod
    def file(item: bytes, version: int = 3, encoding: str = "UTF-8") -> bytes:
        head = b"X\n" + words(version, 0x040202, 0x030500 if version == 3 else 0x020300)
        if version == 3:
            head += words(len(encoding)) + encoding.encode()
        return head + item


@pytest.fixture(scope="session")
def r() -> type[R]:
    return R


Read = Callable[..., RdsFile]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads bytes as a file; long vectors go to ``tmp_path / "spool"``."""
    return reader_of(read_rds, tmp_path / "r.rds")
