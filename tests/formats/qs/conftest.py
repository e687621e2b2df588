"""A small writer of the qs format, so that tests can say byte by byte what a file holds."""

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import zstandard
from tests.formats.bytes_reader import reader_of

from cellworker.formats.r.qs.reader import QsFile, read_qs
from cellworker.formats.r.rds.model import RS4, RList, RNull, RStrings, RSymbol, RValue, RVector

BLOCK = 1 << 19
PRIMES = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1
WORD = 0xFFFFFFFF


def rotate(value: int, by: int) -> int:
    value &= WORD
    return (value << by | value >> (32 - by)) & WORD


def xxh32(content: bytes, seed: int = 12_345) -> int:
    """The check value, plainly (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md)."""
    p1, p2, p3, p4, p5 = PRIMES
    lanes = [seed + p1 + p2, seed + p2, seed, seed - p1]
    whole = len(content) // 16 * 16
    for words in struct.iter_unpack("<4I", content[:whole]):
        lanes = [rotate(lane + word * p2, 13) * p1 & WORD for lane, word in zip(lanes, words, strict=True)]
    value = seed + p5
    if whole:
        value = sum(rotate(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True))
    value += len(content)
    rest = content[whole:]
    for (word,) in struct.iter_unpack("<I", rest[: len(rest) // 4 * 4]):
        value = rotate(value + word * p3, 17) * p4
    for byte in rest[len(rest) // 4 * 4 :]:
        value = rotate(value + byte * p5, 11) * p1
    value &= WORD
    value = (value ^ value >> 15) * p2 & WORD
    value = (value ^ value >> 13) * p3 & WORD
    return value ^ value >> 16


def lz4(content: bytes) -> bytes:
    """An LZ4 block: greedy matches of four bytes and more, the last five bytes literal."""

    def length(n: int) -> bytes:
        return b"" if n < 15 else b"\xff" * ((n - 15) // 255) + bytes([(n - 15) % 255])

    out, seen, start, at = bytearray(), {}, 0, 0
    while at < len(content) - 12:
        key = content[at : at + 4]
        found = seen.get(key, -1)
        seen[key] = at
        if found < 0 or at - found > 65_535:
            at += 1
            continue
        match = 4
        while at + match < len(content) - 5 and content[found + match] == content[at + match]:
            match += 1
        literals = content[start:at]
        out.append(min(len(literals), 15) << 4 | min(match - 4, 15))
        out += length(len(literals)) + literals + struct.pack("<H", at - found) + length(match - 4)
        at += match
        start = at
    literals = content[start:]
    return bytes(out) + bytes([min(len(literals), 15) << 4]) + length(len(literals)) + literals


class Q:
    """R values as bytes. `shuffle`: which are shuffled of logical, integer, double and complex (bits 1, 2, 4, 8)."""

    ALGORITHMS: ClassVar = {"zstd": 0, "lz4": 1, "lz4hc": 2, "zstd_stream": 3, "uncompressed": 4}
    PRESETS: ClassVar = {
        "fast": ("lz4", 0),
        "balanced": ("lz4", 15),
        "high": ("zstd", 15),
        "archive": ("zstd_stream", 15),
        "uncompressed": ("uncompressed", 0),
    }
    KINDS: ClassVar = {
        "logical": (0x80, (0x0D, 0x0E, 0x0F, 0x10), "<i4", 4, 1),
        "integer": (0x60, (0x09, 0x0A, 0x0B, 0x0C), "<i4", 4, 2),
        "double": (0x40, (0x05, 0x06, 0x07, 0x08), "<f8", 8, 4),
        "complex": (None, (None, None, 0x15, 0x16), "<c16", 8, 8),
        "raw": (None, (None, None, 0x17, 0x18), "u1", 1, 0),
    }
    CHARACTER = (0xA0, (0x11, 0x12, 0x13, 0x14))
    LIST = (0x20, (0x01, 0x02, 0x03, 0x04))
    ATTRIBUTES = (0xE0, (0x1E, None, 0x1F, None))
    NULL, S4_FLAG, S4 = b"\0", b"\x1c\x02", b"\x1c\x01"
    NATIVE, UTF8, LATIN1, BYTES = 0x00, 0x40, 0x80, 0xC0

    def __init__(self, shuffle: int = 15, width: int | None = None) -> None:
        self.shuffle = shuffle
        self.width = width

    def header(self, codes: tuple, length: int) -> bytes:
        """The shortest header that holds the length, or that of `width` bytes."""
        short, wide = codes
        if short is not None and length < 32 and self.width is None:
            return bytes([short | length])
        for code, size, form in zip(wide, (1, 2, 4, 8), "BHIQ", strict=True):
            if code is not None and length < 1 << 8 * size and size >= (self.width or 1):
                return struct.pack(f"<B{form}", code, length)
        raise AssertionError(length)

    @staticmethod
    def string(text: str | bytes | None, mark: int | None = None) -> bytes:
        if text is None:
            return b"\x0f"
        content = text.encode() if isinstance(text, str) else text
        mark = mark if mark is not None else (Q.NATIVE if content.isascii() else Q.UTF8)
        n = len(content)
        head = (
            bytes([mark | 0x20 | n]) if n < 32
            else struct.pack("<BB", mark | 1, n) if n < 256
            else struct.pack("<BH", mark | 2, n) if n < 65_536
            else struct.pack("<BI", mark | 3, n)
        )  # fmt: skip
        return head + content

    def with_attributes(self, item: bytes, attributes: Mapping[str, bytes] | None, *, s4: bool = False) -> bytes:
        head = self.S4_FLAG if s4 else b""
        if not attributes:
            return head + item
        tail = b"".join(self.string(name) + value for name, value in attributes.items())
        return head + self.header(self.ATTRIBUTES, len(attributes)) + item + tail

    def numbers(self, kind: str, values: object) -> bytes:
        short, wide, dtype, word, bit = self.KINDS[kind]
        content = np.asarray(values).astype(dtype)
        stored = content.tobytes()
        if self.shuffle & bit:
            stored = np.frombuffer(stored, np.uint8).reshape(-1, word).T.tobytes()
        return self.header((short, wide), len(content)) + stored

    def strings(self, values: Sequence[str | bytes | None], mark: int | None = None) -> bytes:
        return self.header(self.CHARACTER, len(values)) + b"".join(self.string(value, mark) for value in values)

    def items(self, values: Sequence[bytes]) -> bytes:
        return self.header(self.LIST, len(values)) + b"".join(values)

    def pairlist(self, pairs: Sequence[tuple[str | None, bytes]], *, flags: bool = False) -> bytes:
        out = struct.pack("<BBI", 0x1C, 0x11 if flags else 0x03, len(pairs))
        for tag, value in pairs:
            out += (struct.pack("<i", 1 << 16) if flags else b"") + self.string(tag) + value
        return out

    def symbol(self, name: str) -> bytes:
        return b"\x1d" + self.string(name)

    def serialised(self, content: bytes) -> bytes:
        return struct.pack("<BI", 0x19, len(content)) + content

    def value(self, value: RValue) -> bytes:
        """Any tree without skipped parts, as the package writes it."""
        if isinstance(value, RNull):
            return self.NULL
        if isinstance(value, RSymbol):
            return self.symbol(value.name)
        if isinstance(value, RVector):
            flat = value.values.ravel(order="F")
            return self.with_attributes(self.numbers(value.kind, flat), self._all(value.attributes))
        if isinstance(value, RStrings):
            return self.with_attributes(self.strings(value.tolist()), self._all(value.attributes))
        if isinstance(value, RList):
            return self.with_attributes(self.items([*map(self.value, value.items)]), self._all(value.attributes))
        assert isinstance(value, RS4)
        declared = self.with_attributes(
            self.strings([value.class_name]), {"package": self.strings([value.package])} if value.package else None
        )
        slots = {
            name: self.symbol("\x01NULL\x01") if isinstance(slot, RNull) else self.value(slot)
            for name, slot in value.slots.items()
        }
        return self.with_attributes(self.S4, {**slots, "class": declared}, s4=True)

    def _all(self, attributes: Mapping[str, RValue]) -> dict[str, bytes]:
        return {name: self.value(item) for name, item in attributes.items()}

    def file(
        self, item: bytes, algorithm: str = "zstd", *, hashed: bool = True, counted: bool = True, block: int = BLOCK
    ) -> bytes:
        """A whole file."""
        form = self.ALGORITHMS[algorithm] << 4 | self.shuffle
        head = b"\x0b\x0e\x0a\x0c\0\0\0\0" + bytes([3, hashed, form, 0])
        tail = struct.pack("<I", xxh32(item)) if hashed else b""
        if algorithm == "uncompressed":
            return head + struct.pack("<Q", len(item) * counted) + item + tail
        if algorithm == "zstd_stream":
            stream = zstandard.ZstdCompressor(3).compressobj()
            return head + struct.pack("<Q", len(item) * counted) + stream.compress(item) + stream.flush() + tail
        pack = lz4 if algorithm.startswith("lz4") else zstandard.ZstdCompressor(3).compress
        blocks = [pack(item[start : start + block]) for start in range(0, len(item), block)]
        body = b"".join(struct.pack("<I", len(one)) + one for one in blocks)
        return head + struct.pack("<Q", len(blocks) * counted) + body + tail


@pytest.fixture(scope="session")
def q() -> type[Q]:
    return Q


Read = Callable[..., QsFile]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads bytes as a file; long vectors go to ``tmp_path / "spool"``."""
    return reader_of(read_qs, tmp_path / "r.qs")


def plain(value: RValue) -> object:
    """A value as tuples that can be compared, to the bit."""
    if isinstance(value, RVector):
        return (value.kind, str(value.values.dtype), value.values.tobytes(), _plain_all(value.attributes))
    if isinstance(value, RStrings):
        return ("strings", value.tolist(), _plain_all(value.attributes))
    if isinstance(value, RList):
        return ("list", [plain(item) for item in value.items], _plain_all(value.attributes))
    if isinstance(value, RS4):
        return (value.class_name, value.package, _plain_all(value.slots))
    return value


def _plain_all(attributes: Mapping[str, RValue]) -> list[tuple[str, object]]:
    return [(name, plain(item)) for name, item in attributes.items()]


@pytest.fixture(scope="session")
def as_plain() -> Callable[[RValue], object]:
    return plain
