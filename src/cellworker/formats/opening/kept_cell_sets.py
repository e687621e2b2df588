"""Parses a large cell_sets.json once: the result is cached beside the store, under the hash of its content.

Parsing the ids of 500,000 cells takes most of the time of a restart. The cache holds the ids as numbers, one array for
all sets, and the names as JSON; where its checksum shows damage, the text is parsed again.
"""

import hashlib
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from cellworker.errors import WorkerError
from cellworker.experiment.cell_sets import CellClass, CellSet, CellSets
from cellworker.experiment.packed_cell_sets import LARGE_BYTES
from cellworker.formats.opening.shelf import Shelf

__all__ = ["parse_kept"]

_MAGIC: Final = b"cellworker cell sets 1\n"
_CHECKSUM: Final = struct.Struct("<I")
"""CRC-32 of all that follows."""
_HEAD: Final = struct.Struct("<32sQ")
"""SHA-256 of the text, and the bytes of the JSON; then the JSON, and the ids as int32."""


def parse_kept(shelf: Shelf, store: Path, content: bytes) -> CellSets:
    """Parse a cell_sets.json, or use the cache of an earlier parse of the same text.

    Parameters
    ----------
    store
        The experiment's store, beside which it is kept, and with which it goes.
    content
        The text; what is short is parsed each time, which is as fast.

    Raises
    ------
    WorkerError
        ``CELL_SETS_INVALID`` as `CellSets.parse`.
    """
    if len(content) < LARGE_BYTES:
        return CellSets.parse(content)
    path, mark = shelf.parsed_cell_sets_of(store), hashlib.sha256(content).digest()
    kept = _read(path, mark)
    if kept is not None:
        return kept
    parsed = CellSets.parse(content)
    # It is a copy: where the disk has no space for it, the text is parsed again the next time.
    with suppress(WorkerError, TypeError):
        shelf.write(path, _packed(parsed, mark))
    return parsed


def _packed(cell_sets: CellSets, mark: bytes) -> bytes:
    classes = [
        [
            item.key, item.name, item.type, item.root_node, item.extra,
            [[one.key, one.name, one.color, one.type, one.extra, len(one.cell_ids)] for one in item.children],
        ]
        for item in cell_sets.classes
    ]  # fmt: skip
    names = orjson.dumps([classes, cell_sets.extra])
    ids = [np.ascontiguousarray(child.cell_ids, "<i4").tobytes() for _, child in cell_sets.sets()]
    rest = b"".join([_HEAD.pack(mark, len(names)), names, *ids])
    return _MAGIC + _CHECKSUM.pack(zlib.crc32(rest)) + rest


def _read(path: Path, mark: bytes) -> CellSets | None:
    """Return the cached result of a text with that hash; None where it is of another text, damaged, or missing."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    start = len(_MAGIC) + _CHECKSUM.size
    if not content.startswith(_MAGIC) or len(content) < start + _HEAD.size:
        return None
    (checksum,) = _CHECKSUM.unpack_from(content, len(_MAGIC))
    rest = memoryview(content)[start:]
    found, size = _HEAD.unpack_from(rest)
    if found != mark or zlib.crc32(rest) != checksum:
        return None
    body = rest[_HEAD.size :]
    classes, extra = orjson.loads(body[:size])
    # One copy, so that the ids lie at a multiple of their size.
    return _unpacked(classes, extra, np.frombuffer(bytes(body[size:]), "<i4"))


def _unpacked(classes: list[Any], extra: dict[str, Any], ids: NDArray[np.int32]) -> CellSets:
    out, start = [], 0
    for key, name, kind, root_node, class_extra, children in classes:
        sets = []
        for child_key, child_name, color, child_kind, child_extra, size in children:
            cells = ids[start : start + size]
            sets.append(CellSet(child_key, child_name, color, cells, child_kind, child_extra))
            start += size
        out.append(CellClass(key, name, kind, sets, root_node, class_extra))
    return CellSets(out, extra)
