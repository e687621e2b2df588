"""Checks that there is enough disk and memory to open a file, before the work begins."""

import math
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.store.spent_pages import can_give_back

__all__ = ["Figures", "FreeSpace", "free_disk", "free_memory", "in_words"]

_BASE_BYTES: Final = 140_000_000
"""Fixed private memory of a reading process: the interpreter, the libraries, a block of each array."""
_PER_CELL_BYTES: Final = 500
"""Private memory for a cell's name and its row bounds in each matrix, as read and as written; of AnnData less."""
_PER_GENE_BYTES: Final = 2_000
_CGROUP: Final = Path("/sys/fs/cgroup")
_MEMINFO: Final = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True)
class Figures:
    """Sizes of a file that are known before its matrices are read.

    Attributes
    ----------
    cells, genes
        Of the experiment.
    data, counts
        Stored values of the matrix that log-normalised values come from, and of the counts beside it; 0 where there
        are none.
    mapped
        Number of these values that are used where they lie in the file.
    numbers
        Other numbers for each cell: dimensions of reductions, columns of metadata.
    """

    cells: int
    genes: int
    data: int
    counts: int = 0
    mapped: int = 0
    numbers: int = 0

    @property
    def store_bytes(self) -> int:
        """What the store takes at least: float32 values gene after gene, counts of one byte that tell them by cell."""
        by_cell = (self._gene_bytes + 1) * self.counts if self.counts else (self._gene_bytes + 4) * self.data
        return 8 * self.data + by_cell + 8 * self.cells * self.numbers

    @property
    def _gene_bytes(self) -> int:
        return 2 if self.genes <= 1 << 16 else 4

    @property
    def temporary_bytes(self) -> int:
        """Bytes of temporary files: index arrays and values that are copied."""
        return 8 * self.data + 4 * (self.counts - self.mapped)

    @property
    def memory_bytes(self) -> int:
        """Private memory that grows with the experiment."""
        return self.cells * (_PER_CELL_BYTES + 16 * self.numbers) + self.genes * _PER_GENE_BYTES

    def __str__(self) -> str:
        return f"{max(self.data, self.counts):,} values of {self.cells:,} cells and {self.genes:,} genes"


def free_disk(folder: Path) -> int:
    """Return the bytes that may still be written to a folder, quotas of its file system included."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def free_memory() -> float:
    """Return the bytes of memory that this process and all others may still take; infinity where unknown.

    On Linux: what the machine has available (``/proc/meminfo``), and what is left of the container's limit (control
    groups, version 2), where the pages of files count as free.
    """
    left = [math.inf]
    with suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        left.append(1024.0 * int(lines.get("MemAvailable", "").split()[0]))
    with suppress(OSError, ValueError):
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        parts = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        left.append(float(limit - used + int(parts.get("inactive_file", 0)) + int(parts.get("active_file", 0))))
    return max(0.0, min(left))


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """The disk and the memory that reading one file may take.

    Attributes
    ----------
    folder
        Where stores and temporary files lie.
    memory_bytes
        The limit of the process that reads (LOAD_MEMORY_GB).
    buffer_bytes
        Memory of its buffers (LOAD_BUFFER_MB).
    disk, memory
        Return what is free.
    """

    folder: Path
    memory_bytes: float = math.inf
    buffer_bytes: int = 0
    disk: Callable[[Path], int] = free_disk
    memory: Callable[[], float] = free_memory

    def require(self, figures: Figures) -> None:
        """Refuse a file whose opening needs more than there is.

        Raises
        ------
        WorkerError
            ``DISK_FULL`` or ``OUT_OF_MEMORY``, with what is needed and what is there.
        """
        store, beside = figures.store_bytes, figures.temporary_bytes
        needed = max(store, beside) if can_give_back(self.folder) else store + beside
        self.require_disk(needed, f"for {figures}")
        self.require_memory(figures)

    def require_disk(self, n_bytes: int, what: str) -> None:
        """Refuse a need that exceeds the free disk.

        Raises
        ------
        WorkerError
            ``DISK_FULL``.
        """
        free = self.disk(self.folder)
        if n_bytes > free:
            raise WorkerError(
                ErrorCode.DISK_FULL,
                f"Opening the file takes at least {in_words(n_bytes)} more of the disk ({what}), and "
                f"{in_words(free)} are free where stores lie: free some space, or choose another disk with STORE_DIR.",
            )

    def require_memory(self, figures: Figures) -> None:
        """Refuse a need that exceeds the memory.

        Raises
        ------
        WorkerError
            ``OUT_OF_MEMORY``.
        """
        needed = _BASE_BYTES + self.buffer_bytes + figures.memory_bytes
        about = f"Opening the file takes about {in_words(needed)} of memory (for {figures})"
        if needed > self.memory_bytes:
            raise WorkerError(
                ErrorCode.OUT_OF_MEMORY,
                f"{about}, and the process that reads it may use {in_words(self.memory_bytes)}: raise LOAD_MEMORY_GB.",
            )
        free = self.memory()
        if needed > free:
            raise WorkerError(
                ErrorCode.OUT_OF_MEMORY,
                f"{about}, and {in_words(free)} are free: end other programs, raise the container's limit, or use a "
                "machine with more memory.",
            )


def in_words(n_bytes: float) -> str:
    """Return a number of bytes with a unit, with three digits."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:,.3g} {unit}"
    return f"{n_bytes:.0f} bytes"
