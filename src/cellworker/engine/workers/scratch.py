"""Temporary files of the engine in one private folder. The engine removes it; the next engine does so after a kill."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from cellworker.errors import ErrorCode, WorkerError
from cellworker.identifiers import FileName, ResultPath

__all__ = ["ScratchFolder"]

_PREFIX = ResultPath.FOLDER
_LOCK = "lock"


class ScratchFolder:
    """A folder under the system's temporary folder (``TMPDIR``).

    A lock on a file inside tells other engines that the folder is in use; the system drops the lock however a process
    ends.

    Raises
    ------
    WorkerError
        ``DISK_FULL`` where no such folder can be made.
    """

    def __init__(self) -> None:
        try:
            _sweep(Path(tempfile.gettempdir()))
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            self._lock = (self.path / _LOCK).open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.results = self.path / "results"
            self.results.mkdir()
        except OSError as error:
            message = "The worker cannot write temporary files: let TMPDIR name a folder that can be written."
            raise WorkerError(ErrorCode.DISK_FULL, message) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def folder_of(self, number: int) -> Path:
        """Return where the request of a number has its own files; the folder is not made."""
        return self.path / FileName(f"request-{number}")

    def keep(self, folder: Path, file: Path) -> Path:
        """Move a file result out of its request's folder, and remove that; return where the file is.

        Raises
        ------
        RuntimeError
            When the file is elsewhere.
        """
        if not file.is_relative_to(folder):
            message = f"a task returned a file outside its scratch folder: {file}"
            raise RuntimeError(message)
        kept = self.results / FileName(f"{folder.name}-{file.name}")
        file.replace(kept)
        shutil.rmtree(folder, ignore_errors=True)
        return kept

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _sweep(parent: Path) -> None:
    """Remove folders of engines that were killed before they could."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            # In use, or just being made or removed by somebody else.
            continue
