"""One gzip file, compressed by several threads.

Blocks are made and deflated independently, each ending on a byte boundary (a full flush, RFC 1951), and written in
order as one member (RFC 1952) that any reader understands. Memory is bounded: at most two blocks a thread are under
way.
"""

import errno
import struct
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

from cellworker.errors import ErrorCode, WorkerError

try:
    from isal import isal_zlib as deflate
except ImportError:  # platforms without ISA-L
    import zlib as deflate  # type: ignore[no-redef]

__all__ = ["Content", "Effort", "GzipWriter", "combine_crc32", "write_gzip"]

Content = bytes | memoryview
Effort = Literal["fast", "small"]
"""What to save: time, or bytes (a file as large as R makes it, with zlib's level 6)."""

_Compressed = tuple[bytes, int, int]
"""Deflated content, the CRC-32 of the content, its length."""

# Deflate, fastest level, operating system unknown, no time: the same content is the same file.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
_LAST_BLOCK = b"\x03\x00"
_RAW = -15
_FAST_LEVEL = 1
_ZLIB_LEVEL = 6
_ZLIB_NG_LEVELS = (5, 7)
"""The first takes half the time of the second, and a hundredth to a fifth more bytes: it depends on the content."""
_ACCEPTED = 1.06
"""How much larger a block may be for the quicker level: so both together stay below R's size (benchmarks, "files")."""
_SAMPLE = 1 << 18
_WRITTEN_TOGETHER = 4 << 20
_POLYNOMIAL = 0xEDB88320


class GzipWriter:
    """Writes one gzip file; a context manager. Nothing is left at the path when anything fails.

    Parameters
    ----------
    path
        A file that does not exist yet.
    threads
        Threads that make and compress blocks.
    effort
        "small" takes several times longer than "fast", for about a fifth less.
    on_block
        Called with the number of blocks written so far; may raise to stop.

    Raises
    ------
    WorkerError
        ``DISK_FULL`` when the disk is full.
    """

    def __init__(
        self, path: Path, *, threads: int = 1, effort: Effort = "fast", on_block: Callable[[int], None] | None = None
    ) -> None:
        self._path = path
        self._threads = max(1, threads)
        self._effort: Effort = effort
        self._on_block = on_block
        self._waiting: deque[Future[_Compressed]] = deque()
        self._parts: list[Content] = []
        self._gathered = 0
        self._crc = self._size = self._blocks = 0

    def __enter__(self) -> Self:
        try:
            self._file: BinaryIO = self._path.open("xb")
        except OSError as error:
            raise _told(error) from None
        self._pool = ThreadPoolExecutor(self._threads)
        self._file.write(_HEADER)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        except BaseException as problem:  # noqa: BLE001 - raised again
            error = problem
            raise _told(problem) from None
        finally:
            for future in self._waiting:
                future.cancel()
            self._pool.shutdown()
            self._file.close()
            if error is not None:
                self._path.unlink(missing_ok=True)
        if isinstance(error, OSError) and (told := _told(error)) is not error:
            raise told from None

    def block(self, make: Callable[[], Content]) -> None:
        """Add a block: a function that makes its content, which runs once, in one of the threads."""
        self._waiting.append(self._pool.submit(_compress, make, self._effort))
        if len(self._waiting) >= 2 * self._threads:
            self._write_next()

    def write(self, content: Content) -> None:
        """Add content, whose bytes must not change afterwards; much of it makes a block."""
        for start in range(0, len(content), _WRITTEN_TOGETHER):
            part = content[start : start + _WRITTEN_TOGETHER]
            self._parts.append(part)
            self._gathered += len(part)
            if self._gathered >= _WRITTEN_TOGETHER:
                self._close_block()

    def _close_block(self) -> None:
        parts, self._parts, self._gathered = self._parts, [], 0
        if parts:
            self.block(partial(b"".join, parts))

    def _finish(self) -> None:
        self._close_block()
        while self._waiting:
            self._write_next()
        self._file.write(_LAST_BLOCK + struct.pack("<LL", self._crc, self._size & 0xFFFFFFFF))
        self._file.flush()

    def _write_next(self) -> None:
        content, crc, size = self._waiting.popleft().result()
        self._file.write(content)
        self._crc, self._size = combine_crc32(self._crc, crc, size), self._size + size
        self._blocks += 1
        if self._on_block:
            self._on_block(self._blocks)


def write_gzip(
    path: Path,
    blocks: Iterable[Callable[[], Content]],
    *,
    threads: int = 1,
    on_block: Callable[[int], None] | None = None,
) -> None:
    """Write a gzip file of known blocks; see `GzipWriter`."""
    with GzipWriter(path, threads=threads, on_block=on_block) as file:
        for block in blocks:
            file.block(block)


def _told(error: BaseException) -> BaseException:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WorkerError(
            ErrorCode.DISK_FULL, "The result does not fit on the worker's disk: free some space and try again."
        )
    return error


def _compress(block: Callable[[], Content], effort: Effort) -> _Compressed:
    content = block()
    deflated = _deflated(deflate, content, _FAST_LEVEL) if effort == "fast" else _small(content)
    return deflated, deflate.crc32(content), len(content)


def _small(content: Content) -> bytes:
    try:
        from zlib_ng import zlib_ng  # noqa: PLC0415 - few results are compressed this way
    except ImportError:  # platforms without a wheel: the same size in three times the time
        import zlib  # noqa: PLC0415

        return _deflated(zlib, content, _ZLIB_LEVEL)
    quick, thorough = _ZLIB_NG_LEVELS
    middle = max(0, (len(content) - _SAMPLE) // 2)
    sample = content[middle : middle + _SAMPLE]
    sizes = [len(_deflated(zlib_ng, sample, level)) for level in _ZLIB_NG_LEVELS]
    return _deflated(zlib_ng, content, quick if sizes[0] <= _ACCEPTED * sizes[1] else thorough)


def _deflated(library: Any, content: Content, level: int) -> bytes:  # noqa: ANN401 - modules of one interface
    compressor = library.compressobj(level, deflate.DEFLATED, _RAW)
    deflated: bytes = compressor.compress(content) + compressor.flush(deflate.Z_FULL_FLUSH)
    return deflated


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
