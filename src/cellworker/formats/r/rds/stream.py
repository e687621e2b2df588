"""The decompressed bytes of a file, inflated in a background thread while the foreground parses."""

import contextlib
import hashlib
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct
from typing import Literal

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.r.rds.inflate import CHUNK_BYTES, Codec, CompressedFile, codec_of, inflate
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.refusals import damaged, refused, truncated

__all__ = ["ByteOrder", "ByteStream"]

ByteOrder = Literal["big", "little"]

_HEAD_BYTES = 32
_CHUNKS_AHEAD = 6
_RATIO_CHECKED_FROM = 1 << 30
_INT = {"big": Struct(">i").unpack_from, "little": Struct("<i").unpack_from}


class _Hash(threading.Thread):
    """SHA-256 of the whole file, in a thread of its own: it takes a quarter of the time that inflating takes."""

    def __init__(self, file: int) -> None:
        super().__init__(name="hash", daemon=True)
        self._file = file
        self._hash = hashlib.sha256()
        self._problem: OSError | None = None
        self.stopped = False

    def run(self) -> None:
        """Hash the file to its end."""
        at = 0
        try:
            while not self.stopped and (content := os.pread(self._file, CHUNK_BYTES, at)):
                self._hash.update(content)
                at += len(content)
        except OSError as problem:
            self._problem = problem

    def result(self) -> str:
        """Wait for the end and return the hash in hex."""
        self.join()
        if self._problem is not None:
            raise _unreadable_disk(self._problem)
        return self._hash.hexdigest()


def _unreadable_disk(problem: OSError) -> WorkerError:
    return WorkerError(ErrorCode.EXPERIMENT_UNREADABLE, f"The file cannot be read from disk: {problem.strerror}.")


class _Closed(Exception):  # noqa: N818
    """The reader went away."""


