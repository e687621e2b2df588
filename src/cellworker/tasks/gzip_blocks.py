"""One gzip file, compressed by several threads.

Blocks are made and deflated independently, each ending on a byte boundary (a full flush, RFC 1951), and written in
order as one member (RFC 1952) that any reader understands. Memory is bounded: at most two blocks a thread are under
way.
"""

import errno
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from cellworker.errors import ErrorCode, WorkerError

try:
    from isal import isal_zlib as deflate
except ImportError:  # platforms without ISA-L
    import zlib as deflate  # type: ignore[no-redef]

__all__ = ["Content", "combine_crc32", "write_gzip"]

Content = bytes | memoryview
_Compressed = tuple[bytes, int, int]
"""Deflated content, the CRC-32 of the content, its length."""

# Deflate, fastest level, operating system unknown, no time: the same content is the same file.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
_LAST_BLOCK = b"\x03\x00"
_RAW = -15
_LEVEL = 1
_POLYNOMIAL = 0xEDB88320


def write_gzip(
    path: Path,
    blocks: Iterable[Callable[[], Content]],
    *,
    threads: int = 1,
    on_block: Callable[[int], None] | None = None,
) -> None:
    """Write a gzip file; nothing is left at `path` when anything fails.

    Parameters
    ----------
    path
        A file that does not exist yet.
    blocks
        Functions that make the content, block after block; each runs once, in one of the threads.
    threads
        How many threads make and compress blocks.
    on_block
        Told the number of blocks written so far; may raise to stop.

    Raises
    ------
    WorkerError
        ``DISK_FULL`` when there is no room.
    """
    try:
        with path.open("xb") as file, ThreadPoolExecutor(max(1, threads)) as pool:
            waiting: deque[Future[_Compressed]] = deque()
            try:
                crc = size = 0
                file.write(_HEADER)
                for number, result in enumerate(_in_order(pool, blocks, waiting, 2 * max(1, threads)), start=1):
                    content, block_crc, block_size = result
                    file.write(content)
                    crc, size = combine_crc32(crc, block_crc, block_size), size + block_size
                    if on_block:
                        on_block(number)
                file.write(_LAST_BLOCK + struct.pack("<LL", crc, size & 0xFFFFFFFF))
            finally:
                for future in waiting:
                    future.cancel()
    except BaseException as error:
        if not isinstance(error, FileExistsError):
            path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WorkerError(
                ErrorCode.DISK_FULL, "The result does not fit on the worker's disk: free some space and try again."
            ) from None
        raise


def _in_order(
    pool: ThreadPoolExecutor, blocks: Iterable[Callable[[], Content]], waiting: deque[Future[_Compressed]], most: int
) -> Iterator[_Compressed]:
    for block in blocks:
        waiting.append(pool.submit(_compress, block))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _compress(block: Callable[[], Content]) -> _Compressed:
    content = block()
    compressor = deflate.compressobj(_LEVEL, deflate.DEFLATED, _RAW)
    return compressor.compress(content) + compressor.flush(deflate.Z_FULL_FLUSH), deflate.crc32(content), len(content)


def combine_crc32(first: int, second: int, second_length: int) -> int:
    """Return the CRC-32 of two pieces end to end from the CRC-32 of each.

    A CRC is a remainder of polynomials over GF(2): the first is multiplied by x to the number of bits that follow it,
    and the second added.
    """
    return _multiply(_power_of_x(8 * second_length), first) ^ second


def _multiply(a: int, b: int) -> int:
    """Multiply two polynomials modulo the CRC's; the highest bit is the coefficient of 1."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product


def _power_of_x(exponent: int) -> int:
    result, square = 1 << 31, 1 << 30
    while exponent:
        if exponent & 1:
            result = _multiply(result, square)
        square = _multiply(square, square)
        exponent >>= 1
    return result
