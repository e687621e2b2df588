"""Where a file comes from, in the file: the version, what was asked, the seed, and the hash of the source.

One record says enough to ask again (``cellworker replay``). It goes where a format has a place for it: Parquet's
metadata, an attribute of an HDF5 file's or a zarr's root (and ``uns``, where a table of ours goes there), a ``tEXt``
chunk of a PNG, ``<metadata>`` of an SVG, a field of our own JSON, and else a file beside it. The source is told by its
name without folders: a path may say more about a person than a result should.
"""

import json
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape, unescape

import msgspec

from cellworker.errors import ErrorCode, WorkerError
from cellworker.version import __version__

__all__ = ["KEY", "Provenance", "decode", "encode", "read_provenance", "side_file", "stamp"]

KEY: Final = "cellworker"
"""The name of the attribute, the metadata, the chunk, the element and the field."""

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_MAX_TEXT_BYTES: Final = 64 << 20  # side files and SVG are read whole
_SVG: Final = re.compile(r'<metadata id="cellworker">(.*?)</metadata>', re.DOTALL)
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
    return path.with_name(f"{path.name}.provenance.json")


def stamp(path: Path, records: Sequence[Provenance], *, kind: str | None = None) -> None:
    """Put records into a finished file: ``.h5ad``, ``.zarr``, ``.png`` or ``.svg``; beside any other.

    Parameters
    ----------
    path
        The file, for zarr the folder.
    records
        What made it, in order.
    kind
        The suffix that counts, where the file's name has another.
    """
    text, suffix = encode(records), kind or path.suffix
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
        if begin == _PNG:
            return _in_png(path)
        if begin.startswith(b"\x89HDF"):
            return _in_hdf5(path)
        if begin.startswith(b"PAR1"):
            return _in_parquet(path)
        if path.suffix == ".svg":
            found = _SVG.search(_small(path).decode("utf-8"))
            return unescape(found[1]) if found else None
        return _in_json(path) if begin.lstrip()[:1] in (b"{", b"[") else None
    except OSError as error:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError) as error:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{path} cannot be read: {error}") from None


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
