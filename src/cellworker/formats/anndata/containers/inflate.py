"""Decompresses one chunk of an array, never beyond its expected size."""

import zlib
from typing import Any

from cellworker.formats.anndata.containers.tree import damaged

__all__ = ["deflate", "inflate"]


def _inflater(wbits: int) -> Any:  # noqa: ANN401
    try:
        from isal import isal_zlib  # noqa: PLC0415
    except ImportError:
        return zlib.decompressobj(wbits)
    return isal_zlib.decompressobj(wbits)


def inflate(content: bytes, size: int, path: str, wbits: int = 15) -> bytes:
    """Undo zlib's (or, with `wbits` 31, gzip's) compression of `size` bytes.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` when it is damaged, or would give more than `size` bytes.
    """
    stream = _inflater(wbits)
    try:
        out: bytes = stream.decompress(content, size + 1)
    except Exception as error:  # noqa: BLE001 - zlib's and ISA-L's errors share no class
        raise damaged(path, f"a piece cannot be inflated ({error})") from None
    if len(out) > size:
        raise damaged(path, f"a piece holds more than its {size} bytes")
    return out


def deflate(content: bytes) -> bytes:
    """Compress with zlib's format, by ISA-L where it is installed."""
    try:
        from isal import isal_zlib  # noqa: PLC0415
    except ImportError:
        return zlib.compress(content, 4)
    packed: bytes = isal_zlib.compress(content, 2)
    return packed
