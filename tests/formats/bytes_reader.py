"""Reads bytes as a file of R, as the tests of both serialisations do."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cellworker.formats.r.rds.limits import Limits

T = TypeVar("T")
DEFAULT = Limits()


def reader_of(read: Callable[..., T], path: Path) -> Callable[..., T]:
    """Return what reads bytes as the file `path`; long vectors go to the folder ``spool`` beside it."""

    def read_bytes(content: bytes, limits: Limits = DEFAULT, on_bytes: Callable[[int, int], None] | None = None) -> T:
        path.write_bytes(content)
        spool = path.parent / "spool"
        spool.mkdir(exist_ok=True)
        return read(path, spool, limits, on_bytes)

    return read_bytes