class ByteStream:
    """Words and runs of bytes from a file that is plain or compressed with gzip, bzip2, xz or Zstandard.

    Parameters
    ----------
    path
        The file.
    limits
        Ceilings; see `Limits`.
    on_bytes
        Called in the parsing thread with compressed bytes done and in all.
    choose
        Returns the way of compression for the file's first bytes (32, or all there are) and its size; by default
        told by `codec_of`.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_NOT_FOUND`` or ``EXPERIMENT_UNREADABLE``, here and in every method that reads.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits,
        on_bytes: Callable[[int, int], None] | None = None,
        choose: Callable[[bytes, int], Codec] | None = None,
    ) -> None:
        self._file, self._total = _open(path)
        try:
            head = os.pread(self._file, _HEAD_BYTES, 0)
            self._codec = codec_of(head) if choose is None else choose(head, self._total)
        except OSError as problem:
            os.close(self._file)
            raise _unreadable_disk(problem) from None
        except BaseException:
            os.close(self._file)
            raise
        self._source = CompressedFile(self._file)
        self._hash = _Hash(self._file)
        self._limits = limits
        self._on_bytes = on_bytes
        self._int = _INT["big"]
        self.data = b""
        self.pos = 0
        self._base = 0
        self._done = 0
        self._ended = False
        self._changed = threading.Condition()
        self._ready: deque[tuple[bytes, int]] = deque()
        self._stopped = False
        self._finished = False
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._produce, name="inflate", daemon=True)
        self._thread.start()
        self._hash.start()

    @property
    def compression(self) -> str:
        """gzip, bzip2, xz, zstd or plain."""
        return self._codec.name

    @property
    def order(self) -> ByteOrder:
        """The byte order of its words: big, as R writes files, until `little` is set."""
        return "big" if self._int is _INT["big"] else "little"

    @order.setter
    def order(self, order: ByteOrder) -> None:
        self._int = _INT[order]

    @property
    def size(self) -> int:
        """Bytes of the compressed file."""
        return self._total

    @property
    def offset(self) -> int:
        """Decompressed bytes taken so far."""
        return self._base + self.pos

    # ---- the background thread ----

    def _produce(self) -> None:
        problem: BaseException | None = None
        try:
            with contextlib.suppress(_Closed):
                self._inflate()
        except OSError as failure:
            problem = _unreadable_disk(failure)
        except BaseException as failure:  # noqa: BLE001 - raised again in the parsing thread
            problem = failure
        with self._changed:
            self._problem = problem
            self._finished = True
            self._changed.notify_all()

    def _inflate(self) -> None:
        produced = 0
        for chunk, drained in inflate(self._source, self._codec):
            produced += len(chunk)
            self._check_size(produced)
            with self._changed:
                while len(self._ready) >= _CHUNKS_AHEAD and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    raise _Closed
                self._ready.append((chunk, drained))
                self._changed.notify_all()

    def _check_size(self, produced: int) -> None:
        limits = self._limits
        if produced > limits.max_inflated_bytes:
            limit = f"{limits.max_inflated_bytes / (1 << 30):,.4g} GB"
            sentence = f"The file is larger than {limit} after decompression, the limit set by LOAD_MAX_GB."
            raise refused(sentence)
        if produced > _RATIO_CHECKED_FROM and produced > limits.max_ratio * self._source.taken:
            sentence = (
                f"The file unpacks to more than {limits.max_ratio:,.0f} times its size, as no experiment does; it "
                "looks made to fill memory. If it is yours, save it in R with saveRDS(object, file, compress = FALSE)."
            )
            raise refused(sentence)

    # ---- the parsing thread ----

    def _next(self) -> bytes | None:
        """Return the next chunk, or None at the end."""
        with self._changed:
            while not self._ready and not self._finished:
                self._changed.wait()
            if self._ready:
                chunk, self._done = self._ready.popleft()
                self._changed.notify_all()
            else:
                if self._problem is not None:
                    raise self._problem
                self._ended = True
                self._done = self._total
                chunk = None
        if self._on_bytes is not None:
            self._on_bytes(min(self._done, self._total), self._total)
        return chunk

    def bytes_left_bound(self) -> int:
        """Return a number of bytes that the file cannot exceed from here on (exact for a plain file)."""
        bound = len(self.data) - self.pos
        if self._ended:
            return bound
        bound += max(0, self._total - self._done) * self._codec.ratio + self._codec.held
        return min(bound, max(0, self._limits.max_inflated_bytes - self.offset))

    def expect(self, size: int, what: str) -> None:
        """Refuse a claim of more bytes than can follow, before anything is allocated for it."""
        if size > len(self.data) - self.pos and size > (left := self.bytes_left_bound()):
            raise damaged(self.offset, f"{what} claims {size:,} bytes where at most {left:,} can follow")

    def fill(self, size: int) -> None:
        """Bring at least `size` contiguous bytes into `data`; for sizes well under a chunk."""
        while len(self.data) - self.pos < size:
            chunk = self._next()
            if chunk is None:
                raise truncated(self._base + len(self.data))
            self._base += self.pos
            self.data = self.data[self.pos :] + chunk if self.pos < len(self.data) else chunk
            self.pos = 0

    def int32(self) -> int:
        """Take one signed 32-bit word."""
        pos = self.pos
        if pos + 4 > len(self.data):
            self.fill(4)
            pos = self.pos
        self.pos = pos + 4
        return self._int(self.data, pos)[0]  # type: ignore[no-any-return]

    def take(self, size: int, what: str = "a vector") -> bytes:
        """Take `size` bytes; the claim is checked first."""
        end = self.pos + size
        if end <= len(self.data):
            out = self.data[self.pos : end]
            self.pos = end
            return out
        self.expect(size, what)
        return b"".join(self.pieces(size, 1))

    def pieces(self, size: int, item: int) -> Iterator[memoryview]:
        """Yield the next `size` bytes in pieces of whole items of `item` bytes, without copying where possible."""
        left = size
        while left:
            if len(self.data) - self.pos < item:
                self.fill(item)
            here = min(left, (len(self.data) - self.pos) // item * item)
            piece = memoryview(self.data)[self.pos : self.pos + here]
            self.pos += here
            left -= here
            yield piece

    def skip(self, size: int, what: str = "a vector") -> None:
        """Pass over `size` bytes."""
        self.expect(size, what)
        left = size
        while left:
            if self.pos == len(self.data):
                self.fill(1)
            here = min(left, len(self.data) - self.pos)
            self.pos += here
            left -= here

    def finish(self) -> str:
        """Check what follows the object (its checksum, that is), and return the SHA-256 of the whole file in hex."""
        for _ in range(_CHUNKS_AHEAD):
            if self._next() is None:
                break
        return self._hash.result()

    def close(self) -> None:
        """Give up what was not read, and wait for the threads."""
        self._hash.stopped = True
        with self._changed:
            self._stopped = True
            self._ready.clear()
            self._changed.notify_all()
        self._thread.join()
        self._hash.join()
        os.close(self._file)


def _open(path: Path) -> tuple[int, int]:
    """Open an ordinary file and return its descriptor and size."""
    try:
        # Without O_NONBLOCK a named pipe would hold up the reader until somebody writes.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        message = f"There is no file {path.name!r} at the place that was named."
        raise WorkerError(ErrorCode.EXPERIMENT_NOT_FOUND, message) from None
    except OSError as problem:
        message = f"The file {path.name!r} cannot be opened: {problem.strerror}."
        raise WorkerError(ErrorCode.EXPERIMENT_UNREADABLE, message) from None
    found = os.fstat(file)
    if stat.S_ISREG(found.st_mode) and found.st_size:
        return file, found.st_size
    os.close(file)
    if not stat.S_ISREG(found.st_mode):
        raise WorkerError(ErrorCode.EXPERIMENT_UNREADABLE, f"{path.name!r} is a folder or a device, not a file.")
    raise WorkerError(
        ErrorCode.EXPERIMENT_UNREADABLE,
        f"The file {path.name!r} is empty: copy it here again, or save the object again in R.",
    )
