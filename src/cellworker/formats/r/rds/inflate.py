"""Ways of compression, distinguished by the first bytes of a file, and inflating chunk by chunk."""

import bz2
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import zstandard

from cellworker.errors import WorkerError
from cellworker.formats.r.rds.refusals import damaged, truncated

__all__ = [
    "CHUNK_BYTES",
    "HEAD_BYTES",
    "Codec",
    "CompressedFile",
    "Readable",
    "codec_of",
    "expansion",
    "inflate",
    "zstd_block",
    "zstd_pieces",
]

CHUNK_BYTES = 1 << 20
_READ_BYTES = 1 << 18
HEAD_BYTES, _LOOKED_AT = 8, 1 << 21
_XZ_MEMORY = 256 << 20
_ZSTD_WINDOW = 1 << 27


class _Decompressor(Protocol):
    """The interface of decompressors in bz2, lzma and igzip."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Readable(Protocol):
    """A source of compressed bytes, none at the end."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` further bytes."""
        ...


class _Zlib:
    """zlib behind the interface of `_Decompressor`."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        out = self._inner.decompress(self._inner.unconsumed_tail + data, max(0, max_length))
        # A full output may hide more behind it even when all input is taken.
        self.needs_input = not self._inner.unconsumed_tail and len(out) < max_length
        return out


def _gzip() -> _Decompressor:
    try:
        from isal import igzip_lib  # noqa: PLC0415 - no wheel on some machines: the same bytes at a third of the speed
    except ImportError:
        return _Zlib()
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


@dataclass(frozen=True, slots=True)
class Codec:
    """One way of compression.

    Attributes
    ----------
    name
        gzip, bzip2, xz, zstd or plain.
    magic
        The first bytes of such a file.
    ratio
        Bytes that one compressed byte can become at most. gzip: the longest match, 258 bytes, from two bits. bzip2:
        a block of 900 kB holds run lengths, 255 bytes from 5, and itself shrinks to 40 bytes. xz: the longest match,
        273 bytes, from 14 binary decisions of 0.022 bits each. zstd: a run-length block, 128 KiB from 4 bytes.
    held
        Bytes that a decoder may keep back at most.
    make
        Returns a decompressor for one member; None where `inflate` knows another way.
    chunks
        Yields what `inflate` does, for a container of its own kind.
    """

    name: str
    magic: bytes
    ratio: int
    held: int
    make: Callable[[], _Decompressor] | None
    chunks: "Callable[[CompressedFile], Iterator[tuple[bytes, int]]] | None" = None


_PLAIN = Codec("plain", b"", 1, 0, None)
_ZSTD = Codec("zstd", b"\x28\xb5\x2f\xfd", 32_768, 1 << 20, None)
_CODECS = (
    Codec("gzip", b"\x1f\x8b", 1_032, 1 << 20, _gzip),
    Codec("bzip2", b"BZh", 1_500_000, 64 << 20, bz2.BZ2Decompressor),
    Codec("xz", b"\xfd7zXZ\x00", 10_000, 1 << 20, _xz),
    _ZSTD,
    _PLAIN,
)


def codec_of(head: bytes) -> Codec:
    """Return the way of compression of a file that begins with `head`."""
    return next(codec for codec in _CODECS if head.startswith(codec.magic))


class CompressedFile:
    """The compressed file from its start; it reads by position, so that others may read the same open file."""

    def __init__(self, file: int) -> None:
        self._file = file
        self.taken = 0

    def read(self, size: int = _READ_BYTES) -> bytes:
        """Return up to `size` further bytes, none at the end (fewer only there)."""
        content = os.pread(self._file, size, self.taken)
        self.taken += len(content)
        return content


def inflate(source: CompressedFile, codec: Codec) -> Iterator[tuple[bytes, int]]:
    """Yield chunks, each with a number of compressed bytes that are certainly used up with it.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` if the compression is broken or ends too early.
    OSError
        If the file cannot be read.
    """
    if codec.chunks is not None:
        return codec.chunks(source)
    if codec.make is not None:
        return _members(source, codec, codec.make)
    return _zstd(source) if codec is _ZSTD else _plain(source)


def expansion(file: int) -> float:
    """Return how many bytes one byte of a file becomes, by its beginning; 1 for what is not compressed or is broken."""
    source, total = CompressedFile(file), 0
    with suppress(WorkerError, OSError):
        codec = codec_of(os.pread(file, HEAD_BYTES, 0))
        if codec.chunks is None and codec is not _PLAIN:
            for chunk, used in inflate(source, codec):
                total += len(chunk)
                if used >= _LOOKED_AT:
                    return max(1.0, total / used)
    return max(1.0, total / max(1, source.taken))


def _plain(source: CompressedFile) -> Iterator[tuple[bytes, int]]:
    while chunk := source.read(CHUNK_BYTES):
        yield chunk, source.taken


def _zstd(source: CompressedFile) -> Iterator[tuple[bytes, int]]:
    chunks = zstd_pieces(source, _READ_BYTES)
    while True:
        used = max(0, source.taken - _READ_BYTES)
        chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk, used


def zstd_pieces(source: Readable, read_bytes: int = zstandard.DECOMPRESSION_RECOMMENDED_INPUT_SIZE) -> Iterator[bytes]:
    """Yield the content of Zstandard frames, piece by piece.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` if the compression is broken.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    # The stubs ask for a whole file object; `read` is all that is used.
    reader = decompressor.stream_reader(source, read_size=read_bytes, read_across_frames=True)  # type: ignore[arg-type]
    inflated = 0
    while True:
        try:
            piece = reader.read(CHUNK_BYTES)
        except zstandard.ZstdError as problem:
            raise damaged(inflated, f"its zstd compression is broken ({problem})") from None
        if not piece:
            return
        inflated += len(piece)
        yield piece


def zstd_block(stored: bytes, at: int, max_bytes: int) -> bytes:
    """Return the content of one Zstandard frame.

    Parameters
    ----------
    stored
        The frame.
    at
        Its position in the decompressed content, for messages.
    max_bytes
        Largest content of a block in this format.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` if the compression is broken, or claims to hold more.
    """
    try:
        # The decoder allocates what a frame claims, whatever max size it is given.
        claimed = zstandard.get_frame_parameters(stored).content_size
        if claimed > max_bytes and claimed != zstandard.CONTENTSIZE_UNKNOWN:
            raise damaged(at, f"a compressed block claims to hold {claimed:,} bytes, where {max_bytes:,} are the most")
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        return decompressor.decompress(stored, max_output_size=max_bytes)
    except zstandard.ZstdError as problem:
        raise damaged(at, f"its zstd compression is broken ({problem})") from None


def _members(source: CompressedFile, codec: Codec, make: Callable[[], _Decompressor]) -> Iterator[tuple[bytes, int]]:
    content = source.read()
    inflated = 0
    while content.startswith(codec.magic):
        decompressor = make()
        while not decompressor.eof:
            if decompressor.needs_input and not content:
                content = source.read()
                if not content:
                    raise truncated(inflated)
            used = max(0, source.taken - _READ_BYTES)
            try:
                chunk = decompressor.decompress(content, CHUNK_BYTES)
            except MemoryError:
                raise
            except Exception as problem:  # noqa: BLE001 - each library has its own: zlib.error, IsalError, LZMAError, OSError
                raise damaged(inflated, f"its {codec.name} compression is broken ({problem})") from None
            content = b""
            if chunk:
                inflated += len(chunk)
                yield chunk, used
        # What follows a member is either the next one or padding, which R ignores too.
        content = decompressor.unused_data
        if len(content) < len(codec.magic):
            content += source.read()
