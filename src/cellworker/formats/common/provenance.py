"""Records of provenance inside files: the version, the request, the seed, and the hash of the source.

One record suffices to repeat the step (``cellworker replay``). It goes where a format has a place for it: Parquet's
metadata, an attribute of an HDF5 file's or a zarr's root (and ``uns``, where a table of ours goes there), the comment
of an empty last member of a gzip file (``.rds``), a ``tEXt`` chunk of a PNG, ``<metadata>`` of an SVG, a comment of an
HTML page, the keywords of a PDF (which matplotlib writes), a field of our own JSON, and else a file beside it. The
source is recorded by its name without folders, since a path may reveal facts about a person.
"""

import json
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape, unescape

import msgspec

from cellworker.errors import ErrorCode, WorkerError
from cellworker.version import __version__

__all__ = [
    "INSIDE",
    "KEY",
    "Provenance",
    "decode",
    "encode",
    "html_comment",
    "read_provenance",
    "side_file",
    "stamp",
    "steps_of",
]

KEY: Final = "cellworker"
"""The name of the attribute, the metadata, the chunk, the element and the field."""

INSIDE: Final = frozenset({".h5ad", ".h5", ".zarr", ".rds", ".png", ".svg"})
"""What `stamp` puts a record into; others get a file beside them."""
_GZIP: Final = b"\x1f\x8b"
_MEMBER: Final = b"\x1f\x8b\x08\x10\x00\x00\x00\x00\x04\xff"
"""The header of a gzip member with a comment, without a time (RFC 1952)."""
_EMPTY: Final = b"\x03\x00" + bytes(8)
"""Deflated nothing, its CRC-32 and its length."""
_MAX_TAIL_BYTES: Final = 4 << 20
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_MAX_TEXT_BYTES: Final = 64 << 20  # side files and SVG are read whole
_SVG: Final = re.compile(r'<metadata id="cellworker">(.*?)</metadata>', re.DOTALL)
_HTML: Final = re.compile(r"<!-- cellworker (.*?) -->", re.DOTALL)
_PDF: Final = re.compile(rb"/Keywords \(cellworker ((?:[^()\\\\]|\\\\.)*)\)", re.DOTALL)
_ZARR: Final = (("zarr.json", "attributes"), (".zattrs", None))


