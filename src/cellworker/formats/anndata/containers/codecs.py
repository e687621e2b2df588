"""Codecs of Zarr's chunks: anndata's defaults since 0.7, and its other options.

Zstandard, gzip and zlib, bz2, LZ4, Blosc (with LZ4, Zstandard or zlib inside), and CRC-32C sums. Codecs that run code
(pickle) or turn bytes into objects are not among them. Nothing grows beyond the size that its piece should have.

The frame of Blosc is described in the README_CHUNK_FORMAT of c-blosc, LZ4's block in its lz4_Block_format.
"""

import bz2
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.formats.anndata.containers.inflate import inflate
from cellworker.formats.anndata.containers.tree import damaged, refused
from cellworker.native import address, kernel

__all__ = ["codec_name", "decompress", "known", "split_text", "without_sum"]

_GZIP = 31
_KNOWN = ("zstd", "gzip", "zlib", "bz2", "lz4", "blosc", "crc32c")
_MAX_SPLITS, _MIN_SPLIT = 16, 128
_SHUFFLED, _COPIED, _BIT_SHUFFLED, _WHOLE = 0x1, 0x2, 0x4, 0x10


def known(name: str) -> bool:
    """Return whether this module can decode a codec."""
    return name in _KNOWN


def decompress(name: str, content: bytes, size: int, path: str) -> bytes:
    """Decode one codec.

    Parameters
    ----------
    size
        Max decoded bytes.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` when it is damaged or would give more.
    """
    if name == "zstd":
        return _zstd(content, size, path)
    if name in {"gzip", "zlib"}:
        return inflate(content, size, path, _GZIP if name == "gzip" else 15)
    if name == "lz4":
        return _sized_lz4(content, size, path)
    if name == "blosc":
        return _blosc(content, size, path)
    if name == "crc32c":
        return without_sum(content, path)
    return _bz2(content, size, path)


def without_sum(content: bytes, path: str) -> bytes:
    """Return the content before a CRC-32C sum, if the sum is right.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` when the sum is missing or wrong.
    """
    if len(content) < 4:
        raise damaged(path, "a piece is cut short (CRC-32C)")
    kept, (stored,) = content[:-4], struct.unpack("<I", content[-4:])
    if kernel("cw_crc32c")(address(np.frombuffer(kept, np.uint8), np.uint8), len(kept)) != stored:
        raise damaged(path, "the CRC-32C sum of a piece differs from its content")
    return kept


def _zstd(content: bytes, size: int, path: str) -> bytes:
    import zstandard  # noqa: PLC0415 - only Zarr needs it here

    try:
        with zstandard.ZstdDecompressor().stream_reader(content) as stream:
            out: bytes = stream.read(size + 1)
    except zstandard.ZstdError as error:
        raise damaged(path, error) from None
    return _within(out, size, path)


def _bz2(content: bytes, size: int, path: str) -> bytes:
    try:
        return _within(bz2.BZ2Decompressor().decompress(content, size + 1), size, path)
    except (OSError, ValueError) as error:
        raise damaged(path, error) from None


def _within(content: bytes, size: int, path: str) -> bytes:
    if len(content) > size:
        raise damaged(path, f"a piece holds more than its {size} bytes")
    return content


def _lz4(content: NDArray[np.uint8], out: NDArray[np.uint8], path: str) -> None:
    block = kernel("cw_lz4_block")
    done = block(address(content, np.uint8), len(content), address(out, np.uint8, writable=True), len(out))
    if done != len(out):
        raise damaged(path, "a piece cannot be decompressed (LZ4)")


def _sized_lz4(content: bytes, size: int, path: str) -> bytes:
    if len(content) < 4:
        raise damaged(path, "a piece is cut short (LZ4)")
    (length,) = struct.unpack_from("<I", content)
    if length > size:
        raise damaged(path, f"a piece holds more than its {size} bytes")
    out = np.empty(length, np.uint8)
    _lz4(np.frombuffer(content, np.uint8)[4:], out, path)
    return out.tobytes()


