"""An array of unknown length that grows in memory, and in a spool file once it is long."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.scratch import Scratch, spooled

__all__ = ["Growing"]

_IN_MEMORY = 8 << 20


class Growing:
    """Collects pieces; a large array goes to a file in the scratch folder, whose owner removes it."""

    def __init__(self, dtype: DTypeLike, scratch: Scratch) -> None:
        self._dtype = np.dtype(dtype)
        self._scratch = scratch
        self._folder = scratch.folder
        self._pieces: list[NDArray[Any]] = []
        self._length = 0
        self._held = 0
        self._file: Path | None = None

    def append(self, piece: NDArray[Any]) -> None:
        """Append a piece.

        Raises
        ------
        WorkerError
            ``DISK_FULL``.
        """
        piece = np.ascontiguousarray(piece, self._dtype)
        self._pieces.append(piece)
        self._length += len(piece)
        self._held += piece.nbytes
        if self._folder is not None and self._held > _IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        self._scratch.claim(self._held)
        if self._file is None:
            descriptor, name = tempfile.mkstemp(dir=self._folder, prefix="growing-")
            os.close(descriptor)
            self._file = Path(name)
        try:
            # Opened again for each spill, so that a refusal halfway leaves no open file.
            with self._file.open("ab") as file:
                for piece in self._pieces:
                    file.write(piece.data)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            message = "there is no room to unpack the experiment beside the store: free some space, or set STORE_DIR"
            raise WorkerError(ErrorCode.DISK_FULL, message) from error
        self._pieces, self._held = [], 0

    def finish(self) -> NDArray[Any]:
        """Return the whole array."""
        if self._file is None:
            return np.concatenate([np.zeros(0, self._dtype), *self._pieces])
        self._spill()
        made = np.memmap(self._file, self._dtype, "r+", shape=(self._length,))
        self._file.unlink()  # as in Scratch
        return spooled(made)
