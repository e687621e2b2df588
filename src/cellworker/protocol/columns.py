r"""Typed columns: values by cell and tables, as bytes that a browser reads without parsing text.

Clients of our own door choose them with ``Accept: application/vnd.cellworker.columns``; everybody else gets the same
columns as JSON. ``web/src/wire/columns.ts`` reads them; both are tested with the same files. The package has no reader,
since Python code opens the experiment; ``tests/column_reader.py`` is one.

All numbers are little-endian. The parts follow each other, each at a multiple of 8 bytes:

====================  ==========================================================================================
``CWCOLS1\n``          eight bytes that name the format
uint32, uint32        length of the header in bytes, and 0
header                JSON in UTF-8, padded with spaces: ``{"facts": {...}, "columns": [...]}``
buffers               at the offsets that the columns name, from the end of the header
====================  ==========================================================================================

Each column has ``name``, ``kind``, ``length``, and:

===========  =======================================================================================================
number       ``type`` (f4 or f8), ``at``; NaN where a value is missing
integer      ``type`` (i1, u1, i2, u2, i4, u4, or f8 where none holds them), ``at``, ``missing`` where any are
logical      ``type`` u1 (0 or 1), ``at``, ``missing`` where any are
category     ``type`` (i1, i2 or i4), ``at``: positions in ``labels``, -1 where missing
text         ``at``: all texts end to end in UTF-8, ``bytes`` bytes; ``offsets``: uint32 ``length + 1``, the start of
             each and the end of the last; ``missing`` where any are
sparse       ``count`` values that are not 0: ``rows`` (int32) and ``at`` (float32), in any order
===========  =======================================================================================================

``missing`` is the offset of a bitmap: bit ``i % 8`` (from the least significant) of byte ``i // 8`` is 1 where value
``i`` is missing. ``labels`` are in the header.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from cellworker.analysis.text.number_text import floats_json, ints_json

__all__ = [
    "MEDIA_TYPE",
    "ColumnTable",
    "Labels",
    "Logicals",
    "Numbers",
    "Sparse",
    "Texts",
    "TypedColumn",
    "accepts_columns",
    "encode_columns",
]

MEDIA_TYPE = "application/vnd.cellworker.columns"
_MAGIC = b"CWCOLS1\n"
_LENGTHS = struct.Struct("<II")
_INTEGERS = ("i1", "u1", "i2", "u2", "i4", "u4")


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers ``(n,)``: floats, NaN where missing; or integers with `missing`, bool ``(n,)`` or None."""

    values: NDArray[Any]
    missing: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Logicals:
    """Logicals, bool ``(n,)``, and which are missing."""

    values: NDArray[np.bool_]
    missing: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Labels:
    """Categories: positions in `labels`, int32 ``(n,)``, -1 where missing."""

    codes: NDArray[np.int32]
    labels: list[str]


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts, None where missing."""

    texts: list[str | None]


@dataclass(frozen=True, slots=True)
class Sparse:
    """Numbers that are mostly 0: `values`, float32 ``(k,)``, at `rows`, int32 ``(k,)``, each once, of `length`."""

    rows: NDArray[np.int32]
    values: NDArray[np.float32]
    length: int


TypedColumn = Numbers | Logicals | Labels | Texts | Sparse


class ColumnTable:
    """Columns by name, and facts about them: plain values (JSON)."""

    # No dataclass: orjson would write its fields.
    __slots__ = ("columns", "facts")

    def __init__(self, columns: Mapping[str, TypedColumn], facts: Mapping[str, Any] | None = None) -> None:
        self.columns: Mapping[str, TypedColumn] = columns
        self.facts: Mapping[str, Any] = facts or {}

    def to_json(self) -> dict[str, Any]:
        """Return the facts and the list ``columns``, for the encoder of values; missing values are null."""
        return {**self.facts, "columns": [_plain(name, column) for name, column in self.columns.items()]}


def accepts_columns(accept: str | None) -> bool:
    """Return whether a header ``Accept`` names the media type."""
    return any(part.partition(";")[0].strip().lower() == MEDIA_TYPE for part in (accept or "").split(","))


# --- as JSON --------------------------------------------------------------------------------------------------------


def _plain(name: str, column: TypedColumn) -> dict[str, Any]:
    if isinstance(column, Sparse):
        values: Any = orjson.Fragment(floats_json(np.ascontiguousarray(column.values, np.float32)))
        rows = orjson.Fragment(ints_json(np.ascontiguousarray(column.rows, np.int32)))
        return {"name": name, "kind": "sparse", "length": column.length, "rows": rows, "values": values}
    if isinstance(column, Texts):
        return {"name": name, "kind": "text", "values": column.texts}
    if isinstance(column, Labels):
        codes = _with_nulls(column.codes, column.codes < 0)
        return {"name": name, "kind": "category", "values": codes, "labels": column.labels}
    if isinstance(column, Logicals):
        return {"name": name, "kind": "logical", "values": _with_nulls(column.values, column.missing)}
    if column.values.dtype.kind == "f":
        single = column.values.dtype == np.float32
        values = orjson.Fragment(floats_json(column.values)) if single else column.values
        return {"name": name, "kind": "number", "values": values}
    return {"name": name, "kind": "integer", "values": _with_nulls(column.values, column.missing)}


def _with_nulls(values: NDArray[Any], missing: NDArray[np.bool_] | None) -> Any:  # noqa: ANN401
    if missing is None or not missing.any():
        return np.ascontiguousarray(values)
    out = values.astype(object)
    out[missing] = None
    return out.tolist()


# --- as bytes -------------------------------------------------------------------------------------------------------


class _Buffers:
    """Buffers one after the other, each at a multiple of 8 bytes."""

    def __init__(self) -> None:
        self.parts: list[bytes | memoryview] = []
        self._end = 0

    def add(self, content: NDArray[Any] | bytes, kind: str | None = None) -> int:
        # Not copied before all parts are joined: the first touch of new memory costs more than to fill it.
        raw = memoryview(content if isinstance(content, bytes) else np.ascontiguousarray(content, kind).data)
        at = self._end
        self.parts += [raw, bytes(-raw.nbytes % 8)]
        self._end += raw.nbytes + (-raw.nbytes % 8)
        return at

    def missing(self, mask: NDArray[np.bool_] | None) -> dict[str, int]:
        if mask is None or not mask.any():
            return {}
        return {"missing": self.add(np.packbits(mask, bitorder="little"))}


def encode_columns(table: ColumnTable) -> bytes:
    """Return the bytes.

    Raises
    ------
    ValueError
        If a text column is longer than 4 GiB.
    """
    buffers = _Buffers()
    columns = [{"name": name, **_described(column, buffers)} for name, column in table.columns.items()]
    header = orjson.dumps({"facts": table.facts, "columns": columns}, option=orjson.OPT_SERIALIZE_NUMPY)
    header += b" " * (-len(header) % 8)
    return b"".join([_MAGIC, _LENGTHS.pack(len(header), 0), header, *buffers.parts])


def _described(column: TypedColumn, buffers: _Buffers) -> dict[str, Any]:
    """Add a column's buffers, and return its entry in the header."""
    if isinstance(column, Sparse):
        rows, at = buffers.add(column.rows, "<i4"), buffers.add(column.values, "<f4")
        return {"kind": "sparse", "length": column.length, "count": len(column.rows), "rows": rows, "at": at}
    if isinstance(column, Texts):
        return _described_texts(column, buffers)
    if isinstance(column, Labels):
        kind = next(kind for kind in ("i1", "i2", "i4") if len(column.labels) - 1 <= np.iinfo(kind).max)
        at = buffers.add(column.codes, f"<{kind}")
        return {"kind": "category", "type": kind, "length": len(column.codes), "at": at, "labels": column.labels}
    n = len(column.values)
    if isinstance(column, Logicals):
        at = buffers.add(column.values, "u1")
        return {"kind": "logical", "type": "u1", "length": n, "at": at, **buffers.missing(column.missing)}
    if column.values.dtype.kind == "f":
        kind = "f4" if column.values.dtype == np.float32 else "f8"
        return {"kind": "number", "type": kind, "length": n, "at": buffers.add(column.values, f"<{kind}")}
    known = column.values if column.missing is None else column.values[~column.missing]
    kind = _narrowest(known)
    held = column.values if column.missing is None else np.where(column.missing, 0, column.values)
    at = buffers.add(held, f"<{kind}")
    return {"kind": "integer", "type": kind, "length": n, "at": at, **buffers.missing(column.missing)}


def _narrowest(values: NDArray[Any]) -> str:
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    fitting = (kind for kind in _INTEGERS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return next(fitting, "f8")


def _described_texts(column: Texts, buffers: _Buffers) -> dict[str, Any]:
    raw = [b"" if text is None else text.encode("utf-8", "replace") for text in column.texts]
    ends = np.cumsum(np.fromiter(map(len, raw), np.int64, len(raw)))
    whole = b"".join(raw)
    if len(whole) >= 1 << 32:
        message = "the texts of a column are longer than 4 GiB"
        raise ValueError(message)
    offsets = buffers.add(np.concatenate([[0], ends]).astype("<u4"))
    missing = buffers.missing(np.array([text is None for text in column.texts], np.bool_))
    place = {"at": buffers.add(whole), "offsets": offsets, "bytes": len(whole)}
    return {"kind": "text", "length": len(raw), **place, **missing}
