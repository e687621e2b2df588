"""Files that an experiment's file needs beside it, and signatures that show whether they have changed."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["ARCHIVE", "Companion", "companions_of"]

ARCHIVE: Final = "matrix_dir.tar.zst"
"""The archive in which the platform stores a matrix of BPCells beside the object (contract 6.3)."""


@dataclass(frozen=True, slots=True)
class Companion:
    """A file's signature; all zero where there is none."""

    size: int = 0
    mtime_ns: int = 0
    inode: int = 0

    @classmethod
    def from_status(cls, status: os.stat_result) -> "Companion":
        """Take it from what the system said."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)

    @classmethod
    def of(cls, path: Path) -> "Companion":
        """Look at a file."""
        try:
            return cls.from_status(path.stat())
        except OSError:
            return cls()

    def to_json(self) -> list[int]:
        """Return it as three numbers."""
        return [self.size, self.mtime_ns, self.inode]


def companions_of(folder: Path, names: Any) -> dict[str, list[int]]:  # noqa: ANN401 - JSON of an index file
    """Look at files by their names relative to a folder; what is no list of names gives nothing."""
    if not isinstance(names, (list, dict)):
        return {}
    return {name: Companion.of(folder / name).to_json() for name in names if isinstance(name, str)}
