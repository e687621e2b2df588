"""The decompressed content of a `.qs` file, piece by piece, and its check value."""

from collections.abc import Callable, Iterator

import numpy as np

from cellworker.formats.r.qs.header import Algorithm, QsHeader
from cellworker.formats.r.rds.inflate import CHUNK_BYTES, Codec, CompressedFile, zstd_block, zstd_pieces
from cellworker.formats.r.rds.refusals import damaged, truncated
from cellworker.native import address, kernel

__all__ = ["BLOCK_BYTES", "SEED", "codec"]

BLOCK_BYTES = 1 << 19
"""Largest block before compression."""
SEED = 12_345
_HASH_BYTES = 4
_SIZE_BYTES = 4
_LARGEST_STORED = BLOCK_BYTES + BLOCK_BYTES // 128 + 1024
"""A block that does not shrink grows: by 1/256 and 16 bytes under LZ4, less under Zstandard."""
_RATIO = {Algorithm.ZSTD: 32_768, Algorithm.ZSTD_STREAM: 32_768, Algorithm.UNCOMPRESSED: 1}
_RATIO_LZ4 = 255

_lz4 = kernel("cw_lz4_block")
_hash_size = kernel("cw_qs_hash_size")
_hash_start = kernel("cw_qs_hash_start")
_hash_add = kernel("cw_qs_hash_add")
_hash_value = kernel("cw_qs_hash_value")


class CheckValue:
    """XXH32 of bytes that come in pieces. Source: xxHash's own specification, "XXH32 algorithm description"."""

    def __init__(self, seed: int = SEED) -> None:
        self._state = np.zeros(_hash_size() // 8 + 1, np.uint64)
        _hash_start(address(self._state, np.uint64, writable=True), seed)

    def add(self, content: bytes) -> None:
        """Take further bytes."""
        source = np.frombuffer(content, np.uint8)
        _hash_add(address(self._state, np.uint64, writable=True), address(source, np.uint8), len(source))

    @property
    def value(self) -> int:
        """The check value of all bytes so far."""
        return int(_hash_value(address(self._state, np.uint64)))


def codec(header: QsHeader, file_bytes: int) -> Codec:
    """Return the way to inflate a file with this header."""

    def chunks(source: CompressedFile) -> Iterator[tuple[bytes, int]]:
        return _checked(source, header, file_bytes)

    name = header.algorithm.name.lower()
    return Codec(name, b"", _RATIO.get(header.algorithm, _RATIO_LZ4), BLOCK_BYTES, None, chunks)


def _checked(source: CompressedFile, header: QsHeader, file_bytes: int) -> Iterator[tuple[bytes, int]]:
    body = file_bytes - header.size - (_HASH_BYTES if header.hashed else 0)
    if body < 0:
        raise truncated(0)
    source.read(header.size)
    if header.algorithm is Algorithm.ZSTD_STREAM:
        pieces = zstd_pieces(_Bounded(source, body))
    elif header.algorithm is Algorithm.UNCOMPRESSED:
        pieces = _plain(source, body)
    else:
        pieces = _blocks(source, header, body)
    check = CheckValue()
    inflated = 0
    for piece in pieces:
        inflated += len(piece)
        check.add(piece)
        yield piece, source.taken
    if header.hashed and int.from_bytes(source.read(_HASH_BYTES), "little") != check.value:
        raise damaged(inflated, "its content does not agree with its check value")


class _Bounded:
    """The next `left` bytes of a file, as a file."""

    def __init__(self, source: CompressedFile, left: int) -> None:
        self._source = source
        self._left = left

    def read(self, size: int) -> bytes:
        content = self._source.read(min(size, self._left))
        self._left -= len(content)
        return content


def _plain(source: CompressedFile, left: int) -> Iterator[bytes]:
    while left:
        piece = source.read(min(left, CHUNK_BYTES))
        if not piece:
            return  # the file shrank meanwhile; the parser says that it is truncated
        left -= len(piece)
        yield piece


def _blocks(source: CompressedFile, header: QsHeader, left: int) -> Iterator[bytes]:
    inflate: Callable[[bytes, int], bytes] = _zstd_block if header.algorithm is Algorithm.ZSTD else _lz4_block
    inflated = done = 0
    while left and (done < header.parts or not header.parts):
        size = int.from_bytes(source.read(min(_SIZE_BYTES, left)), "little")
        left -= _SIZE_BYTES
        if left < size or left <= 0:
            raise truncated(inflated)
        if not 0 < size <= _LARGEST_STORED:
            raise damaged(inflated, f"a compressed block claims {size:,} bytes")
        stored = source.read(size)
        if len(stored) < size:
            raise truncated(inflated)
        piece = inflate(stored, inflated)
        left -= size
        done += 1
        inflated += len(piece)
        if piece:
            yield piece
    if done < header.parts:
        raise truncated(inflated)
    if left and header.hashed:
        raise damaged(inflated, f"{left:,} bytes lie between its last block and its check value")


def _zstd_block(stored: bytes, at: int) -> bytes:
    return zstd_block(stored, at, BLOCK_BYTES)


def _lz4_block(stored: bytes, at: int) -> bytes:
    source, out = np.frombuffer(stored, np.uint8), np.empty(BLOCK_BYTES, np.uint8)
    size = _lz4(address(source, np.uint8), len(source), address(out, np.uint8, writable=True), BLOCK_BYTES)
    if size < 0:
        raise damaged(at, "its lz4 compression is broken")
    return out[:size].tobytes()
