"""Finds planted secrets in whatever a worker leaves behind: logs, events, stored objects, folders, metrics, traces.

A secret is found as it is, in base64 (of any alignment, in both alphabets), in hexadecimal, percent-encoded, escaped as
in JSON, and inside gzip or zstd streams, wherever they lie and however these are nested. It is a net for planted
secrets of tests and not a search for unknown ones.
"""

import base64
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import zstandard

__all__ = ["Finding", "assert_no_secrets", "find_secrets"]

SHORTEST = 8  # a shorter text would be found by accident
DEEPEST = 5
LARGEST = 1 << 30  # bytes of one decompressed stream

_ESCAPE = re.compile(rb'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_PERCENT = re.compile(rb"%[0-9a-fA-F]{2}")
_GZIP = re.compile(rb"\x1f\x8b\x08")
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd")
# gzip's and zstd's first bytes in base64, where a run begins with them: results travel so in events.
_PACKED = re.compile(rb"(?:H4sI|KLUv[/_])[A-Za-z0-9+/_-]*={0,2}")
_SHORT_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


@dataclass(frozen=True, slots=True)
class Finding:
    """Where a secret was found: its name, the source, and through which encodings, from outside to inside."""

    secret: str
    where: str
    encoding: str

    def __str__(self) -> str:
        return f"{self.secret} in {self.where} ({self.encoding})"


def find_secrets(secrets: Mapping[str, str], sources: Mapping[str, Any]) -> list[Finding]:
    """Look for secrets in sources.

    Parameters
    ----------
    secrets
        Values to look for, by a name that may be printed. Of a value such as ``Bearer <token>``, the
        words are looked for, too.
    sources
        By a name that may be printed: texts, bytes, paths of files and folders (their names count, too), and lists,
        tuples or mappings of these. What is in memory and is none of these is looked at as its `repr`.

    Returns
    -------
    list of Finding
        Empty when there is none.
    """
    needles = list(_needles(secrets))
    if not needles:
        raise ValueError("there is nothing to look for")
    findings: dict[Finding, None] = {}
    for where, content in _contents(sources):
        for encoding, view in _views(content):
            for name, form, needle in needles:
                if needle in view:
                    findings[Finding(name, where, " > ".join(filter(None, (encoding, form))) or "plain")] = None
    return list(findings)


def assert_no_secrets(secrets: Mapping[str, str], sources: Mapping[str, Any]) -> None:
    """Fail with the name and the place of each secret found, without its value."""
    found = find_secrets(secrets, sources)
    assert not found, "secrets found:\n" + "\n".join(f"  {finding}" for finding in found)


def _needles(secrets: Mapping[str, str]) -> Iterator[tuple[str, str, bytes]]:
    for name, value in secrets.items():
        words = {value, *(word for word in value.split() if len(word) >= SHORTEST)}
        if len(value) < SHORTEST:
            complaint = f"secret {name!r} is shorter than {SHORTEST} characters"
            raise ValueError(complaint)
        for text in words:
            plain = text.encode()
            yield name, "", plain
            yield name, "hexadecimal", plain.hex().encode()
            yield name, "hexadecimal", plain.hex().upper().encode()
            for skipped in range(3):
                yield name, "base64", _aligned(plain, skipped)
                yield name, "base64", _aligned(plain, skipped).translate(bytes.maketrans(b"+/", b"-_"))


def _aligned(plain: bytes, skipped: int) -> bytes:
    """Return the letters of base64 that depend on nothing but `plain`, which begins `skipped` bytes into a triple."""
    letters = base64.b64encode(b"\0" * skipped + plain)
    first = (0, 2, 3)[skipped]
    whole = (skipped + len(plain)) * 8 // 6
    return letters[first:whole]


def _contents(source: Any, where: str = "") -> Iterator[tuple[str, bytes]]:
    if isinstance(source, Mapping):
        for name, item in source.items():
            inner = f"{where}/{name}" if where else str(name)
            if where:  # names of the outermost mapping are the tester's own
                yield f"{inner} (name)", str(name).encode()
            yield from _contents(item, inner)
    elif isinstance(source, str):
        yield where, source.encode("utf-8", "surrogatepass")
    elif isinstance(source, bytes | bytearray | memoryview):
        yield where, bytes(source)
    elif isinstance(source, Path):
        yield from _files(source, where)
    elif isinstance(source, Iterable):
        for number, item in enumerate(source):
            yield from _contents(item, f"{where}[{number}]")
    else:
        yield where, repr(source).encode("utf-8", "surrogatepass")


def _files(path: Path, where: str) -> Iterator[tuple[str, bytes]]:
    if not path.exists():
        raise FileNotFoundError(path)  # a scan of nothing must not look like a scan without findings
    for item in [path, *path.rglob("*")] if path.is_dir() else [path]:
        name = f"{where}/{item.relative_to(path)}" if item != path else where
        yield f"{name} (name)", str(item.relative_to(path)).encode()
        if item.is_file():
            yield name, item.read_bytes()


def _views(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the content, and what it becomes when it is decoded in each way that it can be, again and again."""
    seen = {content}
    level = [("", content)]
    for _ in range(DEEPEST + 1):
        yield from level
        deeper = []
        for encoding, outer in level:
            for way, view in _decoded(outer):
                if view not in seen:
                    seen.add(view)
                    deeper.append((f"{encoding} > {way}" if encoding else way, view))
        level = deeper


def _decoded(content: bytes) -> Iterator[tuple[str, bytes]]:
    if _PERCENT.search(content):
        yield "percent-encoded", unquote_to_bytes(content)
    if _ESCAPE.search(content):
        yield "escaped", _ESCAPE.sub(_unescape, content)
    for found in _GZIP.finditer(content):
        if unpacked := _gunzip(content[found.start() :]):
            yield "gzip", unpacked
    for found in _ZSTD.finditer(content):
        if unpacked := _unzstd(content[found.start() :]):
            yield "zstd", unpacked
    for found in _PACKED.finditer(content):
        letters = found[0].rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        yield "base64", base64.b64decode(letters[: len(letters) // 4 * 4] + _rest(letters))


def _rest(letters: bytes) -> bytes:
    rest = letters[len(letters) // 4 * 4 :]
    return rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""


def _unescape(found: re.Match[bytes]) -> bytes:
    if found[1]:
        return chr(int(found[1], 16)).encode("utf-8", "surrogatepass")
    return _SHORT_ESCAPES.get(found[2], found[2])


def _gunzip(packed: bytes) -> bytes:
    """Unpack all members from the beginning on; of a damaged one, what comes before the damage."""
    pieces: list[bytes] = []
    while packed.startswith(b"\x1f\x8b\x08"):
        member = zlib.decompressobj(wbits=31)
        begin = 0
        size = 1 << 12
        while begin < len(packed) and not member.eof:
            before = member.copy()
            try:
                pieces.append(member.decompress(packed[begin : begin + size]))
            except zlib.error:
                if size == 1:
                    return b"".join(pieces)
                member, size = before, 1  # zlib keeps back what it had unpacked of the piece with the damage
                continue
            begin += size
            _check_size(pieces)
        packed = member.unused_data + packed[begin:]
    return b"".join(pieces)


def _unzstd(packed: bytes) -> bytes:
    pieces = []
    reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
    try:
        while piece := reader.read(1 << 16):
            pieces.append(piece)
            _check_size(pieces)
    except zstandard.ZstdError:
        pass
    return b"".join(pieces)


def _check_size(pieces: list[bytes]) -> None:
    if len(pieces) % 256 == 0 and sum(map(len, pieces)) > LARGEST:
        complaint = f"a compressed stream holds more than {LARGEST} bytes: scan it in parts"
        raise MemoryError(complaint)
