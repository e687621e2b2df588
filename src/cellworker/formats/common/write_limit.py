"""How much the reading of a file may write to the disk: counted before it is written, in relation to its size."""

import os
import stat
from pathlib import Path

from cellworker.errors import ErrorCode, WorkerError

__all__ = ["WriteLimit", "size_of"]

_ALWAYS_BYTES = 64 << 20
"""Bytes that may be written for any file: the store of a very small one is mostly its frame."""


class WriteLimit:
    """Counts what one reading writes: unpacked vectors, arrays in the making, and the store itself.

    Parameters
    ----------
    source_bytes
        The size of the file that is read.
    max_ratio
        Bytes that may be written for each byte of it. A real experiment takes 10 to 60: its store is not compressed,
        and holds the matrix twice. A file that says "fill value" or "1:n" can ask for any number.
    max_bytes
        Never more than this.
    """

    def __init__(self, source_bytes: int, max_ratio: float, max_bytes: int) -> None:
        self._source_bytes = source_bytes
        self._max_ratio = max_ratio
        self._max_bytes = max_bytes
        self._claimed = 0

    @property
    def allowed(self) -> int:
        """How many bytes may be written in all."""
        return min(self._max_bytes, _ALWAYS_BYTES + int(self._max_ratio * self._source_bytes))

    def admit(self, more_bytes: int) -> None:
        """Count another file as part of the source."""
        self._source_bytes += more_bytes

    def claim(self, n_bytes: int) -> None:
        """Count what is about to be written.

        Raises
        ------
        WorkerError
            ``EXPERIMENT_UNREADABLE`` when that is more than the file may ask for.
        """
        self._claimed += n_bytes
        if self._claimed > self.allowed:
            raise WorkerError(
                ErrorCode.EXPERIMENT_UNREADABLE,
                f"Reading the file would write {_words(self._claimed)} or more to the disk, where a file of "
                f"{_words(self._source_bytes)} may write {_words(self.allowed)}: it is damaged or hostile. "
                "If it is sound, raise LOAD_MAX_RATIO or LOAD_MAX_GB.",
            )


def size_of(source: Path) -> int:
    """Return the size of a file, or of all files in a folder."""
    status = source.stat()
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size
    return sum(
        os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - a Zarr store may have many thousand files
        for place, _, names in os.walk(source)
        for name in names
    )


def _words(n_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:,.3g} {unit}"
    return f"{n_bytes} bytes"
