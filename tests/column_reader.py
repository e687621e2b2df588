"""A reader of typed columns in Python, made from `docs/reference/columns.md` and from nothing that writes them.

The package itself reads none: the page has its own reader, and who is in Python opens the experiment.
"""

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.protocol.columns import ColumnTable, Labels, Logicals, Numbers, Sparse, Texts, TypedColumn


def decode_columns(content: bytes) -> ColumnTable:
    assert content[:8] == b"CWCOLS1\n"
    length, zero = struct.unpack_from("<II", content, 8)
    assert zero == 0
    assert length % 8 == 0, "the buffers begin at a multiple of 8 bytes"
    header = json.loads(content[16 : 16 + length])
    body = content[16 + length :]
    return ColumnTable({told["name"]: _column(told, body) for told in header["columns"]}, header["facts"])


def _column(told: dict[str, Any], body: bytes) -> TypedColumn:
    kind, length = told["kind"], told["length"]

    def array(name: str, type_: str, count: int = length) -> NDArray[Any]:
        assert told[name] % 8 == 0
        return np.frombuffer(body, f"<{type_}", count, told[name]) if count else np.empty(0, type_)

    missing = None
    if "missing" in told:
        missing = np.unpackbits(array("missing", "u1", -(-length // 8)), count=length, bitorder="little") == 1
    if kind == "sparse":
        return Sparse(array("rows", "i4", told["count"]), array("at", "f4", told["count"]), length)
    if kind == "text":
        whole, ends = array("at", "u1", told["bytes"]).tobytes(), array("offsets", "u4", length + 1).tolist()
        assert (ends[0], ends[-1]) == (0, len(whole))
        texts = [whole[ends[i] : ends[i + 1]].decode() for i in range(length)]
        return Texts([None if missing is not None and missing[i] else text for i, text in enumerate(texts)])
    values = array("at", told["type"])
    if kind == "category":
        return Labels(values.astype(np.int32), told["labels"])
    if kind == "logical":
        return Logicals(values == 1, missing)
    if kind == "integer" and told["type"] == "f8":
        values = values.astype(np.int64)
    assert kind in {"integer", "number"}
    return Numbers(values, missing)
