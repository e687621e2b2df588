"""Encoding of results: zstd, and the rule that sends small ones inside the event."""

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import zstandard

from cellworker.errors import ErrorCode, WorkerError

__all__ = ["INLINE_BYTES", "compress", "decompress", "inline"]

LEVEL, FAST_LEVEL = 3, 1
LARGE_BYTES = 2 << 20
"""Min size of content that is compressed faster than at level 3."""
_WINDOW_LOG = 23
"""Of large content: 8 MiB, the largest window that every decoder of the format should have (RFC 8878)."""
_DIGITS: Mapping[str, Any] = {
    # Matches in digits that look random are short and save little. A small table finds few of them, and the time
    # goes into the codes of the digits.
    "hash_log": 6,
    "min_match": 7,
    # Long matches are far apart: the cells of one gene are nearly those of the next.
    "enable_ldm": True,
    "ldm_min_match": 32,
    "ldm_hash_log": 15,
    "ldm_hash_rate_log": 8,
}
"""What differs from the fast level for text of mostly different numbers: half its time, and fewer bytes."""
_SAMPLES, _SAMPLE_BYTES = 8, 1 << 14
_APART = 0.618034
"""Samples are at multiples of this fraction, modulo 1: spread evenly, and in step with no repeated content."""
_RANDOM, _WORTH = 0.32, 1.1
"""Digits that look random take over 0.4 of their bytes; they are coded as such where that is hardly longer."""
INLINE_BYTES = 250_000
"""Largest compressed result, in bytes, that is sent inside the event."""

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_GZIP_MAGIC = b"\x1f\x8b"
_STEP = 1 << 22
_DAMAGED = "The stored result is damaged."


def compress(content: bytes) -> bytes:
    """Compress to one zstd frame with the content's size in its header, no checksum and no dictionary.

    Large content is compressed faster, unless that might make it too large for the event: text of numbers as the
    digits need it, other content at the fast level.
    """
    if len(content) >= LARGE_BYTES:
        frame = _compressor(len(content), **_DIGITS if _looks_random(content) else {}).compress(content)
        if len(frame) > 2 * INLINE_BYTES:
            return frame
    return zstandard.ZstdCompressor(level=LEVEL).compress(content)


def _compressor(size: int, **more: Any) -> zstandard.ZstdCompressor:  # noqa: ANN401
    """Return a compressor of the fast level, with a window as large as matches in large content need."""
    chosen = zstandard.ZstdCompressionParameters.from_level(
        FAST_LEVEL, source_size=size, window_log=_WINDOW_LOG, **more
    )
    return zstandard.ZstdCompressor(compression_params=chosen)


def _looks_random(content: bytes) -> bool:
    """Return whether samples of the content are hardly shorter where short matches are found."""
    span = len(content) - _SAMPLE_BYTES
    starts = [int(number * _APART % 1 * span) for number in range(_SAMPLES)]
    sample = b"".join(content[start : start + _SAMPLE_BYTES] for start in starts)
    matched = len(_compressor(len(sample)).compress(sample))
    if matched < _RANDOM * len(sample):
        return False
    return len(_compressor(len(sample), **_DIGITS).compress(sample)) <= _WORTH * matched


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
