"""Members of a tar archive, one after another, out of a stream; nothing is made on disk here.

The forms are those of POSIX.1-1988 (ustar), its extended headers of 2001 (pax), and GNU tar's long names and sizes.
Links, devices, pipes, and names that lead out of the archive are refused anywhere in it, before anything that
follows them is looked at.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cellworker.formats.r.rds.refusals import damaged, refused
from cellworker.formats.r.rds.stream import ByteStream

__all__ = ["Member", "members"]

_BLOCK = 512
_MAX_MEMBERS = 10_000
_MAX_HEADER = 1 << 16
_FILES, _FOLDER, _PAX, _PAX_GLOBAL, _LONG_NAME = b"\0007", b"5", b"x", b"g", b"L"


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive: its name in parts, and its bytes, which the caller takes or skips."""

    parts: tuple[str, ...]
    size: int


def members(stream: ByteStream) -> Iterator[Member]:
    """Iterate over the archive's files.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE``.
    """
    extended: dict[str, str] = {}
    for _ in range(_MAX_MEMBERS):
        header = stream.take(_BLOCK, "a header")
        if not header.strip(b"\0"):
            return
        if (
            header[148:156].strip(b"\0 ")
            and _octal(header[148:156], stream) != sum(header) - sum(header[148:156]) + 256
        ):
            raise damaged(stream.offset - _BLOCK, "a header of the archive does not agree with its checksum")
        kind = header[156:157]
        size = _number(header[124:136], stream)
        if kind in (_PAX, _PAX_GLOBAL, _LONG_NAME):
            if size > _MAX_HEADER:
                raise damaged(stream.offset, f"a header of the archive claims {size:,} bytes")
            content = stream.take(size)
            stream.skip(-size % _BLOCK)
            if kind == _LONG_NAME:
                extended["path"] = _text(content)
            elif kind == _PAX:
                extended |= _records(content)
            continue
        name = extended.get("path") or _name(header)
        if "size" in extended:
            size = int(extended["size"]) if extended["size"].isdecimal() else -1
        extended = {}
        parts = _parts(name)
        if kind == _FOLDER:
            continue
        if kind not in (_FILES[:1], b"0", b"7"):
            what = {b"1": "a link", b"2": "a symbolic link", b"6": "a pipe"}.get(kind, "no ordinary file")
            sentence = f"The archive holds {what}, {_shown(name)}, and is not opened."
            raise refused(sentence)
        if size < 0:
            raise damaged(stream.offset, "a file in the archive has no size")
        stream.expect(size, f"the file {_shown(name)}")
        end = stream.offset + size
        yield Member(parts, size)
        stream.skip(end - stream.offset + -size % _BLOCK)
    sentence = f"The archive holds more than {_MAX_MEMBERS:,} files, as no matrix does, and is not opened."
    raise refused(sentence)


def _name(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _parts(name: str) -> tuple[str, ...]:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or "\\" in name or not name:
        sentence = f"The archive holds a file that would lie outside of it, {_shown(name)}, and is not opened."
        raise refused(sentence)
    return parts


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")


def _text(content: bytes) -> str:
    return content.split(b"\0", 1)[0].decode("utf-8", "replace")


def _octal(field: bytes, stream: ByteStream) -> int:
    digits = field.strip(b"\0 ")
    if digits.translate(None, b"01234567"):
        raise damaged(stream.offset - _BLOCK, "a number in a header of the archive is none")
    return int(digits or b"0", 8)


def _number(field: bytes, stream: ByteStream) -> int:
    # GNU tar's way for sizes of 8 GB and more: the highest bit, then a big-endian number.
    return int.from_bytes(field[1:], "big") if field[0] == 0x80 else _octal(field, stream)


def _records(content: bytes) -> dict[str, str]:
    """Return the records of an extended header, each its own length, a key and a value."""
    found: dict[str, str] = {}
    at = 0
    while at < len(content):
        head, space, _ = content[at : at + 12].partition(b" ")
        length = int(head) if space and head.isdigit() else 0
        if not 0 < length <= len(content) - at:
            return found
        key, _, value = content[at + len(head) + 1 : at + length].rstrip(b"\n").partition(b"=")
        found[_text(key)] = _text(value)
        at += length
    return found
