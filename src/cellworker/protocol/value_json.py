"""The value of a task as JSON text."""

from typing import Any

import msgspec
import numpy as np
import orjson

from cellworker.protocol.columns import ColumnTable

__all__ = ["JsonText", "encode"]


class JsonText:
    """A value that is JSON text already: a whole answer as this is not copied again."""

    # No dataclass: orjson would write its fields.
    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text


def encode(value: Any) -> bytes:  # noqa: ANN401
    """Encode a task's value.

    Parameters
    ----------
    value
        Plain values, numpy arrays (of any layout, in the machine's byte order) and scalars, dataclasses, tables of
        typed columns, `msgspec.Struct`; `JsonText` and `orjson.Fragment` for JSON text.

    Returns
    -------
    bytes
        Compact UTF-8 JSON; float32 in their shortest text, NaN and infinities as null.

    Raises
    ------
    TypeError
        For anything else.
    """
    if isinstance(value, JsonText):
        return value.text
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, np.ndarray):
        # orjson writes contiguous arrays of numbers itself; other arrays become lists
        if value.dtype.kind in "fiub" and value.dtype.itemsize <= 8 and value.ndim and not value.flags.c_contiguous:
            return np.ascontiguousarray(value)
        return value.tolist()
    if isinstance(value, ColumnTable):
        return value.to_json()
    if isinstance(value, JsonText):
        return orjson.Fragment(value.text)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        return {encoded: getattr(value, name) for encoded, name in names}
    message = f"cannot encode {type(value).__name__} as JSON"
    raise TypeError(message)
