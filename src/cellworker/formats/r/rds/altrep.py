"""Compact vectors (ALTREP) made plain: sequences, numbers that stand for strings, wrappers.

The forms are those that R 3.5 and later write for its own classes; `reader` refuses any other.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.formats.r.rds.model import RList, RStrings, RValue, RVector
from cellworker.formats.r.rds.refusals import damaged
from cellworker.formats.r.rds.scan import Scanner

__all__ = ["materialise"]

_BLOCK = 1 << 17
_NA_INTEGER = -(2**31)
_NA_LOW_WORD = 1954


def materialise(scanner: Scanner, name: str, state: RValue, *, as_floats: bool) -> RValue | None:
    """Return the plain form of a compact vector, without attributes; None when the class is not known.

    Parameters
    ----------
    scanner
        For limits, spool and positions.
    name
        The ALTREP class.
    state
        Its state in the file.
    as_floats
        Keep doubles as float32.
    """
    if name == "compact_intseq":
        return _sequence(scanner, state, "integer", np.dtype(np.int32))
    if name == "compact_realseq":
        return _sequence(scanner, state, "double", np.dtype(np.float32 if as_floats else np.float64))
    if name == "deferred_string":
        return _deferred(scanner, state)
    if name.startswith("wrap_"):
        if not isinstance(state, RList) or not state.items:
            raise _malformed(scanner, name)
        return _bare(state.items[0])
    return None


def _malformed(scanner: Scanner, name: str) -> Exception:
    return damaged(scanner.stream.offset, f"a compact vector ({name}) is malformed")


def _bare(value: RValue) -> RValue:
    """Return `value` without the attributes that belong to the vector inside a wrapper."""
    if isinstance(value, RVector):
        return RVector(value.values, value.kind)
    if isinstance(value, RStrings):
        return RStrings(value.text, value.offsets, value.missing)
    return RList(value.items) if isinstance(value, RList) else value


def _sequence(scanner: Scanner, state: RValue, kind: str, dtype: np.dtype[Any]) -> RVector:
    if not isinstance(state, RVector) or state.kind != "double" or len(state) != 3:
        raise _malformed(scanner, f"sequence of {kind}")
    length, start, step = (float(value) for value in state.values)
    last = start + (length - 1) * step
    whole = all(np.isfinite(value) and value == round(value) for value in (length, start, step))
    if not whole or length < 0 or (kind == "integer" and max(abs(start), abs(last)) >= 2**31):
        raise _malformed(scanner, f"sequence of {kind}")
    count = int(length)
    scanner.sequence(count)

    def blocks() -> Iterator[NDArray[np.float64]]:
        for begin in range(0, count, _BLOCK):
            yield start + step * np.arange(begin, min(begin + _BLOCK, count), dtype=np.float64)

    if count * dtype.itemsize < scanner.limits.spool_bytes:
        return RVector((start + step * np.arange(count, dtype=np.float64)).astype(dtype), kind)
    return RVector(scanner.spool.keep_arrays(blocks(), count, dtype), kind)


def _deferred(scanner: Scanner, state: RValue) -> RStrings:
    if not isinstance(state, RList) or not state.items:
        raise _malformed(scanner, "deferred_string")
    source = state.items[0]
    if not isinstance(source, RVector) or source.kind not in ("integer", "double"):
        raise _malformed(scanner, "deferred_string")
    penalty = state.items[1] if len(state.items) > 1 else None
    scipen = (
        int(penalty.values[0]) if isinstance(penalty, RVector) and penalty.kind == "integer" and len(penalty) else 0
    )
    scanner.sequence(len(source))
    texts: list[bytes] = []
    ends = np.zeros(len(source) + 1, np.int64)
    missing = np.zeros(len(source), np.bool_)
    written = 0
    for begin in range(0, len(source), _BLOCK):
        block = source.values[begin : begin + _BLOCK]
        absent = _absent(block)
        words = _decimal(block, scipen)
        for i in np.flatnonzero(absent):
            words[i] = ""
        text = "".join(words).encode("ascii")
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        ends[begin + 1 : begin + 1 + len(words)] = written + np.cumsum(lengths)
        missing[begin : begin + len(words)] = absent
        written += len(text)
        texts.append(text)
    return RStrings(b"".join(texts), ends, missing if missing.any() else None)


def _absent(block: NDArray[np.int32] | NDArray[np.float64]) -> NDArray[np.bool_]:
    if block.dtype == np.int32:
        return np.asarray(block == _NA_INTEGER)
    low = np.ascontiguousarray(block).view(np.uint64) & np.uint64(0xFFFFFFFF)
    return np.asarray(np.isnan(block) & (low == _NA_LOW_WORD))


def _decimal(block: NDArray[np.int32] | NDArray[np.float64], scipen: int) -> list[str]:
    if block.dtype == np.int32:
        return list(map(str, block.tolist()))
    render: Callable[[float], str] = lambda value: format_double(value, scipen)  # noqa: E731
    return list(map(render, block.tolist()))


def format_double(value: float, scipen: int = 0) -> str:
    """Return what R's ``as.character`` makes of a double: the fewest digits, 15 at most.

    Fixed notation is used unless it is wider than scientific notation.

    Source: the rules of R's ``formatReal`` (help page of ``options``, `digits` and `scipen`).
    """
    if value != value:  # noqa: PLR0124 - NaN
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Inf" if value > 0 else "-Inf"
    if value == 0:
        return "0"
    mantissa, exponent_text = f"{abs(value):.14e}".split("e")
    digits = mantissa.replace(".", "").rstrip("0")
    exponent = int(exponent_text)
    decimals = max(0, len(digits) - 1 - exponent)
    sign = "-" if value < 0 else ""
    scientific = f"{sign}{digits[0]}{'.' + digits[1:] if len(digits) > 1 else ''}e{exponent:+03d}"
    fixed_width = len(sign) + max(exponent + 1, 1) + (decimals + 1 if decimals else 0)
    if fixed_width > len(scientific) + scipen:
        return scientific
    return f"{value:.{decimals}f}"