class Provenance(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step that made a file.

    Attributes
    ----------
    cellworker
        The version.
    task
        A task's name on the wire, or a method of `cellworker.open`'s object.
    parameters
        The task's body, or the method's arguments, as they were given; the version tells the defaults.
    source, source_sha256
        The experiment's file name and the hash of its content.
    seed
        Where the user chose one; other seeds are fixed by the version.
    pagination
        Of a task.
    settings
        Settings that change results and differ from their defaults.
    """

    cellworker: str
    task: str
    parameters: dict[str, Any]
    source: str = ""
    source_sha256: str = ""
    seed: int | None = None
    pagination: dict[str, Any] | None = None
    settings: dict[str, Any] = {}

    @classmethod
    def of(
        cls, task: str, parameters: dict[str, Any], *, source: Path | None = None, sha256: str = "",
        pagination: dict[str, Any] | None = None, settings: dict[str, Any] | None = None,
    ) -> "Provenance":  # fmt: skip
        """Return the record of a step of this version."""
        name = "" if source is None else source.name
        seed = parameters.get("seed")
        seed = seed if isinstance(seed, int) else None
        return cls(__version__, task, parameters, name, sha256, seed, pagination, settings or {})


def encode(records: Sequence[Provenance]) -> str:
    """Return records as JSON text of ASCII alone, which every format takes."""
    return json.dumps(msgspec.to_builtins(records), sort_keys=True)


def decode(text: str | bytes) -> list[Provenance]:
    """Read what `encode` wrote.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` where it is no such text.
    """
    try:
        return msgspec.json.decode(text, type=list[Provenance])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"the record of provenance cannot be read: {error}") from None


def side_file(path: Path) -> Path:
    """Return the file beside a result of a format that has no place for a record."""
    path = path if path.name else path.resolve()  # "." has no name
    return path.parent / f"{path.name}.provenance.json"


def steps_of(records: Sequence[Provenance]) -> list[Provenance]:
    """Return the last records, which start from one source: the records before them made that source."""
    last = records[-1]
    steps: list[Provenance] = []
    for record in reversed(records):
        if (record.source, record.source_sha256) != (last.source, last.source_sha256):
            break
        steps.insert(0, record)
    return steps


def stamp(path: Path, records: Sequence[Provenance], *, kind: str | None = None) -> None:
    """Put records into a finished file, of a kind in `INSIDE`; beside any other.

    Parameters
    ----------
    path
        The file, for zarr the folder.
    records
        The steps that made it, in order.
    kind
        The suffix that counts, where the file's name has another.
    """
    suffix = kind or path.suffix
    # A copy of a file holds the records of its source: they stay before the new ones.
    earlier = _earlier(path) if suffix in (".h5ad", ".h5", ".zarr") else []
    text = encode([*(record for record in earlier if record not in records), *records])
    if suffix in (".h5ad", ".h5"):
        import h5py  # noqa: PLC0415 heavy

        with h5py.File(path, "r+") as file:
            file.attrs[KEY] = text
    elif suffix == ".zarr":
        _stamp_zarr(path, text)
    elif suffix == ".png":
        content = path.read_bytes()
        end = 8 + _chunk_length(content)
        path.write_bytes(content[:end] + _chunk(b"tEXt", f"{KEY}\0{text}".encode("ascii")) + content[end:])
    elif suffix == ".rds":
        _stamp_gzip(path, text)
    elif suffix == ".svg":
        content_text = path.read_text(encoding="utf-8")
        element = f'<metadata id="{KEY}">{escape(text)}</metadata>'
        begin = re.search(r"<svg\b[^>]*>", content_text)
        if begin is None:
            raise WorkerError(ErrorCode.INVALID_INPUT, f"{path.name} is no SVG picture")
        path.write_text(content_text[: begin.end()] + element + content_text[begin.end() :], encoding="utf-8")
    else:
        side_file(path).write_text(f"{text}\n", encoding="ascii")


def read_provenance(path: Path) -> list[Provenance]:
    """Return the records in a file or beside it.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` when there are none, with where they would be.
    """
    text = _inside(path)
    if text is None and side_file(path).is_file():
        text = _small(side_file(path))
    if text is None:
        message = f"{path} holds no record of what made it, and there is no {side_file(path).name} beside it"
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    records = decode(text)
    if not records:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{path} says that nothing made it")
    return records


def _inside(path: Path) -> str | bytes | None:
    try:
        if path.is_dir():
            return _in_zarr(path)
        with path.open("rb") as file:
            begin = file.read(8)
        for magic, look in _BY_MAGIC:
            if begin.startswith(magic):
                return look(path)
        by_name = _BY_NAME.get(path.suffix)
        return by_name(path) if by_name else None
    except OSError as error:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError) as error:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{path} cannot be read: {error}") from None


def _earlier(path: Path) -> list[Provenance]:
    try:
        text = _inside(path)
        return decode(text) if text else []
    except WorkerError:  # nothing of ours
        return []


def _small(path: Path) -> bytes:
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{path} is too large to be looked through for a record")
    return path.read_bytes()


def _in_json(path: Path) -> bytes | None:
    value = msgspec.json.decode(_small(path))
    if isinstance(value, list) and value and isinstance(value[0], dict) and "task" in value[0]:
        return msgspec.json.encode(value)  # a side file itself
    record = value.get(KEY) if isinstance(value, dict) else None
    return msgspec.json.encode(record) if isinstance(record, list) else None


def _in_svg(path: Path) -> str | None:
    found = _SVG.search(_small(path).decode("utf-8"))
    return unescape(found[1]) if found else None


def _in_html(path: Path) -> str | None:
    found = _HTML.findall(_small(path).decode("utf-8"))
    return str(found[-1]) if found else None


def _in_pdf(path: Path) -> bytes | None:
    found = _PDF.search(_small(path))
    return None if found is None else re.sub(rb"\\(.)", rb"\1", found[1])


def _in_hdf5(path: Path) -> str | None:
    import h5py  # noqa: PLC0415 heavy

    with h5py.File(path, "r") as file:
        text = file.attrs.get(KEY)
    return text if isinstance(text, str) else None


def _in_parquet(path: Path) -> bytes | None:
    from pyarrow import parquet  # noqa: PLC0415 heavy

    found: bytes | None = (parquet.read_schema(path).metadata or {}).get(KEY.encode())
    return found


def _in_zarr(path: Path) -> str | None:
    for name, field in _ZARR:
        if (path / name).is_file():
            value = msgspec.json.decode(_small(path / name))
            text = (value if field is None else value.get(field, {})).get(KEY)
            if isinstance(text, str):
                return text
    return None


def html_comment(records: Sequence[Provenance]) -> str:
    """Return records as a comment of HTML, in which two hyphens may not stand: JSON has another way to say one."""
    told = encode(records).replace("-", "\\u002d").replace(">", "\\u003e")
    return f"<!-- {KEY} {told} -->\n"


def _stamp_gzip(path: Path, text: str) -> None:
    """Append a member that holds nothing but its comment: what reads gzip reads the same content as before."""
    with path.open("r+b") as file:
        if file.read(2) != _GZIP:
            side_file(path).write_text(f"{text}\n", encoding="ascii")
            return
        file.seek(0, 2)
        file.write(_MEMBER + f"{KEY} {text}".encode("ascii") + b"\0" + _EMPTY)


def _in_gzip(path: Path) -> bytes | None:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _MAX_TAIL_BYTES))
        tail = file.read()
    _, member, rest = tail.rpartition(_MEMBER + KEY.encode() + b" ")
    text, end, empty = rest.partition(b"\0")
    return text if member and end and empty == _EMPTY else None


def _stamp_zarr(path: Path, text: str) -> None:
    name, field = next(((name, field) for name, field in _ZARR if (path / name).is_file()), _ZARR[-1])
    file = path / name
    value = msgspec.json.decode(file.read_bytes()) if file.is_file() else {}
    (value if field is None else value.setdefault(field, {}))[KEY] = text
    file.write_bytes(msgspec.json.encode(value))


def _in_png(path: Path) -> str | None:
    content, at = _small(path), 8
    while at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        name, _, text = content[at + 8 : at + 8 + length].partition(b"\0")
        if kind == b"tEXt" and name == KEY.encode():
            return text.decode("ascii")
        at += 12 + length
    return None


def _chunk_length(content: bytes) -> int:
    """Return the size of the first chunk, which has to stay the first."""
    return 12 + int(struct.unpack_from(">I", content, 8)[0])


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG: length, kind, data, CRC-32 of the last two (PNG specification, section 5.3)."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_Look = Callable[[Path], str | bytes | None]
_BY_MAGIC: Final[tuple[tuple[bytes, _Look], ...]] = (
    (_PNG, _in_png), (b"\x89HDF", _in_hdf5), (b"PAR1", _in_parquet), (_GZIP, _in_gzip), (b"%PDF-", _in_pdf),
    (b"{", _in_json), (b"[", _in_json),
)  # fmt: skip
_BY_NAME: Final[Mapping[str, _Look]] = {".svg": _in_svg, ".html": _in_html, ".json": _in_json}
