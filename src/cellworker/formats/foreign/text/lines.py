"""Text files of any compression in blocks of whole lines, in bounded memory."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cellworker.errors import WorkerError
from cellworker.formats.foreign.shown import refused
from cellworker.formats.r.rds.inflate import CompressedFile, codec_of, inflate

__all__ = ["blocks_of_lines", "first_lines", "ordinary", "table_rows", "texts_of"]

_BLOCK: Final = 4 << 20
_MAX_LINE: Final = 256 << 20
"""Longest line in bytes: one gene of ten million cells."""
_MAX_NAMES: Final = 1 << 30
"""Bytes of a list of names: seven million barcodes of 10x, unfiltered, are 140 MB."""
_AGAIN: Final = "copy the file here again, or write it again"


@contextmanager
def ordinary(path: Path) -> Iterator[int]:
    """Open a file for reading; what is no ordinary file, such as a link or a pipe, is refused.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE``.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise refused(path, f"it cannot be opened ({error.strerror or error})", "put the file itself there") from None
    try:
        import stat  # noqa: PLC0415

        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise refused(path, "it is no ordinary file", "put the file itself there")
        yield descriptor
    finally:
        os.close(descriptor)


def _chunks(path: Path, descriptor: int, max_bytes: int) -> Iterator[bytes]:
    source = CompressedFile(descriptor)
    codec = codec_of(os.pread(descriptor, 8, 0))
    total = 0
    try:
        for chunk, _ in inflate(source, codec):
            total += len(chunk)
            if total > max_bytes:
                raise refused(
                    path, f"more than {max_bytes / 1e9:,.1f} GB after decompression", "raise LOAD_MAX_GB if it is sound"
                )
            yield chunk
    except WorkerError as error:
        if error.message.startswith(path.name):
            raise
        raise refused(path, f"its {codec.name} compression is broken or cut short", _AGAIN) from None


def blocks_of_lines(path: Path, max_bytes: int) -> Iterator[bytes]:
    """Yield whole lines in blocks of some megabytes, each block ending with a line break.

    A thread decompresses while the caller works on the blocks.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE``: no ordinary file, broken compression, a line of more than 256 MB, too much text.
    """
    with ordinary(path) as descriptor, ThreadPoolExecutor(1, "inflate") as pool:
        lines = _whole_lines(path, _chunks(path, descriptor, max_bytes))
        waiting: Future[bytes | None] = pool.submit(next, lines, None)
        while (block := waiting.result()) is not None:
            waiting = pool.submit(next, lines, None)
            yield block


def _whole_lines(path: Path, chunks: Iterator[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size < _BLOCK:
            continue
        cut = chunk.rfind(b"\n") + 1
        if cut:
            held[-1] = chunk[:cut]
            yield b"".join(held)
            held, size = [chunk[cut:]], len(chunk) - cut
        elif size > _MAX_LINE:
            raise refused(path, "a line of more than 256 MB", "it is no matrix in text: name the matrix itself")
    last = b"".join(held)
    cut = last.rfind(b"\n") + 1
    if cut:
        yield last[:cut]
    if cut < len(last):
        yield last[cut:] + b"\n"


def first_lines(path: Path, n_bytes: int = 1 << 20, max_bytes: int = 1 << 40) -> tuple[list[bytes], bool]:
    """Return the whole lines among the first bytes, and whether these are all."""
    with ordinary(path) as descriptor:
        held, size, whole = [], 0, True
        for chunk in _chunks(path, descriptor, max_bytes):
            held.append(chunk)
            size += len(chunk)
            if size >= n_bytes and b"\n" in chunk:
                whole = False
                break
            if size > _MAX_LINE:
                raise refused(path, "a line of more than 256 MB", "it is no matrix in text: name the matrix itself")
    lines = b"".join(held).split(b"\n")
    return (lines[:-1] if not whole or not lines[-1] else lines), whole


def texts_of(path: Path, max_bytes: int) -> list[str]:
    """Return the lines of a list of names, without line breaks.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE``.
    """
    out: list[str] = []
    for block in blocks_of_lines(path, min(max_bytes, _MAX_NAMES)):
        out += block[:-1].decode("utf-8", "replace").replace("\r\n", "\n").rstrip("\r").split("\n")
    while out and not out[-1].strip():
        out.pop()
    return out


def table_rows(path: Path, max_bytes: int) -> list[list[str]]:
    """Return the rows of a small table, its fields divided by tabs where there are tabs, else by commas.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE``.
    """
    import csv  # noqa: PLC0415 - small tables only

    lines = texts_of(path, max_bytes)
    separator = "\t" if lines and "\t" in lines[0] else ","
    try:
        return list(csv.reader(lines, delimiter=separator))
    except csv.Error as error:
        raise refused(path, f"it is no table ({error})", _AGAIN) from None
