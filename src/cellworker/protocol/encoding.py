"""Encoding of results: zstd, and the rule that sends small ones inside the event."""

import base64
import zlib

import zstandard

from cellworker.errors import ErrorCode, WorkerError

__all__ = ["INLINE_BYTES", "compress", "decompress", "inline"]

LEVEL, FAST_LEVEL = 3, 1
LARGE_BYTES = 4 << 20
"""Min size of content that is compressed at the fast level: half the time, and about as many bytes for numbers."""
INLINE_BYTES = 250_000
"""Largest compressed result, in bytes, that is sent inside the event."""

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_GZIP_MAGIC = b"\x1f\x8b"
_STEP = 1 << 22
_DAMAGED = "The stored result is damaged."


def compress(content: bytes) -> bytes:
    """Compress to one zstd frame with the content's size in its header, no checksum and no dictionary.

    Large content is compressed at the fast level, unless that might make it too large for the event.
    """
    if len(content) >= LARGE_BYTES:
        frame = zstandard.ZstdCompressor(level=FAST_LEVEL).compress(content)
        if len(frame) > 2 * INLINE_BYTES:
            return frame
    return zstandard.ZstdCompressor(level=LEVEL).compress(content)


def decompress(content: bytes, limit: int = 16 * 2**30) -> bytes:
    """Read a stored result: zstd, or gzip for old ones.

    Parameters
    ----------
    content
        The stored bytes.
    limit
        Max size of the content in bytes, against decompression bombs.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` when the bytes have neither format, are damaged, or hold more than `limit`.
    """
    if content.startswith(_ZSTD_MAGIC):
        return _unzstd(content, limit)
    if content.startswith(_GZIP_MAGIC):
        return _gunzip(content, limit)
    raise WorkerError(ErrorCode.INVALID_INPUT, "The stored result is neither zstd nor gzip.")


def inline(compressed: bytes) -> str | None:
    """Return a compressed result as text for an event, or None when it is too large."""
    if len(compressed) > INLINE_BYTES:
        return None
    return base64.b64encode(compressed).decode("ascii")


def _unzstd(content: bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        # In steps, then compared with the header: a header may claim any size, and a truncated frame ends without an
        # error.
        with zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=False) as reader:
            while part := reader.read(_STEP):
                parts.append(part)
                size += len(part)
                _check(size, limit)
        claimed = zstandard.frame_content_size(content)
    except zstandard.ZstdError:
        raise WorkerError(ErrorCode.INVALID_INPUT, _DAMAGED) from None
    if claimed not in (-1, size):
        raise WorkerError(ErrorCode.INVALID_INPUT, _DAMAGED)
    return b"".join(parts)


def _gunzip(content: bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        while content:
            stream = zlib.decompressobj(wbits=31)
            while not stream.eof:
                part = stream.decompress(content, _STEP)
                content = stream.unconsumed_tail
                if not part and not content and not stream.eof:
                    raise WorkerError(ErrorCode.INVALID_INPUT, _DAMAGED)
                parts.append(part)
                size += len(part)
                _check(size, limit)
            content = stream.unused_data
    except zlib.error:
        raise WorkerError(ErrorCode.INVALID_INPUT, _DAMAGED) from None
    return b"".join(parts)


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"The stored result holds more than {limit} bytes.")
