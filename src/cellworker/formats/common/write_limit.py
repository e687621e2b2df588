"""Limits what reading a file writes to the disk, in relation to its size, before it is written."""

import resource
import stat
from pathlib import Path

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.free_space import Figures, FreeSpace, in_words
from cellworker.formats.common.kinds import files_below

__all__ = ["WriteLimit", "size_of"]

_ALWAYS_BYTES = 64 << 20
"""Bytes that may be written for any file: the store of a very small file is mostly overhead."""


_UNCOUNTED_BYTES = 64 << 20
"""Of a store's index and checksums, and of what is made for a file that lacks it."""


class WriteLimit:
    """Counts the bytes that one reading writes: unpacked vectors, temporary arrays, and the store itself.

    Parameters
    ----------
    source_bytes
        The size of the file that is read.
    max_ratio
        Bytes that may be written for each byte of it. A real experiment takes 10 to 60: its store is not compressed,
        and holds the matrix twice. A file that says "fill value" or "1:n" can ask for any number.
    max_bytes
        Max bytes, whatever the ratio.
    free
        The free disk and memory; None checks nothing.
    """

    def __init__(self, source_bytes: int, max_ratio: float, max_bytes: int, free: FreeSpace | None = None) -> None:
        self._source_bytes = source_bytes
        self._max_ratio = max_ratio
        self._max_bytes = max_bytes
        self._free = free
        self._claimed = 0
        self._held = False

    @property
    def allowed(self) -> int:
        """Max bytes that may be written in all."""
        return min(self._max_bytes, _ALWAYS_BYTES + int(self._max_ratio * self._source_bytes))

    def admit(self, more_bytes: int) -> None:
        """Count another file as part of the source."""
        self._source_bytes += more_bytes
        if self._held:
            self.hold()

    def hold(self, *, is_all: bool = False) -> None:
        """Have the system keep each file of this process within the limit too, whatever the process becomes.

        Parameters
        ----------
        is_all
            No other file comes to the source: the limit cannot be raised again.
        """
        self._held = not is_all
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        limit = self.allowed + _UNCOUNTED_BYTES
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit if is_all else hard))

    def require(self, figures: Figures) -> None:
        """Refuse a file before its matrices are read, where disk or memory do not suffice; see `FreeSpace`."""
        if self._free is not None:
            self._free.require(figures)

    def claim(self, n_bytes: int, freed: int = 0) -> None:
        """Count bytes that are about to be written.

        Parameters
        ----------
        freed
            Bytes written earlier that are given back meanwhile.

        Raises
        ------
        WorkerError
            ``EXPERIMENT_UNREADABLE`` when that is more than the file may ask for, ``DISK_FULL`` when it is more than
            the disk has free.
        """
        self._claimed += n_bytes
        if self._claimed > self.allowed:
            raise WorkerError(
                ErrorCode.EXPERIMENT_UNREADABLE,
                f"Reading the file would write {in_words(self._claimed)} or more to the disk, where a file of "
                f"{in_words(self._source_bytes)} may write {in_words(self.allowed)}: it is damaged or hostile. "
                "If it is sound, raise LOAD_MAX_RATIO or LOAD_MAX_GB.",
            )
        if self._free is not None:
            self._free.require_disk(n_bytes - freed, f"{in_words(self._claimed)} in all so far")


def size_of(source: Path) -> int:
    """Return the size of a file, or of all files in a folder."""
    status = source.stat()
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size
    return sum(found.st_size for _, found in files_below(source))