def _blosc(content: bytes, size: int, path: str) -> bytes:
    if len(content) < 16:
        raise damaged(path, "a piece is cut short (Blosc)")
    flags, width = content[2], max(1, content[3])
    length, block, whole = struct.unpack_from("<III", content, 4)
    if length > size or whole > len(content):
        raise damaged(path, f"a piece claims {length} bytes instead of {size} (Blosc)")
    if flags & _COPIED:
        return content[16 : 16 + length]
    if length == 0:
        return b""
    n_blocks = -(-length // block) if block else 0
    if not n_blocks or 16 + 4 * n_blocks > len(content):
        raise damaged(path, "a piece is cut short (Blosc)")
    out = np.empty(length, np.uint8)
    for number, start in enumerate(struct.unpack_from(f"<{n_blocks}i", content, 16)):
        part = out[number * block : (number + 1) * block]
        splits = width <= _MAX_SPLITS and block // width >= _MIN_SPLIT and len(part) == block
        raw = _blosc_block(
            content, start, len(part), width if splits and not flags & _WHOLE else 1, form=flags >> 5, path=path
        )
        part[:] = _unshuffled(raw, flags, width)
    return out.tobytes()


def _blosc_block(content: bytes, at: int, size: int, splits: int, *, form: int, path: str) -> NDArray[np.uint8]:
    source, raw = np.frombuffer(content, np.uint8), np.empty(size, np.uint8)
    # A small piece has up to 16 parts: asking for the address of each would take longer than decoding it.
    begin, target = address(source, np.uint8), address(raw, np.uint8, writable=True)
    step, block = size // splits, kernel("cw_lz4_block")
    for place in range(0, splits * step, step):
        if at < 16 or at + 4 > len(content):
            raise damaged(path, "a piece is cut short (Blosc)")
        (length,) = struct.unpack_from("<i", content, at)
        at += 4
        if not 0 <= length <= len(content) - at:
            raise damaged(path, "a piece is cut short (Blosc)")
        if length == step:
            raw[place : place + step] = source[at : at + length]
        elif form == 1:
            if block(begin + at, length, target + place, step) != step:
                raise damaged(path, "a piece cannot be decompressed (LZ4)")
        elif form in {3, 4}:
            piece = content[at : at + length]
            found = inflate(piece, step, path) if form == 3 else _zstd(piece, step, path)
            if len(found) != step:
                raise damaged(path, "a piece has another length than it should (Blosc)")
            raw[place : place + step] = np.frombuffer(found, np.uint8)
        else:
            name = {0: "BloscLZ", 2: "Snappy"}.get(form, "an unknown codec")
            raise refused(
                what=f"{path} is compressed with Blosc and {name}", advice="write it again with anndata's default"
            )
        at += length
    return raw


def _unshuffled(raw: NDArray[np.uint8], flags: int, width: int) -> NDArray[np.uint8]:
    count = len(raw) // width
    if flags & _BIT_SHUFFLED and count and count % 8 == 0:
        planes = np.unpackbits(raw[: count * width].reshape(width * 8, count // 8), axis=1, bitorder="little")
        bits = np.packbits(np.ascontiguousarray(planes.T), axis=1, bitorder="little")
        return np.concatenate([bits.reshape(-1), raw[count * width :]])
    if flags & _SHUFFLED and width > 1:
        out = raw.copy()  # bytes beyond the last whole element keep their places
        unshuffle = kernel("cw_unshuffle")
        unshuffle(address(raw, np.uint8), count, width, address(out, np.uint8, writable=True))
        return out
    return raw


def split_text(content: bytes, count: int, path: str) -> list[str]:
    """Split strings of any length: their number, then each after its length (codec vlen-utf8)."""
    if len(content) < 4 or struct.unpack_from("<I", content)[0] != count:
        raise damaged(path, f"expected {count} strings in a piece")
    out, at = [], 4
    for _ in range(count):
        if at + 4 > len(content):
            raise damaged(path, "a piece is cut short")
        length = int.from_bytes(content[at : at + 4], "little")
        at += 4
        if at + length > len(content):
            raise damaged(path, "a piece is cut short")
        out.append(content[at : at + length].decode("utf-8", "replace"))
        at += length
    return out


def codec_name(codec: Mapping[str, Any]) -> str:
    """Return the name of a codec of either version of Zarr."""
    return str(codec.get("id") or codec.get("name") or "")
