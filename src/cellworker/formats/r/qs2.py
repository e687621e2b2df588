"""The container of R's package qs2: R's own serialisation in blocks of Zstandard, with a check value.

Source of the facts: the headers of qs2 0.1 to 0.4 (`qx_file_headers.h`, `io_common.h`, `zstd_module.h`). A file is

=======  ==========================================================================================================
bytes    what
=======  ==========================================================================================================
0 .. 4   ``0b 0e 0a c1``
4        version of the format: 1
5        way of compression: 1, Zstandard
6        byte order of the machine that wrote it: 1 big, 2 little
7        whether blocks may be shuffled
8 .. 16  nothing yet
16 .. 24 XXH3 (64 bits) of all that follows; 0 where none was computed
24 ..    blocks: uint32 size, of which the highest bit says that the block is shuffled, and one frame of Zstandard
=======  ==========================================================================================================

A block holds up to 1 MiB. The bytes of a shuffled one are sorted by their place in words of 8 bytes; what is left of
its length after whole words stands behind as it is.
"""

import struct
from collections.abc import Iterator

import numpy as np
import xxhash

from cellworker.errors import WorkerError
from cellworker.formats.r.rds.inflate import Codec, CompressedFile, zstd_block
from cellworker.formats.r.rds.refusals import damaged, refused, truncated

__all__ = ["MAGIC", "codec"]

MAGIC = b"\x0b\x0e\x0a\xc1"
_HEADER_BYTES = 24
_NEWEST, _ZSTD, _BIG, _LITTLE = 1, 1, 1, 2
_BLOCK_BYTES = 1 << 20
_MAX_STORED = _BLOCK_BYTES + (_BLOCK_BYTES >> 8) + 1024
"""A block that does not shrink grows under Zstandard by up to a 256th."""
_SIZE_BYTES, _SHUFFLED, _WORD = 4, 1 << 31, 8
_RATIO = 32_768


def codec(head: bytes, file_bytes: int) -> Codec:
    """Return the way to inflate a file.

    Parameters
    ----------
    head
        Its first 24 bytes or more, or all that there are.
    file_bytes
        Its size.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` where the header is none that is read.
    """
    if len(head) < _HEADER_BYTES:
        raise truncated(0)
    version, compression, order, _ = head[4:8]
    if version > _NEWEST or not version:
        raise _not_qs2(what=f"its format version is {version}, where qs2 0.4 writes {_NEWEST}")
    if compression != _ZSTD:
        raise _not_qs2(what=f"its way of compression, number {compression}, is not known")
    if order not in (_BIG, _LITTLE):
        raise _not_qs2("its byte order is not known")
    byte_order = "<" if order == _LITTLE else ">"
    (check,) = struct.unpack_from(f"{byte_order}Q", head, 16)

    def chunks(source: CompressedFile) -> Iterator[tuple[bytes, int]]:
        return _blocks(source, f"{byte_order}I", check, file_bytes - _HEADER_BYTES)

    return Codec("qs2", MAGIC, _RATIO, _BLOCK_BYTES, None, chunks)


def _blocks(source: CompressedFile, word: str, check: int, left: int) -> Iterator[tuple[bytes, int]]:
    source.read(_HEADER_BYTES)
    found = xxhash.xxh3_64()
    inflated = 0
    while left:
        opening = source.read(min(_SIZE_BYTES, left))
        if len(opening) < _SIZE_BYTES:
            raise truncated(inflated)
        (size,) = struct.unpack(word, opening)
        stored_bytes = size & ~_SHUFFLED
        left -= _SIZE_BYTES
        if not 0 < stored_bytes <= _MAX_STORED:
            raise damaged(inflated, f"a compressed block claims {stored_bytes:,} bytes")
        stored = source.read(stored_bytes)
        left -= stored_bytes
        if len(stored) < stored_bytes or left < 0:
            raise truncated(inflated)
        found.update(opening)
        found.update(stored)
        piece = zstd_block(stored, inflated, _BLOCK_BYTES)
        inflated += len(piece)
        if piece:
            yield _put_together(piece) if size & _SHUFFLED else piece, source.taken
    # The value 0 means that there is none; a value that happens to be 0 is written as 1.
    if check and check != (found.intdigest() or 1):
        raise damaged(inflated, "its content does not agree with its check value")


def _put_together(piece: bytes) -> bytes:
    whole = len(piece) // _WORD * _WORD
    words = np.frombuffer(piece, np.uint8, whole).reshape(_WORD, -1)
    return words.T.tobytes() + piece[whole:]


def _not_qs2(what: str) -> WorkerError:
    return refused(
        f"The file is not a .qs2 file that can be read: {what}. In R, save the object with "
        "qs2::qs_save(object, 'r.qs2') or saveRDS(object, 'r.rds')."
    )
