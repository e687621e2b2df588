"""An array of unknown length on its way into memory, or into a spool file once it is long."""

import errno
import tempfile
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.scratch import Scratch

__all__ = ["Growing"]

_IN_MEMORY = 32 << 20


class Growing:
    """Takes pieces one after another; large ones go to a file in the scratch folder, whose owner removes it."""

    def __init__(self, dtype: DTypeLike, scratch: Scratch) -> None:
        self._dtype = np.dtype(dtype)
        self._folder = scratch.folder
        self._pieces: list[NDArray[Any]] = []
        self._length = 0
        self._held = 0
        self._file: IO[bytes] | None = None

    def append(self, piece: NDArray[Any]) -> None:
        """Add a piece behind the others.

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
        if self._file is None:
            self._file = tempfile.NamedTemporaryFile(dir=self._folder, prefix="growing-", delete=False)  # noqa: SIM115
        try:
            for piece in self._pieces:
                self._file.write(piece.data)
            self._file.flush()
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            message = "there is no room to unpack the experiment beside the store: free some space, or set STORE_DIR"
            raise WorkerError(ErrorCode.DISK_FULL, message) from error
        self._pieces, self._held = [], 0

    def finish(self) -> NDArray[Any]:
        """Return the whole."""
        if self._file is None:
            return np.concatenate([np.zeros(0, self._dtype), *self._pieces])
        self._spill()
        with self._file:
            return np.memmap(self._file, self._dtype, "r", shape=(self._length,))
