"""Space for arrays made while reading: in memory when small, mapped from a spool file when not."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.write_limit import WriteLimit

__all__ = ["Scratch"]

_IN_MEMORY = 32 << 20


class Scratch:
    """Hands out arrays; large ones are in `folder` (whose owner removes it), so that memory stays bounded.

    `limit` counts what goes there.
    """

    def __init__(self, folder: Path | None = None, limit: WriteLimit | None = None) -> None:
        self.folder = folder
        self._limit = limit

    def claim(self, n_bytes: int) -> None:
        """Count bytes that are about to be written to the folder.

        Raises
        ------
        WorkerError
            ``EXPERIMENT_UNREADABLE`` when the file may not ask for that many.
        """
        if self._limit is not None:
            self._limit.claim(n_bytes)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an uninitialised (in a spool file: zero) array."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if self.folder is None or size <= _IN_MEMORY:
            return np.empty(shape, dtype)
        self.claim(size)
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix="scratch-", delete=False) as file:
            try:
                _reserve(file.fileno(), size)
            except OSError as error:
                message = (
                    f"there is no room for {size / 1e6:,.0f} MB beside the store: free some space, or set STORE_DIR"
                )
                raise WorkerError(ErrorCode.DISK_FULL, message) from error
            return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def _reserve(descriptor: int, size: int) -> None:
    # A map of a file with holes would end the process when the disk is full; reserved space cannot run out.
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)
